"""A table of people, and a model of it that is trained in a second: who is a member of a club."""

from functools import cache
from pathlib import Path

import numpy as np
import torch
from pydantic import SecretStr

from app.cli.publish import publish
from app.home import Home
from app.settings import Settings
from models import checkpoint
from models.card import Card, DatasetFacts, Metrics
from models.table_networks import TableNetwork
from models.tables import Column, TableInput
from tests.conftest import ADMIN_KEY, SAMPLE
from tests.table_samples import write_table

SPEC = TableInput(
    target="club",
    columns=(
        Column(name="age", role="numeric", minimum=18, maximum=90, example=39),
        Column(name="weight, kg", role="numeric", decimal=",", minimum=45, maximum=120, example="72,5"),
        Column(name="work", role="categorical", categories=("private", "state", "none"), example="state"),
        Column(name="smokes", role="boolean", categories=("no", "yes"), example=False),
        Column(
            name="since", role="date", date_format="%d.%m.%Y", minimum=0, maximum=18_000, example="31.12.1999"
        ),
    ),
    left_out=("id",),
)
ROW = {"age": 39, "weight, kg": "72,5", "work": "state", "smokes": False, "since": "31.12.1999"}
CLASSES = ("chess", "rowing", "=none")  # the last is what a spreadsheet would take for a formula
WIDE = TableInput(
    target="target",
    columns=tuple(
        Column(name=f"feat_{i}", role="numeric", minimum=0, maximum=50, example=1) for i in range(1, 94)
    ),
    left_out=("id",),
)


@cache
def rows(count: int = 600) -> tuple[torch.Tensor, torch.Tensor]:
    """float32 [N, 9], and classes: the old play chess, of the young those row who do not smoke."""
    random = np.random.default_rng(0)
    age, weight = random.uniform(18, 90, count), random.uniform(45, 120, count)
    work, smokes = random.integers(0, 3, count), random.integers(0, 2, count)
    days = random.integers(0, 18_000, count)
    dates = days.astype("datetime64[D]").tolist()
    parts = [
        [day.year, day.month, day.day, day.weekday(), float(since)]
        for day, since in zip(dates, days, strict=True)
    ]
    values = np.column_stack([age, weight, work, smokes, np.array(parts)]).astype(np.float32)
    values[random.random(values.shape) < 0.03] = np.nan
    labels = np.where(age > 55, 0, np.where(smokes == 0, 1, 2))
    return torch.from_numpy(values), torch.from_numpy(labels)


@cache
def trained() -> tuple[TableNetwork, Card]:
    """The model, in evaluation mode, and its card."""
    torch.manual_seed(0)
    values, labels = rows()
    arguments = {
        "classes": 3,
        "numeric": [0, 1, 4, 5, 6, 7, 8],
        "categorical": [2, 3],
        "sizes": [3, 2],
        "groups": 2,
        "parts": [{"members": 2, "width": 32, "embedding": 4}, {"linear": 1}],
    }
    model = TableNetwork(**arguments)  # type: ignore[arg-type]
    model.columns.fit(values)
    for step in range(60):  # by hand: importing torch's optimizers takes longer than this
        loss = torch.nn.functional.cross_entropy(model(values), labels)
        gradients = torch.autograd.grad(loss, list(model.parameters()))
        with torch.no_grad():
            for parameter, gradient in zip(model.parameters(), gradients, strict=True):
                parameter.sub_(gradient.sign(), alpha=0.03 * (1 - step / 60))
    model.eval().requires_grad_(False)
    right = (model(values).argmax(1) == labels).double().mean().item()
    test = Metrics(images=len(labels), loss=0.1, accuracy=right, per_class={})
    card = Card(
        name="people",
        architecture="table",
        arguments=arguments,
        input=SPEC,
        classes=CLASSES,
        dataset=DatasetFacts(name="people@1", digest="0"),
        metrics={"test": test},
    )
    return model, card


def of_otto_s_shape() -> tuple[TableNetwork, Card]:
    """93 counts, 9 classes, of the size that training makes; not trained."""
    torch.manual_seed(0)
    arguments = {
        "classes": 9,
        "numeric": list(range(93)),
        "categorical": [],
        "sizes": [],
        "bins": 16,
        "parts": [{"members": 8, "width": 192, "embedding": 3}],
    }
    model = TableNetwork(**arguments)  # type: ignore[arg-type]
    model.columns.fit(torch.from_numpy(counts(1000)).float())
    card = trained()[1].model_copy(update={"name": "wide", "arguments": arguments, "input": WIDE})
    return model.eval(), card.model_copy(update={"classes": tuple(f"Class_{i}" for i in range(1, 10))})


def counts(number: int) -> np.ndarray:
    """Rows of many zeros, int [N, 93]."""
    return np.random.default_rng(0).poisson(0.6, (number, 93))


IMPORTED = SPEC.model_copy(
    update={
        "columns": tuple(
            column.model_copy(update={"categories": ("retired", *column.categories[::-1])})
            if column.role == "categorical"
            else column
            for column in SPEC.columns
        )
    }
)  # as the import wrote them: categories in another order, and one that training has not seen


def _imported() -> tuple[np.ndarray, np.ndarray]:
    """The same rows as the import encoded them, the work of the first unknown to the model."""
    found = rows()[0].numpy().copy()
    found[:, 2] = 3 - found[:, 2]
    found[0, 2] = 0
    return found, wrong_labels().numpy()


def wrong_labels() -> torch.Tensor:
    """Of the imported rows: some are wrong, so that there are mistakes to see."""
    labels = rows()[1].clone()
    labels[::50] = (labels[::50] + 1) % 3
    return labels


def serve_tables(home: Path, **changes: object) -> Settings:
    """A home in which both are published, and its settings."""
    fields = {"home": home, "data_dir": SAMPLE, "device": "cpu", "api_key": SecretStr(ADMIN_KEY), **changes}
    settings = Settings.model_validate(fields)
    opened = Home.open(settings)
    for model, card in (trained(), of_otto_s_shape()):
        run = home / "made" / card.name
        run.mkdir(parents=True)
        publish(opened, run, checkpoint.save(model, card, run), "always")
    opened.database.close()
    write_table(home / "datasets" / "people" / "1", IMPORTED, *_imported(), CLASSES)
    return settings
