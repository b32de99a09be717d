"""Every view at 360, 768 and 1600 pixels, light and dark: `python -m tests.screenshots FOLDER`.

A service is started on the full data sets (MINIST_DATA_DIR, else the shared folder beside the checkout), trains
for a minute, and gets two corrections.
"""

import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
from playwright.sync_api import Browser, Page, sync_playwright

from tests.browser import CHROMIUM, FLAGS, address, choose, draw, explained
from tests.conftest import ADMIN_KEY, ROOT
from tests.processes import service

WIDTHS = (360, 768, 1600)
JOB = {"model": "softmax-mnist", "recipe": "softmax-mnist", "epochs": 8, "lr": 0.1, "promote": "always"}


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    data = os.environ.get("MINIST_DATA_DIR", str(ROOT.parent / "shared" / "data"))
    with tempfile.TemporaryDirectory() as home:
        started = service(Path(home), MINIST_DATA_DIR=data, MINIST_FEEDBACK="true")
        with started as (_, client), sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
            take(browser, client, folder)
            browser.close()


def take(browser: Browser, client: httpx2.Client, folder: Path) -> None:
    job = client.post("/train", json=JOB).json()["id"]
    while client.get(f"/train/{job}").json()["status"] != "succeeded":
        time.sleep(1)
    for label in "46":
        picture = (ROOT / f"examples/{label}.png").read_bytes()
        seen = client.post("/predict?model=softmax-mnist", files={"file": picture})
        client.post("/feedback", json={"prediction": seen.json()["id"], "label": "9"})
    client.post("/train", json={**JOB, "model": "minist", "recipe": "mlp", "epochs": 40})
    running = client.get("/train").json()["jobs"][0]["id"]
    while client.get(f"/train/{running}").json()["epoch"] < 3:
        time.sleep(1)
    client.post("/train", json={**JOB, "model": "cnn", "recipe": "cnn"})
    views: dict[str, tuple[str, Callable[[Page], Any] | None]] = {
        "empty": ("#/try", None),
        "try": ("#/try", drawn),
        "fashion": ("#/try", garment),
        "train": (f"#/train/{running}", None),
        "trained": (f"#/train/{job}", None),
        "shelf": ("#/models", None),
        "model": ("#/models/softmax-mnist", mistakes),
        "fashion-model": ("#/models/fashion-cnn", None),
    }
    for scheme in ("light", "dark"):
        for width in WIDTHS:
            page = browser.new_page(
                color_scheme=scheme, viewport={"width": width, "height": 800 if width < 500 else 900}
            )
            page.goto(address(client))
            page.evaluate("key => sessionStorage.setItem('minist-key', key)", ADMIN_KEY)
            for name, (route, prepare) in views.items():
                page.goto(f"{address(client)}/{route}")
                page.reload()
                page.wait_for_timeout(2500)
                if prepare:
                    prepare(page)
                    page.wait_for_timeout(500)
                page.screenshot(path=folder / f"{name}-{width}-{scheme}.png", full_page=True)
            page.close()
    client.delete(f"/train/{running}")


def drawn(page: Page) -> None:
    wide = (page.viewport_size or {"width": 0})["width"] > 1000
    choose(page, *(("digits", "minist", "softmax-mnist") if wide else ("digits",)))
    draw(page, "8")
    explained(page)


def garment(page: Page) -> None:
    page.click("text=Fashion")
    page.get_by_role("button", name="Sample: sandal").click()
    explained(page, "fashion")


def mistakes(page: Page) -> None:
    page.locator(".confusion button").first.click()
    page.select_option("#other", index=0)
    page.get_by_role("button", name="Compare").click()
    page.locator("#compare-title ~ div .gallery").wait_for()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
