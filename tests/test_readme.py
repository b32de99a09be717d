"""The first page: short, with what a newcomer needs, and its figures are those that were measured."""

import json
import re

import pytest

from tests.conftest import ROOT, SHIPPED

README = (ROOT / "README.md").read_text()
PERFORMANCE = (ROOT / "docs" / "performance.md").read_text()


def test_it_is_short_and_begins_with_what_this_is() -> None:
    lines = README.splitlines()
    assert len(lines) <= 100
    first = "\n".join(lines[:12])
    for part in ("docs/try.png", "docs/speed.png", "trains the models it serves"):
        assert part in first


@pytest.mark.parametrize(
    "command",
    ["make serve", "make test", "pip install . && minist serve", "docker compose up"],
)
def test_the_ways_to_start_stand_on_lines_of_their_own(command: str) -> None:
    assert f"\n    {command}\n" in README


def test_ci_runs_the_test_command_of_the_readme() -> None:
    assert "make test" in (ROOT / ".ci" / "run").read_text()


def test_the_client_in_python_has_five_lines() -> None:
    (client,) = re.findall(r"```python\n(.*?)```", README, re.S)
    assert len([line for line in client.splitlines() if line]) <= 5


def test_the_number_of_models_is_that_of_the_included_ones() -> None:
    words = {8: "Eight"}
    assert f"{words[len(SHIPPED)]} trained models are\nincluded" in README


def test_the_answer_is_the_one_that_the_first_command_gets(client: object, digits: dict[str, bytes]) -> None:
    printed = json.loads(re.findall(r"```json\n(.*?)```", README, re.S)[0])
    got = client.post("/predict", files={"file": digits["7"]}).json()  # type: ignore[attr-defined]
    for key in ("model", "version", "label", "index", "input"):
        assert printed[key] == got[key]
    assert list(printed) == list(got)
    assert printed["probability"] == pytest.approx(got["probability"], abs=1e-3)


def row(table: str, name: str) -> tuple[int, float]:
    """Requests per second, and how many times as many as the first row."""
    (cells,) = re.findall(rf"^\| {re.escape(name)} \| ([\d,]+) \| ([\d.]+) \|", table, re.M)
    return int(cells[0].replace(",", "")), float(cells[1])


def test_the_figures_of_speed_are_those_of_the_benchmark() -> None:
    measured = (ROOT / "benchmarks" / "SERVING.md").read_text().partition("## A run with peers")[2]
    measured = measured.partition("| 1,000 images")[0]
    same = {
        "FastAPI by hand: `def`, `UploadFile`": "hand-written def",
        "FastAPI by hand: `async def`": "hand-written async def",
        "BentoML 1.4.39, batching": "BentoML",
        "LitServe 0.2.19": "LitServe",
        "MLServer 1.7.1, adaptive batching": "MLServer",
        "TorchServe 0.12.0, batches of 32": "TorchServe",
        "**minist**, 1 worker": "minist",
        "**minist**, 2 workers": "minist, 2 workers",
    }
    for shown, name in same.items():
        assert row(PERFORMANCE, shown) == row(measured, name)
    assert "about ten times" in README
    assert 9.5 < row(measured, "minist")[1] < 11.5


def test_the_tested_versions_are_the_pinned_ones() -> None:
    """Python of the image is that of the first page."""
    dockerfile = (ROOT / "Dockerfile").read_text()
    (version,) = re.findall(r"^ARG BASE=python:(\d+\.\d+)", dockerfile, re.M)
    assert f"with Python {version} and CPUs" in README


def test_docker_compose_serves_where_the_readme_says() -> None:
    assert "127.0.0.1:8000}:8000" in (ROOT / "compose.yaml").read_text()
