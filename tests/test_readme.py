"""What the README says is so."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from app.settings import Settings
from models.card import read_card
from tests.conftest import ADMIN_KEY, ROOT, SAMPLE, SHIPPED, WEIGHTS
from tests.processes import service
from training.recipes import RECIPES

README = (ROOT / "README.md").read_text()
COMMANDS = [
    line
    for block in re.findall(r"```sh\n(.*?)```", README, re.S)
    for line in block.splitlines()
    if line.strip()
]


def test_every_setting_is_listed_with_its_default_and_description() -> None:
    rows = re.findall(r"^\| `(MINIST_\w+)` \| `(.*?)` \| (.*?) \|$", README, re.M)
    fields = Settings.model_fields
    assert [name for name, _, _ in rows] == [f"MINIST_{name.upper()}" for name in fields]
    for (_, default, description), field in zip(rows, fields.values(), strict=True):
        assert default == str(field.default)
        assert description == field.description


def test_every_curl_works_as_printed(tmp_path: Path) -> None:
    """Run by a shell against a real service; only the port is another."""
    curls = [command for command in COMMANDS if command.startswith("curl")]
    assert len(curls) >= 5
    (tmp_path / "admin.key").write_text(ADMIN_KEY)
    with service(tmp_path) as (_, client):
        for command in curls:
            there = command.replace("http://127.0.0.1:8000", str(client.base_url).rstrip("/"))
            there = there.replace("var/admin.key", str(tmp_path / "admin.key"))
            done = subprocess.run(
                f"{there} -sS --fail-with-body", shell=True, cwd=ROOT, capture_output=True, text=True
            )
            assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
            assert json.loads(done.stdout)
        first = curls[0].replace("http://127.0.0.1:8000", str(client.base_url).rstrip("/"))
        assert json.loads(subprocess.check_output(f"{first} -sS", shell=True, cwd=ROOT))["label"] == "7"


@pytest.mark.parametrize("command", [command for command in COMMANDS if "-m training" in command])
def test_every_training_command_works(command: str, tmp_path: Path) -> None:
    """On the small sample; what takes long is made short."""
    words = shlex.split(command.replace(".venv/bin/python", sys.executable))
    words += [] if "--list" in words else ["--data-dir", str(SAMPLE)]
    if "--recipe" in words:
        words += [
            "--epochs",
            "1",
            "--validation-images",
            "100",
            "--dataset",
            "mnist",
            "--out",
            str(tmp_path / "run"),
        ]
    subprocess.run(words, cwd=ROOT, check=True, capture_output=True)


def test_every_shell_command_is_one_of_those_tested() -> None:
    assert all(command.startswith("curl") or "-m training" in command for command in COMMANDS)


def test_models_and_their_accuracy_are_those_on_the_cards() -> None:
    rows = re.findall(r"^\| `([\w-]+)`.*\| (\d\.\d\d) % \| (0\.\d{4}) \|$", README, re.M)
    assert {name for name, _, _ in rows} == set(SHIPPED)
    for name, error, accuracy in rows:
        test = read_card(WEIGHTS / f"{name}.json").metrics["test"]
        assert test.calibrated is not None
        assert (f"{100 * test.calibrated.ece:.2f}", f"{test.accuracy:.4f}") == (error, accuracy)


def test_every_recipe_is_listed() -> None:
    assert all(f"| `{name}` |" in README for name in RECIPES)


def test_the_makefile_has_the_two_commands() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in ("serve", "test"):
        assert f"    make {target}\n" in README
        assert re.search(rf"^{target}:", makefile, re.M)
    assert "make test" in (ROOT / ".ci" / "run").read_text()
