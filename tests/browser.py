"""Headless Chromium, and how tests use the page.

A test module imports the fixtures that it needs: `chromium`, `api`, `new_page`, `page`.
"""

import json
import re
import shutil
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import pytest
from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect, sync_playwright

from tests.conftest import ADMIN_KEY, SAMPLE
from tests.processes import service

CHROMIUM = shutil.which("chromium")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
]
STROKES: dict[str, list[list[list[float]]]] = json.loads((SAMPLE / "strokes.json").read_text())
SOON = 60_000  # ms; the machine may be busy
A_RUN = 500_000  # a job has the lowest priority
SHORT = {"recipe": "softmax-mnist", "epochs": 3, "validation_images": 100, "batch_size": 16}

expect.set_options(timeout=SOON)
NewPage = Callable[..., Page]


def address(client: httpx2.Client) -> str:
    return str(client.base_url).rstrip("/")


def draw(page: Page, label: str) -> None:
    """The strokes of a test digit, by the mouse."""
    expect(page.locator(".answer").first).to_be_visible(timeout=SOON)
    box = page.locator("#canvas").bounding_box()
    assert box
    scale = box["width"] / 28
    for line in STROKES[label]:
        points = [(box["x"] + (x + 0.5) * scale, box["y"] + (y + 0.5) * scale) for x, y in line]
        page.mouse.move(*points[0])
        page.mouse.down()
        for point in points[1:]:
            page.mouse.move(*point)
        page.mouse.up()


def answer(page: Page, model: str = "digits") -> Locator:
    return page.locator(f".answer[data-model={model}]")


def explained(page: Page, model: str = "digits") -> None:
    """The pen has rested, and everything that is asked then was answered."""
    expect(answer(page, model).locator(".insight")).to_have_attribute("data-state", "new", timeout=SOON)


def choose(page: Page, *models: str) -> None:
    """These models and no others answer."""
    page.locator("#chosen label").first.wait_for(timeout=SOON)
    for label in page.locator("#chosen label").all():
        box = label.locator("input")
        if box.get_attribute("value") in models and not box.is_checked():
            label.click()
    for label in page.locator("#chosen label").all():
        box = label.locator("input")
        if box.get_attribute("value") not in models and box.is_checked():
            label.click()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("there is no chromium: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx2.Client]:
    """A service that takes corrections, with the small sample as its data set."""
    with service(tmp_path_factory.mktemp("page"), MINIST_FEEDBACK="true") as (_, client):
        yield client


@pytest.fixture
def new_page(chromium: Browser, api: httpx2.Client) -> Iterator[NewPage]:
    """Opens `#/...` in a fresh context. Nothing foreign may be asked for, and nothing may fail in the page."""
    contexts: list[BrowserContext] = []
    requested: list[str] = []
    wrong: list[str] = []

    def open_page(route: str = "#/try", base: str | None = None, **options: Any) -> Page:
        options = {"viewport": {"width": 1280, "height": 1000}, **options}
        contexts.append(chromium.new_context(**options))
        page = contexts[-1].new_page()
        page.set_default_timeout(SOON)
        page.on("request", lambda request: requested.append(request.url))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda said: wrong.append(said.text) if "Content Security" in said.text else None)
        page.goto(f"{base or address(api)}/{route}")
        return page

    yield open_page
    cookies = [cookie for context in contexts for cookie in context.cookies()]
    for context in contexts:
        context.close()
    ours = re.compile(r"(http://127\.0\.0\.1:\d+/|data:|blob:http://127\.0\.0\.1:)")
    assert [url for url in requested if not ours.match(url)] == []
    assert wrong == []
    assert cookies == []


@pytest.fixture
def page(new_page: NewPage) -> Page:
    return new_page()


def says(page: Page, label: str, model: str = "digits") -> None:
    expect(answer(page, model).locator(".label")).to_have_text(label, timeout=SOON)


def give_key(page: Page, key: str = ADMIN_KEY) -> None:
    expect(page.locator("#ask-key")).to_be_visible(timeout=SOON)
    page.fill("#key-text", key)
    page.get_by_role("button", name="Use it", exact=True).click()


def begin_run(page: Page, model: str, **settings: object) -> None:
    page.locator("#recipe").wait_for()
    page.select_option("#recipe", str(settings.pop("recipe")))
    page.fill("#model", model)
    if page.locator("#more").get_attribute("open") is None:
        page.click("text=More settings")
    promote = settings.pop("promote", None)
    if promote:
        page.select_option("#promote", str(promote))
    for name, value in settings.items():
        page.fill(f"#set-{name}", str(value))
    page.click("text=Start training")


def run_to_its_end(api: httpx2.Client, model: str, **changes: object) -> dict[str, Any]:
    """The same without a browser."""
    job = api.post("/train", json={**SHORT, "model": model, **changes}).json()
    deadline = time.monotonic() + A_RUN / 1000
    while job["status"] in ("queued", "running") and time.monotonic() < deadline:
        time.sleep(0.2)
        job = api.get(f"/train/{job['id']}").json()
    assert job["status"] == "succeeded", job
    return dict(job)


def served(api: httpx2.Client, model: str) -> int:
    return int(next(each["version"] for each in api.get("/models").json() if each["name"] == model))


def shown(image: Locator) -> None:
    """The browser has it, and it is no icon."""
    expect(image).to_have_js_property("complete", True)
    assert image.evaluate("image => image.naturalWidth") > 100
