"""/docs in a real browser without internet."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from tests.browser import CHROMIUM, FLAGS
from tests.conftest import ADMIN_KEY, ROOT
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


def test_execute_says_what_is_missing_and_a_key_survives_a_reload(page: Page, tmp_path: Path) -> None:
    """Also from the page and to it, in this tab; in the dark, with ways back."""
    page.emulate_media(color_scheme="dark")
    with service(tmp_path, "api") as (_, client):
        base = str(client.base_url).rstrip("/")
        page.goto(f"{base}/docs")
        predict = page.locator("#operations-predict-predict_predict_post")
        predict.locator(".opblock-summary-control").click()
        predict.locator("button.execute").click()
        missing = predict.get_by_role("alert").filter(has_text="Nothing was sent: choose a file first.")
        expect(missing).to_be_visible()
        assert predict.locator(".live-responses-table").count() == 0
        predict.locator("input[type=file]").set_input_files(ROOT / "examples" / "7.png")
        predict.locator("button.execute").click()
        expect(predict.locator(".live-responses-table .highlight-code").first).to_contain_text('"label": "7"')
        expect(missing).to_have_count(0)

        expect(predict.locator(".authorization__btn")).to_have_count(0)  # predictions are open here
        page.locator("button.authorize").click()
        page.locator(".auth-container input").first.fill(ADMIN_KEY)
        page.locator(".auth-container button.authorize").first.click()
        page.reload()
        train = page.locator("#operations-train-start_train_post")
        expect(train.get_by_label("authorization button locked")).to_be_visible()
        train.locator(".opblock-summary-control").click()
        train.locator("button.execute").click()
        expect(train.locator(".live-responses-table .response .response-col_status").first).to_contain_text(
            "202"
        )
        page.get_by_role("link", name="Models", exact=True).click()
        expect(page.get_by_role("button", name="Forget key")).to_be_visible()
        dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
        page.go_back()
        page.wait_for_function("dark => getComputedStyle(document.body).backgroundColor === dark", arg=dark)
        page.emulate_media(color_scheme="light")
        page.wait_for_function("dark => getComputedStyle(document.body).backgroundColor !== dark", arg=dark)
