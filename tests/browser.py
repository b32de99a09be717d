"""Headless Chromium, and how tests use the page."""

import json
import shutil

import httpx2
from playwright.sync_api import Locator, Page, expect

from tests.conftest import SAMPLE

CHROMIUM = shutil.which("chromium")


FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


STROKES: dict[str, list[list[list[float]]]] = json.loads((SAMPLE / "strokes.json").read_text())


SOON = 30_000  # ms; the machine may be busy


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
    for label in page.locator("#chosen label").all():
        box = label.locator("input")
        if box.get_attribute("value") in models and not box.is_checked():
            label.click()
    for label in page.locator("#chosen label").all():
        box = label.locator("input")
        if box.get_attribute("value") not in models and box.is_checked():
            label.click()
