"""Requests in other languages, as the page and /docs show them: each is pasted and run."""

import json
import os
import shutil
import subprocess
import sys
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from app.web.snippets import LOCAL, filled, templates, with_snippets
from tests.conftest import ADMIN_KEY, ROOT
from tests.people import ROW, serve_tables
from tests.processes import service

NODE = shutil.which("node")
SEVEN = (ROOT / "examples" / "7.png").read_bytes()
STARTERS = {
    "curl": ["bash", "-c"],
    "python": [sys.executable, "-c"],
    "requests": [sys.executable, "-c"],
    "javascript": [NODE or "", "--input-type=module", "-e"],
}
HARD = {
    "it's": 'a "quote"',
    "ünï": None,
    "back\\slash": [True, False, 1.5, -3],
    "$HOME `id`": {"new\nline": "𝄞"},
}


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx2.Client]:
    """A service whose predictions need a key."""
    home = serve_tables(tmp_path_factory.mktemp("closed")).home
    with service(home, MINIST_OPEN_PREDICT="false") as (_, client):
        yield client


@pytest.fixture(scope="module")
def http(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx2.Client]:
    home = serve_tables(tmp_path_factory.mktemp("home")).home
    with service(home) as (_, client):
        yield client


def pasted(language: str, source: str, folder: Path) -> str:
    if language == "javascript" and NODE is None:
        pytest.skip("there is no node")
    environment = {**os.environ, "MINIST_API_KEY": ADMIN_KEY, "PYTHONPATH": str(ROOT)}
    words = [*STARTERS[language], source]
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{source}\n{done.stderr}"
    return done.stdout


def values(http: httpx2.Client, kind: str) -> dict[str, Any]:
    image = {"type": "image/png", "image": b64encode(SEVEN).decode(), "name": "seven.png", "model": "cnn"}
    row = {"row": {**ROW, "age": None}, "model": "people"}
    wanted = {"wanted": {"model": "mine", "recipe": "softmax-mnist", "epochs": 1, "validation_images": 100}}
    url = str(http.base_url).rstrip("/")
    of: dict[str, dict[str, Any]] = {"picture": image, "file": image, "row": row, "train": wanted}
    return {"url": url, **of[kind]}


@pytest.mark.parametrize("language", STARTERS)
@pytest.mark.parametrize("kind", ["picture", "file", "row"])
def test_a_prediction_works_as_it_is_pasted(
    http: httpx2.Client, kind: str, language: str, tmp_path: Path
) -> None:
    (tmp_path / "seven.png").write_bytes(SEVEN)
    given = values(http, kind)
    shown = pasted(language, filled(templates()["snippets"][kind][language], given), tmp_path)
    label = http.post("/predict?model=people", json=given["row"]).json()["label"] if kind == "row" else "7"
    assert (json.loads(shown)["label"] if language == "curl" else shown.split()[0]) == label


@pytest.mark.parametrize("language", STARTERS)
@pytest.mark.parametrize("kind", ["picture", "file", "row"])
def test_where_predictions_need_a_key_the_same_lines_send_it(
    closed: httpx2.Client, kind: str, language: str, tmp_path: Path
) -> None:
    (tmp_path / "seven.png").write_bytes(SEVEN)
    source = filled(templates()["snippets"][kind][language], {**values(closed, kind), "key": True})
    assert "MINIST_API_KEY" in source
    shown = pasted(language, source, tmp_path)
    label = "7" if kind != "row" else closed.post("/predict?model=people", json=ROW).json()["label"]
    assert (json.loads(shown)["label"] if language == "curl" else shown.split()[0]) == label


def test_the_documentation_sends_the_key_where_one_is_needed(
    http: httpx2.Client, closed: httpx2.Client
) -> None:
    for client, needed in ((http, False), (closed, True)):
        assert client.get("/info").json()["open_predict"] is not needed
        post = client.get("/openapi.json").json()["paths"]["/predict"]["post"]
        assert [("MINIST_API_KEY" in sample["source"]) for sample in post["x-codeSamples"]] == [needed] * 4
        assert "{{" not in json.dumps(post["x-codeSamples"])


@pytest.mark.parametrize("language", STARTERS)
def test_a_job_is_started_as_it_is_pasted(http: httpx2.Client, language: str, tmp_path: Path) -> None:
    before = len(http.get("/train").json()["jobs"])
    words = templates()["snippets"]["train"][language]
    shown = pasted(language, filled(words, values(http, "train")), tmp_path)
    assert len(http.get("/train").json()["jobs"]) == before + 1
    if language == "python":
        assert int(shown) >= 1  # it waits for the version
    else:
        assert "queued" in shown


@pytest.mark.skipif(NODE is None, reason="there is no node")
def test_the_page_writes_what_the_documentation_writes() -> None:
    script = """
    import { readFileSync } from "node:fs";
    import { filled } from "./app/static/page/snippets.js";
    const { lines, values } = JSON.parse(readFileSync(0, "utf8"));
    process.stdout.write(JSON.stringify(lines.map((template) => filled(template, values))));
    """
    given = {"url": "u", "model": "m", "type": "t", "image": "i", "name": "n", "row": HARD, "wanted": HARD}
    lines = [found for kind in templates()["snippets"].values() for found in kind.values()]
    words = [NODE or "", "--no-warnings", "--input-type=module", "-e", script]
    for values in (given, {**given, "key": True}):
        sent = json.dumps({"lines": lines, "values": values})
        done = subprocess.run(words, cwd=ROOT, input=sent, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout) == [filled(template, values) for template in lines]


def test_values_stay_what_they_are(tmp_path: Path) -> None:
    python = filled(["import json; print(json.dumps({{row|python}}))"], {"row": HARD})
    assert json.loads(pasted("python", python, tmp_path)) == HARD
    assert json.loads(pasted("curl", filled(["printf %s {{row|shell}}"], {"row": HARD}), tmp_path)) == HARD
    script = filled(["console.log(JSON.stringify({{row|json}}))"], {"row": HARD})
    assert json.loads(pasted("javascript", script, tmp_path)) == HARD


def test_the_documentation_shows_them(http: httpx2.Client) -> None:
    document = http.get("/openapi.json").json()
    url = str(http.base_url).rstrip("/")
    for path in ("/predict", "/train"):
        post = document["paths"][path]["post"]
        assert [sample["label"] for sample in post["x-codeSamples"]] == list(templates()["languages"].values())
        for sample in post["x-codeSamples"]:
            assert url in sample["source"]
            assert sample["source"] in post["description"]


def test_an_address_that_is_none_is_not_shown() -> None:
    document: dict[str, Any] = {"paths": {path: {"post": {}} for path in ("/predict", "/train")}}
    shown = json.dumps(with_snippets(document, "http://evil'; rm -rf ~ '"))
    assert "evil" not in shown
    assert LOCAL in shown
    assert "https://[::1]:8000/minist" in json.dumps(with_snippets(document, "https://[::1]:8000/minist/"))
