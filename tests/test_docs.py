"""What the documentation says is so: its commands run, its names exist, its tables are the code's."""

import importlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import httpx2
import pytest

from app.settings import Settings
from tests.conftest import ADMIN_KEY, ROOT
from tests.processes import service
from tests.tables import PAGES, document, rewrite

PAGE_OF = {str(path.relative_to(ROOT)): path.read_text() for path in PAGES}
GUIDES = [name for name in PAGE_OF if name == "README.md" or name.startswith("docs/")]
PRESENT = [name for name in PAGE_OF if name != "CHANGELOG.md"]  # that tells of the past
ADDRESS = "http://127.0.0.1:8000"

# As a reader types them; what is slow is made short, and a failed request is a failed command.
SHELL = r"""
set -eu
curl() { command curl --silent --show-error --fail-with-body "$@"; }
minist() {
    if [ "$1" = train ] && [ "$*" != "train --list" ]; then
        set -- "$@" --epochs 1 --validation-images 100 --dataset mnist
    fi
    "$PYTHON" -m app "$@"
}
"""


def blocks(page: str, language: str) -> str:
    return "\n".join(re.findall(rf"```{language}\n(.*?)```", page, re.S))


def prose(page: str) -> str:
    """A page without its blocks of code."""
    return re.sub(r"```.*?```", "", page, flags=re.S)


def quoted(name: str) -> list[str]:
    """What stands in backticks on a page."""
    return re.findall(r"`([^`\n]+)`", prose(PAGE_OF[name]))


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, httpx2.Client]]:
    """A folder as a clone looks to a reader, and a service whose MINIST_HOME is `var` there."""
    folder = tmp_path_factory.mktemp("clone")
    for name in ("examples", "models"):
        (folder / name).symlink_to(ROOT / name)
    home = folder / "var"
    home.mkdir()
    (home / "admin.key").write_text(ADMIN_KEY)
    with service(home, MINIST_FEEDBACK="true") as (_, client):
        yield folder, client


def environment(folder: Path, client: httpx2.Client) -> dict[str, str]:
    service = {"MINIST_URL": str(client.base_url), "MINIST_API_KEY": ADMIN_KEY}
    paths = {"PYTHONPATH": str(ROOT), "PYTHON": sys.executable, "MINIST_HOME": str(folder / "var")}
    data = {"MINIST_DATA_DIR": str(ROOT / "tests" / "data"), "MINIST_DEVICE": "cpu", "MPLBACKEND": "agg"}
    return {**os.environ, **paths, **data, **service}


@pytest.mark.parametrize("name", [name for name in GUIDES if blocks(PAGE_OF[name], "sh")])
def test_the_commands_of_a_page_run_one_after_the_other(name: str, running: tuple[Path, httpx2.Client]) -> None:
    folder, client = running
    script = SHELL + blocks(PAGE_OF[name], "sh").replace(ADDRESS, str(client.base_url).rstrip("/"))
    done = subprocess.run(
        ["bash", "-c", script], cwd=folder, env=environment(folder, client), capture_output=True, text=True
    )
    assert done.returncode == 0, f"{done.stdout[-2000:]}{done.stderr[-2000:]}"


@pytest.mark.parametrize("name", [name for name in GUIDES if blocks(PAGE_OF[name], "python")])
def test_the_python_of_a_page_runs(name: str, running: tuple[Path, httpx2.Client]) -> None:
    folder, client = running
    script = blocks(PAGE_OF[name], "python").replace(ADDRESS, str(client.base_url).rstrip("/"))
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=folder,
        capture_output=True,
        text=True,
        env=environment(folder, client),
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


@pytest.mark.parametrize("name", PAGE_OF)
def test_the_tables_are_those_of_the_code(name: str) -> None:
    """Else run `python -m tests.tables`."""
    assert PAGE_OF[name] == rewrite(PAGE_OF[name])


