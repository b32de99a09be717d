"""The page for everybody: keyboard, screen readers, colours, widths."""

import io
from typing import Any

import httpx2
import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Page, expect

from tests.browser import (
    SOON,
    NewPage,
    answer,
    api,
    choose,
    chromium,
    draw,
    explained,
    new_page,
    page,
    run_to_its_end,
    says,
)
from tests.conftest import ADMIN_KEY, ROOT
from tests.processes import wait_for

pytestmark = pytest.mark.browser

# A focused control is ringed itself, or what stands for it.
RING = """(() => {
    const on = document.activeElement;
    return [on, on.parentElement, on.nextElementSibling]
        .some((each) => each && getComputedStyle(each).outlineStyle !== "none");
})()"""
MANY = "#/try?model=digits,minist,cnn,softmax-mnist"


def test_by_keyboard_alone(page: Page) -> None:
    """A 1 is drawn, a correction given, every view is reached, and back; every stop shows its focus."""
    expect(answer(page)).to_be_visible(timeout=SOON)
    press = page.keyboard.press

    def tab_to(selector: str) -> None:
        for _ in range(80):
            press("Tab")
            if page.evaluate("s => document.activeElement.matches(s)", selector):
                assert page.evaluate(RING), selector
                return
        raise AssertionError(f"{selector} was not reached")

    tab_to("#canvas")
    press(" ")
    for _ in range(14):
        press("ArrowDown")
    press(" ")
    says(page, "1")
    press("Backspace")
    says(page, "–")
    tab_to(".samples button")
    press("Enter")
    says(page, "0")
    stops = (
        ("data", "Bring pictures or a table"),
        ("train", "New run"),
        ("models", "minist"),
        ("try", "Draw a digit"),
    )
    for view, heading in stops:
        page.evaluate("document.activeElement.blur()")
        tab_to(f"nav a[href='#/{view}']")
        press("Enter")
        expect(page.get_by_role("heading", name=heading, exact=True)).to_be_visible(timeout=SOON)
        assert page.evaluate("document.activeElement.id") == f"{view}-title"
    says(page, "0")  # the drawing was kept


@pytest.fixture(scope="module")
def finished(api: httpx2.Client) -> str:
    return str(run_to_its_end(api, "look", promote="always")["id"])


def views(job: str) -> list[tuple[str, str]]:
    """Every view with something that is there once it has loaded."""
    return [
        ("#/try", ".answer"),
        (MANY, ".answer"),
        ("#/data", ".sets, #bring-name"),
        ("#/train", "#set-epochs"),
        (f"#/train/{job}", ".outcome"),
        ("#/runs", ".runs input"),
        ("#/models", ".model-card"),
        ("#/models/look", ".confusion button"),
        ("#/models/fashion-cnn", ".version-card"),
        ("#/live", "[data-part=tasks]"),
    ]


LOOKS: list[tuple[int, dict[str, Any]]] = [
    (1280, {"color_scheme": "light"}),
    (1280, {"color_scheme": "dark"}),
    (1280, {"color_scheme": "dark", "forced_colors": "active"}),
    (1280, {"color_scheme": "light", "forced_colors": "active"}),
    (360, {"forced_colors": "none", "color_scheme": "light"}),
]


def test_axe_finds_nothing(new_page: NewPage, finished: str, api: httpx2.Client) -> None:
    """Of any impact, on any view, with all that can be opened open. Each view is opened once, then looked at in
    all colours."""
    seen = api.post("/predict?model=cnn", files={"file": (ROOT / "examples/4.png").read_bytes()}).json()
    page = new_page(reduced_motion="reduce")
    page.evaluate("key => sessionStorage.setItem('minist-key', key)", ADMIN_KEY)
    while api.post("/feedback", json={"prediction": seen["id"], "label": "9"}).status_code != 201:
        page.wait_for_timeout(50)
    page.reload()  # what is corrected elsewhere is seen when the view is loaded
    for route, there in views(finished):
        page.set_viewport_size({"width": 1280, "height": 900})
        open_all(page, route, there)
        for width, look in LOOKS:
            page.emulate_media(**look)
            page.set_viewport_size({"width": width, "height": 900})
            page.evaluate("Promise.allSettled(document.getAnimations().map(({ finished }) => finished))")
            found = [
                (each["id"], [node["html"][:160] for node in each["nodes"]])
                for each in Axe().run(page).response["violations"]
            ]
            assert found == [], (route, width, look)


def open_all(page: Page, route: str, there: str) -> None:
    """A view with something in it, and nothing folded away."""
    page.goto(page.url.split("#")[0] + route)
    page.locator(f"{there} >> visible=true").first.wait_for()
    if route.startswith("#/try"):
        draw(page, "4")
        explained(page)
        expect(page.locator("#request")).to_be_visible(timeout=SOON)
    if page.locator("#key").is_visible() and route == "#/try":
        page.get_by_role("button", name="Show them").click()
        page.get_by_role("button", name="Label unsure pictures").click()
        page.locator(".queue .labels").wait_for()
    if "look" in route:
        page.locator(".confusion button").first.click()
        page.locator("#shelf .gallery li").first.wait_for()
    if route == "#/train":
        expect(page.locator("#run-request")).to_be_visible(timeout=SOON)
    closed = page.locator("details:not([open]) > summary >> visible=true")
    while closed.count():
        closed.first.click()


def test_forced_colours_show_the_drawing_and_what_is_chosen(new_page: NewPage) -> None:
    page = new_page(forced_colors="active")
    expect(answer(page)).to_be_visible(timeout=SOON)
    choose(page, "digits", "cnn")
    draw(page, "1")
    says(page, "1")
    page.mouse.move(5, 5)
    pad = Image.open(io.BytesIO(page.locator("#pad").screenshot())).convert("L")
    shades = pad.histogram()
    dark, light = sum(shades[:60]), sum(shades[200:])
    assert dark > 2 * light > 0.02 * sum(shades)  # light ink, dark ground
    ground = "each => getComputedStyle(each).backgroundColor"
    chosen = page.locator("#chosen input:checked + span")
    others = page.locator("#chosen input:not(:checked) + span")
    assert chosen.first.evaluate(ground) != others.first.evaluate(ground)
    pressed = page.locator("#subjects [aria-pressed=true]").evaluate(ground)
    assert pressed != page.locator("#subjects [aria-pressed=false]").evaluate(ground)


def test_four_answers_fit_a_phone(new_page: NewPage) -> None:
    page = new_page(MANY, viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    expect(page.locator(".answer")).to_have_count(4, timeout=SOON)
    draw(page, "2")
    explained(page, "softmax-mnist")
    # The pad and all answers; what lies under them (corrections of other tests among it) may be of any length.
    bottom = "document.querySelector('.answer-side').getBoundingClientRect().bottom + scrollY"
    wait_for(lambda: page.evaluate(bottom) < 2.4 * 844)
    for bar in page.locator(".answer .bars li").all():
        box = bar.locator(".track").bounding_box()
        assert box
        assert box["width"] > 40
