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


LISTS = ("deploy/requirements.txt", "deploy/build-requirements.txt")


def test_versions_are_those_of_the_constraints() -> None:
    constraints = pinned("constraints.txt")
    for package, version in pinned("deploy/requirements.txt").items():
        assert constraints[package] == version


def test_every_dependency_is_on_the_list() -> None:
    """Else `make lock`. torch and torchvision come from an index of their own."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = {re.split(r"[>=;\[ ]", line)[0].lower() for line in project["dependencies"]}
    assert names - {"torch", "torchvision"} <= set(pinned("deploy/requirements.txt"))


@pytest.mark.parametrize("name", LISTS)
def test_every_package_has_hashes_and_no_index_is_named(name: str) -> None:
    text = re.sub(r"(?m)^#.*\n", "", (ROOT / name).read_text())
    entries = re.split(r"\n(?=[A-Za-z0-9])", text.strip())
    assert len(entries) == len(pinned(name)) > 5
    assert all("--hash=sha256:" in entry for entry in entries)
    assert not re.search(r"https?://|file:|--index|--find-links|--trusted", text)