def anchors(page: str) -> set[str]:
    """Of the headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", page, flags=re.S), re.M)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("name", PAGE_OF)
def test_links_and_pictures_resolve(name: str) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(PAGE_OF[name])):
        if re.match(r"https?://", target):
            continue
        path, _, anchor = target.partition("#")
        there = (ROOT / name).parent / path if path else ROOT / name
        assert there.exists(), target
        if anchor:
            assert anchor in anchors(there.read_text()), target


def test_every_page_of_the_documentation_is_linked_from_the_readme() -> None:
    linked = set(re.findall(r"\]\(([^)#\s]+)", PAGE_OF["README.md"]))
    assert {name for name in PAGE_OF if "/" not in name or name.startswith("docs/")} - {"README.md"} <= linked


FILES = re.compile(r"(?:app|models|training|tests|benchmarks|docs|deploy|examples|\.ci)/[\w./-]*")
TOP = re.compile(r"[\w.-]+\.(?:py|toml|txt|yaml|md)|Makefile|Dockerfile")
MODULES = re.compile(r"(?:app|models|training|tests|benchmarks)(?:\.\w+)+")
WRITTEN = {"config.json", "search.json", "docs/samples.png"}  # by a run


@pytest.mark.parametrize("name", PRESENT)
def test_files_and_modules_that_are_named_exist(name: str) -> None:
    for text in quoted(name):
        if FILES.fullmatch(text):
            assert (ROOT / text).exists() or re.search("/[A-Z]+/", text), text  # NAME stands for any
        elif TOP.fullmatch(text) and text not in WRITTEN:
            assert (ROOT / text).exists() or list(ROOT.glob(f"*/**/{text}")), text
        elif MODULES.fullmatch(text):
            _find(text)
        elif command := re.fullmatch(r"python -m (\S+).*", text):
            assert importlib.util.find_spec(command[1]), text


def _find(dotted: str) -> object:
    """A module, or something in one. Raises ImportError or AttributeError."""
    try:
        return importlib.import_module(dotted)
    except ModuleNotFoundError:
        module, _, attribute = dotted.rpartition(".")
        return getattr(_find(module), attribute)


@pytest.mark.parametrize("name", PRESENT)
def test_variables_that_are_named_are_read(name: str) -> None:
    read = {f"MINIST_{field.upper()}" for field in Settings.model_fields}
    readers = ("compose.yaml", "minist_client/connection.py", "training/synthetic/characters.py")
    elsewhere = "".join((ROOT / name).read_text() for name in readers)
    for variable in set(re.findall(r"MINIST_[A-Z_]+", PAGE_OF[name])):
        assert variable in read or variable in elsewhere, variable


@pytest.mark.parametrize("name", PRESENT)
def test_endpoints_that_are_named_exist(name: str) -> None:
    templates = [
        (method.upper(), re.compile(re.sub(r"\{\w+\}", r"[^/]+", path)))
        for path, operations in document()["paths"].items()
        for method in operations
    ]
    pages = re.compile("/|/docs|/openapi.json")
    for method, path in re.findall(r"`(GET|HEAD|POST|PUT|PATCH|DELETE) (/[^`?\s]*)", PAGE_OF[name]):
        assert any(m == method and template.fullmatch(path) for m, template in templates) or (
            method in ("GET", "HEAD") and pages.fullmatch(path)
        ), f"{method} {path}"


@cache
def help_of(*words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *words, "--help"], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, f"{words}: {done.stderr}"
    return done.stdout


COMMAND = re.compile(r"^ *(?:[\w. ]+&& )?minist ([a-z]+(?: [a-z][a-z-]*)*)((?: --[a-z-]+)*)", re.M)


@pytest.mark.parametrize("name", PRESENT)
def test_commands_and_options_of_minist_that_are_named_exist(name: str) -> None:
    """In backticks and in indented blocks; those that are to be run by a test are run above."""
    lines = re.findall(r"^    (?:\S.*)$", prose(PAGE_OF[name]), re.M)
    for text in (*quoted(name), *lines):
        for words, options in COMMAND.findall(text):
            shown = help_of("app", *words.split())
            assert all(option in shown for option in options.split()), text


@pytest.mark.parametrize("name", PRESENT)
def test_targets_of_make_that_are_named_exist(name: str) -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"(?:^    |`)make (\w+)", PAGE_OF[name], re.M):
        assert re.search(rf"^{target}:", makefile, re.M), target
