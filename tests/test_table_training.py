"""Training on tables: what is fitted on which rows, what comes out, and what the card says of it."""

import base64
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from app import cli
from models import checkpoint
from models.architectures import build
from models.card import Card
from models.classifier import Classifier
from models.errors import CheckpointError, UnknownArchitecture
from models.export import check, to_onnx
from models.table_columns import Columns
from models.table_networks import TableNetwork
from models.table_parts import GaussianPart
from models.tables import Column, TableInput, encode_row
from models.verification import load_verified
from tests.table_samples import CLASSES, COLOURS, mixed, otto_like, spec_of_mixed, spec_of_otto, write_table
from training.errors import DatasetError
from training.events import Epoch, Event
from training.recipes import RECIPES
from training.run import Run, train
from training.tables.columns import fit_columns, folds, recode
from training.tables.corrections import CorrectedRows
from training.tables.dataset import TableDataset, load_table
from training.tables.ending import temperature_of
from training.tables.gaussian import fit_gaussian
from training.tables.network import TableTrainer, mixture
from training.tables.plan import CHEAPEST, flops, plan_for
from training.tables.run import held_out, planned, trainer_of

CPU = torch.device("cpu")


def sets(tmp_path: Path, count: int = 400) -> Path:
    rows, labels = mixed(count)
    write_table(tmp_path / "mine" / "1", spec_of_mixed(), rows, labels, CLASSES)
    return tmp_path


def finished(directory: Path, datasets: Path, recipe: str = "auto", **changes: object) -> tuple[Run, Card]:
    config = RECIPES[recipe].config(dataset="mine@1", name="mine", **changes)
    run = Run.create(directory, config)
    return run, train(run, datasets, CPU, lambda event: None, datasets_dir=datasets)


@pytest.fixture(scope="module")
def datasets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sets(tmp_path_factory.mktemp("sets"))


@pytest.fixture(scope="module")
def table(datasets: Path) -> TableDataset:
    return load_table(datasets / "mine" / "1", "mine@1")


