"""Every view, everything opened and names long: not wider than any window, and nothing for programs in it."""

import re

import httpx2
import pytest
from playwright.sync_api import Page, expect

from tests.browser import (
    SOON,
    NewPage,
    address,
    answer,
    api,
    chromium,
    draw,
    explained,
    new_page,
    page,
    run_to_its_end,
)
from tests.conftest import ADMIN_KEY
from tests.test_page_data import bring, picture, shapes

pytestmark = pytest.mark.browser

LONG = "a" + "-long-name" * 6
WIDTHS = [*range(320, 420, 20), *range(420, 1601, 40), 1280]
BEYOND = """() => {
    const { clientWidth, scrollWidth } = document.documentElement;
    if (scrollWidth <= clientWidth) return [];
    return [...document.querySelectorAll("main *")]
        .filter((each) => !each.closest(".wide") && each.getBoundingClientRect().right > clientWidth)
        .map((each) => each.outerHTML.slice(0, 80));
}"""
# Names of routes, settings, options, and what Pydantic says.
FOR_PROGRAMS = re.compile(
    r"\b(GET|POST|PUT|PATCH|DELETE) /|/models/\{|MINIST_|(^|\s)--[a-z]|String should|Input should|Value error",
    re.MULTILINE,
)


@pytest.fixture(scope="module")
def views(api: httpx2.Client) -> list[tuple[str, str]]:
    """Every view, with something that is there once it has loaded."""
    run_to_its_end(api, LONG, epochs=1, promote="always")
    job = run_to_its_end(api, LONG, epochs=2, promote="never")["id"]
    bring(api, "phone", {**shapes(6), f"{'long' * 20}/1.png": picture("round", 1), "broken/1.png": b"no"})
    lines = "".join(
        f"{i},{i * 7919 % 997},{('red', 'blue')[i // 2 % 2]},{'ab'[i // 3 % 2]}\n" for i in range(60)
    )
    table = f"number,size,colour,{LONG}\n{lines}".encode()
    api.post(
        "/datasets", params={"name": "kinds"}, content=table, headers={"content-type": "text/csv"}
    ).raise_for_status()
    return [
        ("#/try?model=digits,minist,cnn,softmax-mnist", ".answer"),
        (f"#/try?model={LONG}", ".answer"),
        ("#/try?model=fashion", ".answer"),
        ("#/data", ".sets"),
        ("#/data/phone", ".samples-of"),
        ("#/data/kinds", "#columns-title"),
        ("#/train", "#set-epochs"),
        (f"#/train/{job}", ".outcome"),
        ("#/runs", ".runs input"),
        ("#/models", ".model-card"),
        (f"#/models/{LONG}", ".confusion button"),
        ("#/models/cnn", ".version-card"),
        ("#/models/fashion-cnn", ".version-card"),
        ("#/live", "[data-part=tasks] summary"),
    ]


def open_everything(page: Page, route: str, there: str) -> None:
    page.goto(page.url.split("#")[0] + route)
    page.locator(f"{there} >> visible=true").first.wait_for()
    if route.startswith("#/try") and "fashion" not in route:
        draw(page, "4")
        explained(page, LONG if LONG in route else "digits")
        expect(page.locator("#request")).to_be_visible(timeout=SOON)
    if route == "#/runs":
        for box in page.locator(".runs input").all()[:2]:
            box.check()
        page.locator(".beside canvas").first.wait_for()
    if route == f"#/models/{LONG}":
        page.locator(".confusion button").first.click()
        page.locator(".gallery li").first.wait_for()
    closed = page.locator("main details:not([open]) > summary >> visible=true")
    while closed.count():
        closed.first.click()


def test_no_view_is_wider_than_a_window_or_speaks_to_programs(
    new_page: NewPage, views: list[tuple[str, str]]
) -> None:
    page = new_page("#/models")
    page.evaluate("key => sessionStorage.setItem('minist-key', key)", ADMIN_KEY)
    for route, there in views:
        page.set_viewport_size({"width": 1280, "height": 800})
        open_everything(page, route, there)
        text = page.evaluate("""() => {
            const rest = document.querySelector("main").cloneNode(true);
            for (const each of rest.querySelectorAll("pre, code, [data-part=requests], [data-part=problems]"))
                each.remove();
            return [...rest.querySelectorAll("*")].map((each) =>
                [...each.childNodes].filter((node) => node.nodeType === 3).map((node) => node.data).join(" ")
            ).join(" | ");
        }""")
        assert not FOR_PROGRAMS.search(text), (route, FOR_PROGRAMS.findall(text))
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 800})
            assert page.evaluate(BEYOND) == [], (route, width)


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("no version serves: choose a version by PUT /models/{name}/aliases/production", "No version serves."),
        (
            "cancel the job or delete the version first, or add ?force=true",
            "Cancel the job or delete the version first.",
        ),
        (
            "it is not here (HTTP Error 403: no): put it into x, or name it with --data-dir or MINIST_DATA_DIR",
            "It is not here: put it into x.",
        ),
        ("double-softmax is not to be had: it needs --loss double-softmax", "Double-softmax is not to be had."),
    ],
)
def test_what_is_for_programs_is_left_out(page: Page, said: str, shown: str) -> None:
    told = page.evaluate(
        """async (detail) => {
            const [{ told }, { Problem }] = await Promise.all(
                [import("./static/page/words.js"), import("./static/page/api.js")]);
            return told(new Problem(new Response("", { status: 409 }), { title: "Conflict", detail }));
        }""",
        said,
    )
    assert told == f"Conflict. {shown}"
