"""Schemathesis over the OpenAPI document: whatever is sent, the answer is one that the document promises."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ADMIN_KEY
from tests.processes import service

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "unsupported_method",
    "allow_header_conformance",
    "missing_required_header",
)

STREAMS = ("/train/{id}/events", "/live/events")


@pytest.mark.parametrize("closed", [False, True])
def test_every_answer_is_as_documented(closed: bool, tmp_path: Path) -> None:
    """The same requests every time; with a key where nothing is closed, without one where all is.

    Left out are `/train/{id}/events`, which streams for as long as a job waits, and `/live/events`.
    """
    words = [str(Path(sys.executable).with_name("schemathesis")), "run", "--generation-deterministic"]
    words += ["--max-examples", "30", "--checks", ",".join(CHECKS)]
    words += [word for path in STREAMS for word in ("--exclude-path", path)]
    words += ["--continue-on-failure", "--warnings", "off"]
    if not closed:
        words += ["--header", f"Authorization: Bearer {ADMIN_KEY}"]
    with service(tmp_path, "api", MINIST_OPEN_PREDICT=str(not closed)) as (process, client):
        done = subprocess.run(
            [*words, f"{client.base_url}/openapi.json"], cwd=tmp_path, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        paths = client.get("/openapi.json").json()["paths"].values()
        operations = sum(len(path) for path in paths)
        assert f"{operations - len(STREAMS)} selected / {operations} total" in done.stdout, done.stdout
        assert client.get("/readyz").status_code == 200
        process.terminate()
        assert process.wait(20) == 0
    assert "Traceback" not in (tmp_path / "service.log").read_text()
