"""/docs in a real browser without internet."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, sync_playwright

from tests.browser import CHROMIUM, FLAGS
from tests.conftest import ROOT
from tests.processes import service

pytestmark = pytest.mark.browser


@pytest.fixture
def page() -> Iterator[Page]:
    if CHROMIUM is None:
        pytest.skip("there is no chromium: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser.new_page(viewport={"width": 1200, "height": 1600})
        browser.close()


def test_try_it_out_classifies_an_uploaded_digit(page: Page, tmp_path: Path) -> None:
    """The page renders from our own files alone, and an upload from it is answered."""
    requested: list[str] = []
    page.on("request", lambda request: requested.append(request.url))
    refused: list[str] = []  # by the page's own policy
    page.on("console", lambda said: refused.append(said.text) if "Content Security" in said.text else None)
    with service(tmp_path) as (_, client):
        page.goto(f"{client.base_url}/docs")
        for path in ("/predict", "/predict/batch", "/models", "/models/{name}", "/livez", "/readyz", "/info"):
            page.locator(f".opblock-summary-path[data-path='{path}']").first.wait_for()
        block = page.locator("#operations-predict-predict_predict_post")
        block.locator(".opblock-summary-control").click()
        block.locator("input[type=file]").set_input_files(ROOT / "examples" / "7.png")
        block.locator("button.execute").click()
        answer = block.locator(".live-responses-table .response .highlight-code").first
        answer.wait_for()
        assert '"label": "7"' in answer.inner_text()
        assert all(url.startswith((str(client.base_url), "data:", "blob:")) for url in requested), requested
        assert not refused
        page.screenshot(path=tmp_path / "docs.png")
        assert page.get_by_role("link", name="minist", exact=True).get_attribute("href") == "./"
