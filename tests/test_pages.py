"""The page, static files, and the headers that they go out with."""

import re
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from app.settings import Settings
from app.web import pages
from tests.conftest import ADMIN
from tests.samples import is_problem

POLICY = (
    "default-src 'none'; script-src 'self'; connect-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "frame-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def test_the_page_is_at_the_root(client: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "STATIC", tmp_path)
    is_problem(client.get("/"), 404, "Not found")
    (tmp_path / "page").mkdir()
    (tmp_path / "page" / "index.html").write_text("<!doctype html><title>minist</title>")
    response = client.get("/")
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert response.headers["content-security-policy"] == POLICY


def test_what_the_first_view_imports_is_fetched_at_once() -> None:
    """Not module after module as each names the next: `modulepreload` in the page's head."""
    folder, found, wanted = pages.STATIC / "page", set(), ["main.js", "try.js"]
    while wanted:
        module = wanted.pop()
        if module not in found:
            found.add(module)
            wanted += re.findall(
                r'^import [^;]*?from "\./([\w.]+)"', (folder / module).read_text(), re.MULTILINE
            )
    told = re.findall(r'modulepreload" href="static/page/([\w.]+)"', (folder / "index.html").read_text())
    assert told == sorted(found - {"main.js"})


@pytest.mark.parametrize("path", ["/docs", "/static/docs/start.js", "/static/icon.svg"])
def test_pages_and_files_have_security_headers(client: TestClient, path: str) -> None:
    for headers in ({}, {"if-none-match": client.get(path).headers["etag"]}):
        response = client.get(path, headers=headers)
        assert response.status_code in (200, 304)
        policy = response.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; ")
        assert "frame-ancestors 'none'" in policy
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["referrer-policy"] == "no-referrer"
        assert response.headers["permissions-policy"].startswith("camera=(self)")
        assert "set-cookie" not in response.headers


def test_no_script_stands_in_the_documentation_page(client: TestClient) -> None:
    page = client.get("/docs").text
    assert page.count("<script") == page.count("<script src=")
    assert 'href="./' in page


def test_what_a_run_left_is_shown_but_never_run(client: TestClient, settings: Settings) -> None:
    body = {"model": "minist", "recipe": "mlp"}
    job = client.post("/train", json=body, headers=ADMIN).json()["id"]
    directory = settings.home / "runs" / job
    directory.mkdir(parents=True)
    (directory / "report.html").write_text("<script>alert(1)</script>")
    response = client.get(f"/train/{job}/artifacts/report.html")
    assert response.headers["content-security-policy"].startswith("sandbox; default-src 'none'")
    client.delete(f"/train/{job}", headers=ADMIN)
