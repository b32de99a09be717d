"""The page and its service: away, slow, busy, closed, behind a prefix."""

import signal
import time
from pathlib import Path

import httpx2
import pytest
from playwright.sync_api import Browser, Page, Request, Route, expect

from app.store.paths import HomePaths
from tests.browser import (
    A_RUN,
    CHROMIUM,
    FLAGS,
    SHORT,
    SOON,
    NewPage,
    address,
    answer,
    api,
    choose,
    chromium,
    draw,
    explained,
    give_key,
    new_page,
    page,
    run_to_its_end,
    says,
    shown,
)
from tests.conftest import ADMIN_KEY
from tests.processes import free_port, service

pytestmark = pytest.mark.browser


def test_without_a_test_set_and_without_corrections(new_page: NewPage, tmp_path: Path) -> None:
    with service(tmp_path, MINIST_DATA_DIR=str(tmp_path / "nothing")) as (_, client):
        page = new_page("#/models/cnn", address(client))
        expect(page.locator(".note.empty").first).to_contain_text("The test set is not here")
        page.goto(f"{address(client)}/#/train")
        expect(page.locator("#jobs .note.empty")).to_contain_text("No jobs yet")
        page.goto(f"{address(client)}/#/try")
        draw(page, "3")
        explained(page)
        expect(page.locator("#correct")).to_be_hidden()
        expect(page.locator("#corrections")).to_be_empty()


def test_a_job_that_nobody_takes_says_so(new_page: NewPage, tmp_path: Path) -> None:
    with service(tmp_path, "api") as (_, client):
        job = client.post("/train", json={**SHORT, "model": "waits"}).json()["id"]
        page = new_page(f"#/train/{job}", address(client))
        expect(page.locator("#job .problem").first).to_contain_text("No training worker is running")


def test_a_service_that_is_not_open_asks_for_the_key_at_once(new_page: NewPage, tmp_path: Path) -> None:
    with service(tmp_path, MINIST_OPEN_PREDICT="false") as (_, client):
        page = new_page(base=address(client))
        expect(page.locator("#ask-key code").first).to_have_text(HomePaths(tmp_path).admin_key.name)
        give_key(page)
        draw(page, "6")
        says(page, "6")
        expect(page.locator("#request code")).to_contain_text("authorization: Bearer $MINIST_API_KEY")
        job = run_to_its_end(client, "mine", epochs=1)["id"]
        page.goto(f"{address(client)}/#/train/{job}/report")  # no picture or link of a page sends the key
        with page.expect_download() as report:
            page.get_by_role("button", name="Save the report").click(timeout=SOON)
        assert report.value.suggested_filename == "report.html"
        assert "<img" in Path(report.value.path()).read_text()
        page.get_by_role("link", name="Curves").click()
        images = page.locator(".pictures img")
        expect(images.nth(2)).to_be_visible(timeout=SOON)
        for image in images.all():
            shown(image)


def test_the_service_goes_away_and_comes_back(new_page: NewPage, tmp_path: Path) -> None:
    port = free_port()
    with service(tmp_path, port=port) as (process, client):
        page = new_page(base=address(client))
        draw(page, "8")
        says(page, "8")
        job = client.post("/train", json={**SHORT, "model": "mine", "epochs": 900}).json()["id"]
        watching = new_page(f"#/train/{job}", address(client))
        expect(watching.locator(".numbers tbody tr").nth(1)).to_be_attached(timeout=A_RUN)
        process.send_signal(signal.SIGTERM)
        process.wait(30)
        expect(page.locator("#banner")).to_contain_text("cannot be reached", timeout=SOON)
        expect(watching.locator("#banner")).to_contain_text("cannot be reached", timeout=SOON)
        choose(page, "cnn")  # nobody answers now
        seen = watching.locator(".numbers tbody tr").count()
    with service(tmp_path, port=port):
        expect(page.locator("#banner")).to_contain_text("back", timeout=SOON)
        says(page, "8", "cnn")
        expect(watching.locator(".numbers tbody tr").nth(seen + 1)).to_be_attached(timeout=A_RUN)
        expect(page.locator("#banner")).to_be_empty(timeout=SOON)


BUSY = '{"type": "urn:minist:too-many-requests", "title": "Too many requests", "detail": "x", "hint": "y"}'


def refuse_once(page: Page, path: str, seconds: int) -> list[float]:
    """The first request of that path is answered 429; when each of them came."""
    came: list[float] = []

    def answer_it(route: Route) -> None:
        came.append(time.monotonic())
        if len(came) > 1:
            route.continue_()
        else:
            headers = {"retry-after": str(seconds), "content-type": "application/problem+json"}
            route.fulfill(status=429, headers=headers, body=BUSY)

    page.route(path, answer_it)
    return came