@pytest.fixture(scope="module")
def run(datasets: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return finished(tmp_path_factory.mktemp("runs") / "auto", datasets, epochs=12)[0]


@pytest.fixture
def no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its plots take longer than these networks."""
    monkeypatch.setattr("training.report.write", lambda *facts: None)


def trainer(table: TableDataset, **changes: object) -> TableTrainer:
    config = RECIPES["table"].config(dataset="mine@1", **changes)
    spec = fit_columns(table.input, table.learned.images)
    plan = planned(config, spec, len(table.learned), len(table.classes))
    plan = replace(plan, groups=2, held=0.5)
    return trainer_of(config, plan, table, spec)


def test_auto_takes_the_table_recipe_and_is_better_than_boosting_and_regression(run: Run) -> None:
    card = checkpoint.load(run.weights_path, CPU)[1]
    assert card.architecture == "table"
    test = card.metrics["test"]
    assert test.calibrated is not None
    assert test.accuracy > 0.8
    assert test.calibrated.nll < min(row.nll for row in card.baselines.values())
    assert card.notes[0].startswith("this network is better than gradient boosting")
    assert card.metrics["validation"].images == 320  # each held out by one of the networks


def test_baselines_are_on_the_card_with_their_time(run: Run) -> None:
    rows = checkpoint.load(run.weights_path, CPU)[1].baselines
    assert list(rows) == ["majority", "logistic-regression", "gradient-boosting"]
    for row in rows.values():
        assert row.seconds is not None
        assert row.validation_nll is not None
        assert 0 < row.nll < 1.3
    assert rows["gradient-boosting"].accuracy > rows["majority"].accuracy + 0.2


def test_the_report_is_of_rows_and_says_first_what_is_better(run: Run) -> None:
    page = run.files.report.read_text()
    first = page.index("This network is better than gradient boosting: log loss on validation rows")
    assert first < page.index("test rows right")
    assert "colour" in page  # cells of a row that was taken for another class


def test_a_report_says_first_where_boosting_is_better(tmp_path: Path, datasets: Path) -> None:
    run, card = finished(tmp_path / "run", datasets, "softmax")
    assert card.notes[0].startswith("gradient boosting is better than this network")
    assert "Gradient boosting is better than this network" in run.files.report.read_text()
    assert list(card.arguments["parts"]) == [{"linear": 2}]


def test_the_module_alone_gives_the_card_s_probabilities(run: Run) -> None:
    """Raw cells in, probabilities out: with the state_dict, nothing else is needed."""
    card = Card.model_validate_json(run.card_path.read_bytes())
    module = TableNetwork(**card.arguments)
    module.load_state_dict(torch.load(run.weights_path, weights_only=True))
    row = encode_row(
        card.table, {"size": "0,5".replace(",", "."), "colour": "green", "new": True, "amount": None}
    )
    with torch.inference_mode():
        found = (module.eval()(torch.from_numpy(row)[None]).double() / card.temperature).softmax(1)
    expected = Classifier.load(run.weights_path, CPU).probabilities(torch.from_numpy(row)[None])
    torch.testing.assert_close(found, expected)
    assert float(found.sum()) == pytest.approx(1)


def test_logits_are_the_logarithm_of_the_members_mean(run: Run) -> None:
    classifier, form = load_verified(run.weights_path, CPU)
    model, rows = classifier.model, torch.from_numpy(mixed(50, seed=1)[0])
    assert isinstance(model, TableNetwork)
    with torch.inference_mode():
        encoded = model.columns(rows)
        mean = sum(
            weight * part(encoded).double().softmax(3).mean((0, 1))
            for weight, part in zip(model.weights.double(), model.parts, strict=True)
        )
    torch.testing.assert_close(classifier.logits(rows).double().softmax(1), mean, rtol=0, atol=1e-5)
    torch.testing.assert_close(form(rows), classifier.probabilities(rows))


def test_onnx_equals_torch(run: Run) -> None:
    classifier = Classifier.load(run.weights_path, CPU)
    check(to_onnx(classifier), classifier)  # raises where a probability differs by 1e-4


def test_a_run_repeats_and_a_killed_one_ends_with_the_same_weights(
    tmp_path: Path, datasets: Path, monkeypatch: pytest.MonkeyPatch, no_report: None
) -> None:
    monkeypatch.setattr("training.tables.run.SAVE_EVERY", 0)
    run, whole = finished(tmp_path / "whole", datasets, epochs=4)
    config = run.config.model_copy(update={"name": "mine"})
    broken = Run.create(tmp_path / "broken", config)

    def end(event: Event) -> None:
        if isinstance(event, Epoch) and event.epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(broken, datasets, CPU, end, datasets_dir=datasets)
    again = train(Run.open(tmp_path / "broken"), datasets, CPU, lambda event: None, datasets_dir=datasets)
    assert again.sha256 == whole.sha256
    assert [epoch.loss for epoch in broken.history()] == [epoch.loss for epoch in run.history()]


def test_nothing_is_learned_from_test_rows(tmp_path: Path, run: Run, datasets: Path, no_report: None) -> None:
    """Other test rows, with a category and sizes of their own: the same weights, the same columns."""
    rows, labels = mixed(400)
    rows[::5] = [1e6, 2, np.nan, -1e6]
    spec = spec_of_mixed()
    more = spec.columns[1].model_copy(update={"categories": (*spec.columns[1].categories, "violet")})
    rows[::5, 1] = 3
    spec = spec.model_copy(update={"columns": (spec.columns[0], more, *spec.columns[2:])})
    write_table(tmp_path / "mine" / "1", spec, rows, labels, CLASSES)
    changed = finished(tmp_path / "run", tmp_path, epochs=12)[1]
    before = Card.model_validate_json(run.card_path.read_bytes())
    assert changed.input == before.input
    assert changed.sha256 == before.sha256
    assert changed.temperature == before.temperature


def test_columns_are_fitted_on_the_rows_given_alone() -> None:
    rows = torch.from_numpy(mixed(300)[0])
    one, other = Columns([0, 3], [1, 2], [3, 2], 8), Columns([0, 3], [1, 2], [3, 2], 8)
    one.fit(rows)
    other.fit(rows.clone())
    for key, value in one.state_dict().items():
        torch.testing.assert_close(value, other.state_dict()[key])
    assert one.skewed.tolist() == [0, 1]


def test_categories_not_seen_in_training_are_other_and_missing_is_known() -> None:
    columns = Columns([0], [1], [3], 4)
    columns.fit(torch.tensor([[0.0, 0], [1, 1], [2, 2]]))
    found = columns(torch.tensor([[math.nan, 3.0], [1.0, math.nan], [1.0, 99.0], [3e38, -5.0]]))
    assert found.codes.flatten().tolist() == [3, 4, 3, 0]
    assert found.numbers[:, 0, 1].tolist() == [1, 0, 0, 0]
    assert found.numbers[0, 0, 0] == found.numbers[1, 0, 0]
    assert found.pieces[0].equal(found.pieces[1])
    assert found.numbers.isfinite().all()


def test_codes_are_those_of_the_rows_trained_on() -> None:
    spec = TableInput(
        target="y", columns=(Column(name="c", role="categorical", categories=("a", "b", "never", "d")),)
    )
    rows = torch.tensor([[3.0], [3.0], [1.0], [0.0], [0.0], [0.0], [math.nan]])
    fitted = fit_columns(spec, rows)
    assert fitted.columns[0].categories == ("a", "d", "b")
    found = recode(spec, fitted, torch.tensor([[0.0], [1.0], [2.0], [3.0], [4.0], [math.nan]]))
    assert found.nan_to_num(-1).flatten().tolist() == [0, 2, 3, 1, 3, -1]


def test_most_amounts_are_nought_and_the_others_are_told_apart() -> None:
    amounts = torch.cat([torch.zeros(900), torch.arange(1, 101)])[:, None].float()
    columns = Columns([0], [], [], 16)
    columns.fit(amounts)
    pieces = columns(torch.tensor([[0.0], [10.0], [50.0], [90.0]])).pieces[:, 0].sum(1)
    assert (pieces.diff() > 2).all()


def test_groups_stay_together_and_folds_have_all_classes() -> None:
    labels = np.arange(100) % 4
    groups = np.arange(100) // 2
    found = folds(labels, groups, 5, seed=0)
    assert (found[::2] == found[1::2]).all()
    assert all(set(labels[found == fold]) == {0, 1, 2, 3} for fold in range(5))


def test_a_network_learns_nothing_of_the_rows_that_it_holds_out(table: TableDataset) -> None:
    """Other labels in a fold change what the network of the other fold learns, and not its own."""
    one = trainer(table)
    one.run_epoch(lambda step, loss, accuracy: None)
    other = trainer(table)
    other.labels = torch.where(one.held == 0, (one.labels + 1) % 3, one.labels)
    other.run_epoch(lambda step, loss, accuracy: None)
    for left, right in zip(one.model.parts, other.model.parts, strict=True):
        if isinstance(left, GaussianPart):  # was fitted at the start
            continue
        rows = one.model.columns(one.rows[:20])
        before, after = left.eval()(rows), right.eval()(rows)
        torch.testing.assert_close(before[0], after[0])
        assert not torch.allclose(before[1], after[1])


def test_training_ends_early_and_keeps_the_best_epoch(table: TableDataset) -> None:
    training = trainer(table, lr=0.02)
    while not training.over:
        training.run_epoch(lambda step, loss, accuracy: None)
        training.judge()
    assert training.epoch < training.plan.epochs
    best = [part.best for part in training.progress]
    assert training.epoch <= min(training.progress, key=lambda part: part.best).at + 2 * training.plan.patience
    _, probabilities = training.finish()
    _, labels = training.judged
    mixed_loss = -probabilities.gather(1, labels[:, None]).log().mean()
    assert float(mixed_loss) <= min(best) + 1e-6


def test_the_mixture_is_the_likeliest() -> None:
    labels = torch.tensor([0, 1, 0, 1])
    good = torch.tensor([[0.9, 0.1], [0.1, 0.9], [0.9, 0.1], [0.1, 0.9]]).double()
    bad = torch.full((4, 2), 0.5).double()
    assert mixture(torch.stack([good, bad]), labels)[0] > 0.99
    assert mixture(torch.stack([bad, bad]), labels).tolist() == [0.5, 0.5]


@pytest.mark.parametrize("given", [False, True])
def test_given_validation_rows_stay_held_out(tmp_path: Path, given: bool, no_report: None) -> None:
    rows, labels = mixed(300)
    splits = ["validation"] if given else []
    write_table(tmp_path / "mine" / "1", spec_of_mixed(), rows, labels, CLASSES, given_splits=splits)
    loaded = load_table(tmp_path / "mine" / "1", "mine@1")
    assert loaded.validation is not None
    card = finished(tmp_path / "run", tmp_path, epochs=1)[1]
    expected = len(loaded.validation if given else loaded.learned)
    assert card.metrics["validation"].images == expected


def test_a_run_becomes_a_version_that_can_be_loaded(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MINIST_HOME", str(tmp_path))
    assert cli.main(["publish", str(run.directory)]) == 0
    assert "published mine@1; production points at it" in capsys.readouterr().out
    model, card = checkpoint.load(tmp_path / "models" / "mine" / "1" / "mine.pth", CPU)
    assert card.table.target == "kind"
    assert torch.isfinite(model(torch.full((1, card.table.width), math.nan))).all()


def test_corrected_rows_join_training_alone(tmp_path: Path, run: Run, datasets: Path, no_report: None) -> None:
    """Their categories are those of the version that has served; none of them is held out."""
    before = Card.model_validate_json(run.card_path.read_bytes())
    rows = torch.stack(
        [
            torch.from_numpy(encode_row(before.table, {"size": 9, "colour": c, "new": True, "amount": 0}))
            for c in COLOURS
        ]
    )
    pixels = base64.b64encode(rows.numpy().tobytes()).decode()
    facts = {
        "labels": ["a", "a", "unknown"],
        "sizes": [16] * 3,
        "pixels": pixels,
        "versions": [1] * 3,
        "weights": {"1": str(run.weights_path)},
        "before": str(run.weights_path),
    }
    again = Run.create(tmp_path / "again", RECIPES["auto"].config(dataset="mine@1", name="mine", epochs=2))
    again.files.corrections.write_text(json.dumps(facts))
    found = CorrectedRows.read(again.files.corrections, load_table(datasets / "mine" / "1", "mine@1"))
    assert found is not None
    assert found.split.images[:, 1].tolist() == [0, 1]
    card = train(again, datasets, CPU, lambda event: None, datasets_dir=datasets)
    assert card.corrections is not None
    assert (card.corrections.used, card.corrections.right_before) == (2, 0)
    assert card.metrics["validation"].images == before.metrics["validation"].images


def test_few_rows_hardly_tell_a_temperature() -> None:
    sure = torch.tensor([[0.999, 0.001]]).double().expand(40, 2)
    labels = (torch.arange(40) % 4 == 0).long()  # right three times of four
    few, many = (temperature_of(sure.repeat(n, 1), labels.repeat(n), 1) for n in (1, 100))
    assert 1 < few < many
    assert 1 < temperature_of(sure, labels, 8) < few


def test_a_recipe_of_pictures_says_what_to_choose(tmp_path: Path, datasets: Path) -> None:
    with pytest.raises(DatasetError, match="choose the recipe table, or auto"):
        finished(tmp_path / "run", datasets, "cnn")


def test_the_table_recipe_says_that_it_needs_a_table(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", RECIPES["table"].config())
    with pytest.raises(DatasetError, match="mnist is none: import a CSV file"):
        train(run, tmp_path, CPU, lambda event: None)


def test_a_damaged_table_says_so(tmp_path: Path) -> None:
    folder = sets(tmp_path, 60) / "mine" / "1"
    (folder / "rows.npz").write_bytes(b"PK")
    with pytest.raises(DatasetError, match="is damaged"):
        load_table(folder, "mine@1")


@pytest.mark.parametrize(
    "change",
    [
        {"classes": 10**9},
        {"numeric": [0, 7]},
        {"numeric": [-1]},
        {"sizes": [10**12]},
        {"bins": 10**6},
        {"groups": 0},
        {"parts": []},
        {"parts": [{"width": 10**8}]},
        {"parts": [{"dropout": 1.5}]},
        {"parts": [{"members": "many"}]},
        {"parts": 3},
        {"unknown": 1},
    ],
)
def test_a_hostile_card_is_refused_before_anything_is_built(run: Run, change: dict[str, object]) -> None:
    arguments = Card.model_validate_json(run.card_path.read_bytes()).arguments
    with pytest.raises(UnknownArchitecture, match="does not take these arguments"):
        build("table", **{**arguments, **change})


def changed_card(run: Run, folder: Path, change: Callable[[dict[str, object]], object]) -> Path:
    weights = folder / run.weights_path.name
    weights.write_bytes(run.weights_path.read_bytes())
    card = json.loads(run.card_path.read_bytes())
    change(card)
    weights.with_suffix(".json").write_text(json.dumps(card))
    return weights


@pytest.mark.parametrize(
    "change",
    [
        lambda card: card["arguments"].update(classes=4),
        lambda card: card["arguments"].update(bins=5),
        lambda card: card["arguments"]["parts"].pop(),
        lambda card: card["input"]["columns"].pop(),
        lambda card: card["input"]["columns"].append({"name": "more", "role": "numeric"}),
        lambda card: card["input"]["columns"][1].update(categories=["red", "green"]),
        lambda card: card["arguments"].update(sizes=3),
        lambda card: card.update(architecture="cnn", arguments={}),
        lambda card: card.update(classes=["a", "b"]),
    ],
)
def test_a_card_of_other_weights_is_refused(
    run: Run, tmp_path: Path, change: Callable[[dict[str, object]], object]
) -> None:
    with pytest.raises(CheckpointError):
        load_verified(changed_card(run, tmp_path, change), CPU)


def test_plans_fit_into_minutes_whatever_the_table() -> None:
    for rows in (30, 700, 5_000, 32_000, 60_000):
        for columns in (1, 20, 93, 2_000):
            plan = plan_for(rows, columns, 26)
            assert plan.epochs >= 2
            assert plan.epochs >= CHEAPEST or columns == 2_000
            assert flops(plan, rows, columns, 26) * plan.epochs < 60e12


def test_a_table_like_otto_s_is_learned() -> None:
    rows, labels = otto_like(1_200)
    assert (rows == 0).mean() > 0.5
    spec = fit_columns(spec_of_otto(), torch.from_numpy(rows))
    config = RECIPES["otto"].config(epochs=6)
    plan = replace(planned(config, spec, 50_000, 9), batch=64)
    arguments = {"classes": 9, "numeric": range(93), "bins": plan.bins, "parts": [{"width": 32, "members": 2}]}
    held = torch.from_numpy(np.where(np.arange(1_200) % 6 == 0, 0, -1))
    training = TableTrainer(
        replace(plan, parts=plan.parts[:1]),
        arguments,
        torch.from_numpy(rows),
        torch.from_numpy(labels),
        held,
        0,
        1,
    )
    losses = []
    for _ in range(6):
        training.run_epoch(lambda step, loss, accuracy: None)
        losses.append(training.judge()[0])
    assert losses[-1] < 0.75 * losses[0]


def banana(count: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Columns that each tell nothing: of one class the second is nearly the first, of the other minus it."""
    draw = torch.Generator().manual_seed(seed)
    labels = torch.randint(2, (count,), generator=draw)
    first, noise, other = (torch.randn(count, generator=draw) for _ in range(3))
    return torch.stack([first, first * (1 - 2 * labels) + 0.3 * noise, other], 1), labels


def test_distributions_of_classes_tell_what_columns_say_together() -> None:
    rows, labels = banana(120)
    held = torch.arange(120) % 3
    columns = Columns([0, 1, 2], [], [], 4)
    columns.fit(rows)
    part = GaussianPart(columns, 3, 2, 10)
    fit_gaussian(part, columns, rows, labels, held)
    more, answers = banana(1_000, seed=1)
    with torch.inference_mode():
        found = part(columns(more))[:, 0].softmax(2).mean(0)
    assert float((found.argmax(1) == answers).double().mean()) > 0.85
    assert float(torch.nn.functional.nll_loss(found.log(), answers)) < 0.35


def test_one_odd_row_says_little_to_a_t_distribution() -> None:
    rows, labels = banana(300)
    odd = rows.clone()
    odd[7, :2] = torch.tensor([8.0, -8.0])  # seems sure to be of the other class
    more, answers = banana(1_000, seed=1)
    losses = []
    for learned in (rows, odd):
        columns = Columns([0, 1, 2], [], [], 4)
        columns.fit(learned)
        part = GaussianPart(columns, 3, 2, 10)
        fit_gaussian(part, columns, learned, labels.index_fill(0, torch.tensor([7]), 0), torch.arange(300) % 3)
        with torch.inference_mode():
            found = part(columns(more))[:, 0].softmax(2).mean(0)
        losses.append(float(torch.nn.functional.nll_loss(found.log(), answers)))
    assert losses[1] < 1.5 * losses[0]


def test_a_group_s_distribution_has_not_seen_the_rows_that_it_holds_out() -> None:
    rows, labels = banana(90)
    held = torch.arange(90) % 2
    columns = Columns([0, 1, 2], [], [], 4)
    columns.fit(rows)
    parts = GaussianPart(columns, 2, 2, 10), GaussianPart(columns, 2, 2, 10)
    fit_gaussian(parts[0], columns, rows, labels, held)
    changed = rows.clone()
    changed[held == 0] = 5
    fit_gaussian(parts[1], columns, changed, labels, held)
    ratio = parts[0].centre[:2] - parts[1].centre[:2]
    assert ratio.abs().max() == 0
    assert (parts[0].centre[2:] - parts[1].centre[2:]).abs().max() > 1


def test_classes_of_one_row_and_constant_columns_have_a_distribution() -> None:
    rows, labels = banana(40)
    rows[:, 2] = 7
    labels[0] = 2
    columns = Columns([0, 1, 2], [], [], 4)
    columns.fit(rows)
    part = GaussianPart(columns, 2, 4, 10)  # of the last class there is none
    fit_gaussian(part, columns, rows, labels, torch.arange(40) % 2)
    with torch.inference_mode():
        assert part(columns(rows)).isfinite().all()


def test_a_part_that_tells_nothing_is_left_out(table: TableDataset) -> None:
    training = trainer(table, epochs=1)
    training.run_epoch(lambda step, loss, accuracy: None)
    training.judge()
    for tensor in training.progress[0].state.values():  # sure, and wrong as often as not
        tensor.copy_(50 * torch.randn(tensor.shape, generator=torch.Generator().manual_seed(0)))
    model, probabilities = training.finish()
    assert 0 not in training.kept
    assert len(model.parts) == len(model.weights) == len(training.kept)
    assert float(model.weights.sum()) == pytest.approx(1)
    torch.testing.assert_close(probabilities.sum(1), torch.ones(len(probabilities)).double())


def test_the_typical_row_lacks_what_most_rows_lack() -> None:
    columns = Columns([0, 2], [1, 3], [2, 2], 4)
    nan = math.nan
    columns.fit(torch.tensor([[nan, nan, 1, 0], [nan, nan, 2, 0], [5, 0, 9, nan], [nan, 1, nan, 1]]))
    typical = columns.typical()
    assert typical.isnan().tolist() == [True, True, False, False]
    assert typical[2:].tolist() == [2, 0]


def test_rows_that_are_newer_are_held_out_and_never_learned_from(tmp_path: Path) -> None:
    rows, labels = mixed(100)
    splits = np.repeat([0, 1, 2], [70, 15, 15]).astype(np.int8)  # in the order of time
    options = {"target": "kind", "time": "amount"}
    write_table(tmp_path / "1", spec_of_mixed(), rows, labels, CLASSES, splits, options=options)
    dataset = load_table(tmp_path / "1", "mine@1")
    assert dataset.validation_given
    config = RECIPES["table"].config(dataset="mine@1")
    plan = planned(config, dataset.input, 85, 3, dataset.validation_given)
    assert plan.groups == 1
    assert held_out(dataset, plan, 0).tolist() == [-1] * 70 + [0] * 15
