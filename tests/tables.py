"""The tables of the documentation, made from the code: `python -m tests.tables` writes them anew.

A table stands between `<!-- table: NAME -->` and `<!-- end -->` in a page; tests.test_docs compares.
"""

import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

import app.errors
import models.errors
from app.jobs.executor import override_fields
from app.main import create_app
from app.settings import Settings
from app.web.problems import status_and_title
from models.card import Card, read_card
from tests.conftest import ROOT, SHIPPED, WEIGHTS
from training import regression
from training.importing.dataset import Options
from training.importing.tables.facts import TableOptions
from training.recipes import RECIPES, Config

PAGES = tuple(
    path for pattern in ("*.md", "docs/*.md", "benchmarks/*.md") for path in sorted(ROOT.glob(pattern))
)
_BLOCK = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)", re.S)


def rewrite(text: str) -> str:
    """A page with every table made anew."""
    return _BLOCK.sub(lambda block: f"{block[1]}\n{TABLES[block[2]]()}\n{block[3]}", text)


def _table(head: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def _settings() -> str:
    fields = Settings.model_fields.items()
    rows = ((f"`MINIST_{name.upper()}`", _default(f.default), str(f.description)) for name, f in fields)
    return _table(("variable", "default", ""), rows)


def _default(value: object) -> str:
    """As it would be written into the environment."""
    if value is None or value == "":
        return "none"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


@cache
def _running() -> tuple[Mapping[str, Any], str]:
    """The OpenAPI document, and the page of metrics."""
    with tempfile.TemporaryDirectory() as home:
        settings = Settings(home=Path(home), device="cpu", log_requests=False)
        with TestClient(create_app(settings)) as client:
            client.get("/models")  # loads them all
            return client.get("/openapi.json").json(), client.get("/metrics").text


def document() -> Mapping[str, Any]:
    """The OpenAPI document of the service as it is set by default."""
    return _running()[0]


def _endpoints() -> str:
    def rows() -> Iterator[tuple[str, ...]]:
        for path, operations in document()["paths"].items():
            for method, operation in operations.items():
                statuses = sorted(status for status in operation["responses"] if status < "400")
                yield f"`{method.upper()} {path}`", operation["summary"], ", ".join(statuses)

    return _table(("endpoint", "", "answers"), rows())


def _metrics() -> str:
    def rows() -> Iterator[tuple[str, ...]]:
        for family in text_string_to_metric_families(_running()[1]):
            name = family.name + "_total" * (family.type == "counter")
            yield f"`{name}`", family.type, family.documentation

    return _table(("name", "type", ""), rows())


def _problems() -> str:
    def rows() -> Iterator[tuple[str, ...]]:
        for kinds in (
            app.errors.RequestError.__subclasses__(),
            [models.errors.GraphFailed],
            models.errors.ImageError.__subclasses__(),
        ):
            for kind in sorted(kinds, key=lambda kind: status_and_title(kind)):
                status, title = status_and_title(kind)
                meaning = " ".join((kind.__doc__ or "").split()).rstrip(".")
                yield str(status), title, f"`urn:minist:{title.lower().replace(' ', '-')}`", meaning

    return _table(("status", "title", "type", ""), rows())


def _card(name: str) -> Card:
    return read_card(WEIGHTS / f"{name}.json")


def _models() -> str:
    def rows() -> Iterator[tuple[str, ...]]:
        for name in SHIPPED:
            card = _card(name)
            test, dataset = card.metrics["test"], card.dataset
            assert dataset is not None
            assert test.calibrated is not None
            yield (
                f"`{name}`",
                str((card.training or {})["recipe"]),
                dataset.name,
                f"{card.parameters:,}",
                f"{card.cpu_seconds or 0:,.0f}",
                f"{test.calibrated.ece:.2%}",
                f"{test.accuracy:.4f}",
            )

    return _table(
        ("model", "recipe", "data set", "parameters", "CPU seconds", "calibration error", "test accuracy"),
        rows(),
    )


def _recipes() -> str:
    def rows() -> Iterator[tuple[str, ...]]:
        yield f"`{regression.RECIPE}`", regression.SUMMARY, "-"
        for recipe in RECIPES.values():
            yield f"`{recipe.name}`", recipe.summary, recipe.reference

    return _table(("recipe", "", "reference"), rows())


def _config() -> str:
    names = [name for name in Config.model_fields if name in override_fields()]

    def rows() -> Iterator[tuple[str, ...]]:
        for name in names:
            field = Config.model_fields[name]
            default = "by recipe" if field.is_required() else f"`{field.default}`"
            yield f"`{name}`", default, field.description or ""

    return _table(("setting", "default", ""), rows())


def _import_options() -> str:
    return _options(Options)


def _table_options() -> str:
    return _options(TableOptions)


def _options(of: type[Options] | type[TableOptions]) -> str:
    fields = ((name, field) for name, field in of.model_fields.items() if name != "kind")
    rows = ((f"`{name}`", f"`{field.default}`", field.description or "") for name, field in fields)
    return _table(("option", "default", ""), rows)


TABLES: Mapping[str, Callable[[], str]] = {
    "settings": _settings,
    "endpoints": _endpoints,
    "metrics": _metrics,
    "problems": _problems,
    "models": _models,
    "recipes": _recipes,
    "config": _config,
    "import_options": _import_options,
    "table_options": _table_options,
}


if __name__ == "__main__":
    for page in PAGES:
        page.write_text(rewrite(page.read_text()))