def test_a_refused_picture_is_sent_again_when_the_service_wants_it(page: Page) -> None:
    expect(answer(page)).to_be_visible(timeout=SOON)
    came = refuse_once(page, "**/predict?*", 3)
    draw(page, "4")
    expect(page.locator("#banner")).to_contain_text("pause")
    says(page, "4")
    assert came[1] - came[0] >= 3


def test_a_refused_list_is_asked_for_again_when_the_service_wants_it(page: Page) -> None:
    expect(answer(page)).to_be_visible(timeout=SOON)
    came = refuse_once(page, "**/train?limit=20", 6)  # longer than the page waits between two looks
    page.click("nav >> text=Train")
    expect(page.locator("#jobs > *")).to_have_count(1, timeout=SOON)
    expect(page.locator("#jobs .loading")).to_have_count(0)
    assert came[1] - came[0] >= 6


def test_a_page_with_a_strict_limit_is_whole_and_goes_on_by_itself(new_page: NewPage, tmp_path: Path) -> None:
    """Its own files are not counted. What is refused is asked again when the service wants it, a change too."""
    with service(tmp_path, MINIST_RATE_LIMIT="8/2 seconds") as (_, client):
        page = new_page(base=address(client))
        refused: list[str] = []
        page.on("response", lambda got: refused.append(got.url) if got.status == 429 else None)
        draw(page, "6")
        says(page, "6")
        page.click("nav >> text=Train")
        page.locator("#recipe").wait_for()
        page.evaluate("key => sessionStorage.setItem('minist-key', key)", ADMIN_KEY)
        came = refuse_once(page, "**/train", 2)
        page.click("text=Start training")
        expect(page.locator("#banner")).to_contain_text("pause")
        expect(page.locator(".job h2")).to_contain_text("softmax-mnist", timeout=SOON)
        assert came[1] - came[0] >= 2
        assert [url for url in refused if "/static/" in url] == []
        assert refused


def test_a_slow_answer_shows_that_it_is_worked_on(page: Page) -> None:
    expect(answer(page)).to_be_visible(timeout=SOON)
    held: list[Route] = []
    page.route("**/predict?*", lambda route: held.append(route))
    draw(page, "6")
    expect(answer(page).locator(".time")).to_have_text("working …", timeout=SOON)
    expect(page.locator("#working")).to_be_visible()
    page.unroute("**/predict?*")  # what was held goes on
    says(page, "6")
    explained(page)
    expect(page.locator("#working")).to_be_hidden()
    expect(answer(page).locator(".time")).not_to_have_text("working …")


def test_the_page_works_behind_a_prefix(new_page: NewPage, api: httpx2.Client) -> None:
    """As a proxy shows it that takes /prefix away."""
    job = run_to_its_end(api, "behind", epochs=1)["id"]
    page = new_page("#/try")
    page.goto("about:blank")
    asked: list[str] = []

    def strip(route: Route, request: Request) -> None:
        asked.append(request.url)
        route.fulfill(response=route.fetch(url=request.url.replace("/prefix/", "/")))

    page.route("**/*", lambda route: route.abort())
    page.route("**/prefix/**", strip)
    page.goto(f"{address(api)}/prefix/#/try")
    draw(page, "8")
    says(page, "8")
    explained(page)
    page.click("#request summary")
    expect(page.locator("#request code")).to_contain_text(f"{address(api)}/prefix/predict?model=digits")
    page.goto(f"{address(api)}/prefix/#/train/{job}")
    expect(page.locator(".outcome")).to_be_visible(timeout=SOON)
    # drawn anew whenever the stream of events ends, as it does through `strip`: in one step
    page.wait_for_selector(".pictures img", state="attached")
    page.evaluate("document.querySelector('.pictures img').scrollIntoView()")
    shown(page.locator(".pictures img").first)
    page.goto(f"{address(api)}/prefix/#/models/behind")
    expect(page.locator(".version-card")).to_be_visible(timeout=SOON)
    page.click("nav >> text=API")
    page.locator(".opblock-summary-path[data-path='/predict']").wait_for()
    assert all("/prefix/" in url for url in asked)


def test_a_page_whose_scripts_do_not_come_says_what_to_do(new_page: NewPage, api: httpx2.Client) -> None:
    page = new_page("#/try")
    expect(page.locator("#start")).to_be_hidden()
    page.route("**/draw.js", lambda route: route.abort())
    page.reload()
    expect(page.get_by_text("Reload the page")).to_be_visible()


def test_without_javascript_the_page_says_so_at_the_top(chromium: Browser, api: httpx2.Client) -> None:
    browser = chromium.browser_type.launch(
        executable_path=CHROMIUM, args=[*FLAGS, "--blink-settings=scriptEnabled=false"]
    )
    page = browser.new_page()
    page.goto(address(api))
    note = page.locator("noscript p")
    expect(note).to_contain_text("This page needs JavaScript.")
    box = note.bounding_box()
    assert box
    assert box["y"] < 200
    expect(page.locator("#start")).to_be_hidden()
    browser.close()
