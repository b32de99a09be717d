"""Milliseconds that people wait at the page, in headless Chromium: first paint, and from a stroke to its bars.

    python -m benchmarks.page [--strokes 60]

Needs Debian's chromium. The service is our own, on this machine, with the shipped models. `answer` is the
request alone (the browser's resource timing), `bars` goes from the pointer's event to the changed answer;
`first paint` is of a fresh context, with all models listed.
"""

import argparse
import platform
import tempfile
from pathlib import Path
from statistics import median, quantiles

import torch
from playwright.sync_api import Browser, sync_playwright

from tests.browser import CHROMIUM, FLAGS, address
from tests.processes import service

STROKES = """async (number) => {
    const canvas = document.querySelector("#canvas"), box = canvas.getBoundingClientRect();
    const answer = document.querySelector(".answer");
    const pointer = (type, x, y) => canvas.dispatchEvent(new PointerEvent(type,
        { pointerId: 1, isPrimary: true, button: 0, clientX: box.left + x, clientY: box.top + y }));
    canvas.setPointerCapture = () => {};
    canvas.hasPointerCapture = () => true;
    const took = [];
    pointer("pointerdown", 50, 50);
    for (let i = 0; i < number; i++) {
        await new Promise((done) => setTimeout(done, 120));
        const begun = performance.now();
        const moved = new Promise((done) => new MutationObserver((_, observer) => {
            observer.disconnect();
            done();
        }).observe(answer, { attributeFilter: ["data-number"] }));
        pointer("pointermove", 50 + 4 * (i % 50), 60 + i);
        await moved;
        took.push(performance.now() - begun);
    }
    pointer("pointerup", 200, 200);
    return took;
}"""
ANSWERS = """performance.getEntriesByType("resource")
    .filter(({ name }) => name.includes("predict") && !name.includes("explain"))
    .map(({ duration }) => duration)"""
PAINT = "performance.getEntriesByName('first-contentful-paint').map(({ startTime }) => startTime)"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--strokes", type=int, default=60)
    strokes = parser.parse_args().strokes
    with tempfile.TemporaryDirectory() as home, service(Path(home)) as (_, client), sync_playwright() as start:
        browser = start.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        paints = [first_paint(browser, address(client)) for _ in range(5)]
        bars, answers = drawn(browser, address(client), strokes)
        version = browser.version
        browser.close()
    print("| | median ms | p95 ms |\n|---|---|---|")
    for name, values in (("first paint", paints), ("answer", answers), ("bars", bars)):
        print(f"| {name} | {median(values):.1f} | {quantiles(values, n=20)[-1]:.1f} |")
    print(f"\n{platform.machine()}, torch {torch.__version__}, Chromium {version}")


def first_paint(browser: Browser, base: str) -> float:
    page = browser.new_page()
    page.goto(base)
    page.locator(".answer").wait_for()
    (milliseconds,) = page.evaluate(PAINT)
    page.close()
    return float(milliseconds)


def drawn(browser: Browser, base: str, strokes: int) -> tuple[list[float], list[float]]:
    """Milliseconds until the bars moved, and of the requests."""
    page = browser.new_page(viewport={"width": 1280, "height": 1000})
    page.goto(base)
    page.locator(".answer").wait_for()
    bars = page.evaluate(STROKES, strokes)
    return bars, page.evaluate(ANSWERS)


if __name__ == "__main__":
    main()
