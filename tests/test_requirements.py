"""What the image installs is what the tests ran with."""

import re
import tomllib
from collections.abc import Mapping

import pytest

from tests.conftest import ROOT


def pinned(name: str) -> Mapping[str, str]:
    """Versions by normalised name."""
    found = re.findall(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", (ROOT / name).read_text(), re.M)
    return {re.sub(r"[-_.]+", "-", package).lower(): version for package, version in found}


def names_of(requirements: list[str]) -> set[str]:
    return {re.split(r"[>=;\[ ]", line)[0].lower() for line in requirements}


EXTRAS = sorted(file.stem for file in (ROOT / "deploy" / "extras").glob("*.txt"))
OF_EXTRAS = tuple(f"deploy/extras/{extra}.txt" for extra in EXTRAS)
INSTALLED = ("deploy/requirements.txt", *OF_EXTRAS)
LISTS = (*INSTALLED, "deploy/build-requirements.txt")


@pytest.mark.parametrize("name", INSTALLED)
def test_versions_are_those_of_the_constraints(name: str) -> None:
    constraints = pinned("constraints.txt")
    for package, version in pinned(name).items():
        assert constraints[package] == version


def test_every_dependency_is_on_the_list() -> None:
    """Else `make lock`. torch and torchvision come from an index of their own."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    always = set(pinned("deploy/requirements.txt")) | {"torch", "torchvision"}
    assert names_of(project["dependencies"]) <= always
    extras = project["optional-dependencies"]
    assert set(extras) - {"dev", "postgres", "store"} == set(EXTRAS)
    assert names_of([*extras["postgres"], *extras["store"]]) <= always
    for extra in EXTRAS:
        assert names_of(extras[extra]) <= always | set(pinned(f"deploy/extras/{extra}.txt"))


@pytest.mark.parametrize("name", LISTS)
def test_every_package_has_hashes_and_no_index_is_named(name: str) -> None:
    text = re.sub(r"(?m)^#.*\n", "", (ROOT / name).read_text())
    entries = re.split(r"\n(?=[A-Za-z0-9])", text.strip())
    assert len(entries) == len(pinned(name)) > 0
    assert all("--hash=sha256:" in entry for entry in entries)
    assert not re.search(r"https?://|file:|--index|--find-links|--trusted", text)


def test_the_builder_gets_what_the_image_copies() -> None:
    """The rest of the checkout is kept from it."""
    copied = re.findall(r"^COPY (?!--from)(\S+) ", (ROOT / "Dockerfile").read_text(), re.M)
    assert "deploy/extras" in copied
    assert {f"!{path}" for path in copied} <= set((ROOT / ".dockerignore").read_text().splitlines())
