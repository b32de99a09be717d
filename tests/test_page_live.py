"""Live: what an operator sees while it happens, with a key of scope admin."""

import json
import re
from pathlib import Path

import httpx2
import pytest
from playwright.sync_api import expect

from tests.browser import NewPage, api, chromium, give_key, new_page
from tests.conftest import ADMIN_KEY
from tests.samples import PNG

pytestmark = pytest.mark.browser


def test_an_operator_sees_requests_models_errors_and_the_machine(
    new_page: NewPage, api: httpx2.Client, digits: dict[str, bytes]
) -> None:
    page = new_page("#/live")
    give_key(page)
    expect(page.get_by_text("Measured once a second")).to_be_visible()
    requests = page.locator("[data-part=requests]")
    for label in "733":
        api.post("/predict?model=cnn", content=digits[label], headers=PNG).raise_for_status()
    api.post("/predict", content=b"junk", headers=PNG)
    mix = page.locator("[data-model='cnn@1']")
    expect(mix).to_contain_text("3 answers")
    row = mix.get_by_role("row", name=re.compile("^3 "))
    expect(row).to_contain_text("66.7 %")
    expect(row).to_contain_text("10.")  # of the test set
    expect(requests.locator("tbody tr").filter(has_text="cnn@1").first).to_contain_text("3 (")
    expect(page.locator("[data-part=problems]")).to_contain_text("Not an image")
    expect(page.locator("[data-part=machine]")).to_contain_text("SQLite")
    expect(page.locator("[data-part=jobs]")).to_contain_text("1 training worker")
    expect(page.locator("[data-part=tasks]")).to_contain_text("Following the aliases")
    assert "data:image" not in requests.inner_html()


def test_what_moves_can_be_stopped_and_a_view_that_is_left_is_not_measured(
    new_page: NewPage, api: httpx2.Client, digits: dict[str, bytes]
) -> None:
    page = new_page("#/live")
    give_key(page)
    rows = page.locator("[data-part=requests] tbody tr")
    page.get_by_role("button", name="Pause").click()
    page.wait_for_timeout(300)  # what was on its way
    before = page.locator("#live-body").inner_text()
    api.post("/predict?model=minist", content=digits["5"], headers=PNG).raise_for_status()
    page.wait_for_timeout(2200)  # two more would have come
    assert page.locator("#live-body").inner_text() == before
    page.get_by_role("button", name="Go on").click()
    expect(rows.filter(has_text="minist@1").first).to_contain_text("5 (")
    with page.expect_event("requestfailed", lambda request: "live/events" in request.url):
        page.click("nav >> text=Models")


def test_without_a_key_it_says_what_is_needed(new_page: NewPage, tmp_path: Path) -> None:
    page = new_page("#/live")
    page.get_by_role("button", name="Cancel").click()
    note = page.locator("#live-body .note.error")
    expect(note).to_contain_text("A valid key is needed")
    note.get_by_role("button", name="Try again").click()
    give_key(page)
    expect(page.locator("[data-part=machine]")).to_contain_text("Machine")


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_is_wider_than_the_window(new_page: NewPage, width: int) -> None:
    page = new_page("#/live", viewport={"width": width, "height": 800}, color_scheme="dark")
    give_key(page)
    expect(page.locator("[data-part=tasks] summary").first).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_a_drift_is_shown_with_its_hours(new_page: NewPage, api: httpx2.Client) -> None:
    page = new_page("#/models")
    page.evaluate("key => sessionStorage.setItem('minist-key', key)", ADMIN_KEY)
    page.route(
        "**/live/events", lambda route: route.fulfill(body=stream(api), content_type="text/event-stream")
    )
    page.goto(page.url.split("#")[0] + "#/live")
    mix = page.locator("[data-model='softmax-mnist@1']")
    expect(mix.locator(".drifts")).to_contain_text("drifts since")
    expect(mix).to_contain_text("stability index 1.20 (limit 0.25) for classes")
    mix.get_by_text("Hour by hour").click()
    expect(mix.locator("details", has_text="Hour by hour")).to_contain_text("hours are written once a minute")


def stream(api: httpx2.Client) -> str:
    """What is measured now, with a model that has drifted."""
    body = api.get("/live").json()
    index = {"psi": 1.2, "limit": 0.25}
    drift = {"images": 412, "hours": 2, "against": "test", "since": "2026-01-31T12:00:00Z"}
    mix = {
        **{"model": "softmax-mnist", "version": 1, "serving": True, "answers": 412, "recent": 3, "warned": 0},
        **{"failed": 0, "labels": {"7": 1}, "expected_labels": {"7": 0.1}, "confidence": [0] * 10 + [1]},
        **{"expected_confidence": [0] * 10 + [1], "drift": {**drift, "labels": index, "confidence": index}},
    }
    return f"event: live\nid: 1\ndata: {json.dumps({**body, 'models': [mix]})}\n\n"


def test_shared_traffic_is_shown_and_ended(
    new_page: NewPage, api: httpx2.Client, digits: dict[str, bytes]
) -> None:
    api.put("/models/cnn/aliases/candidate", json={"version": 1}).raise_for_status()
    api.put("/models/cnn/traffic", json={"shadow": "candidate", "why": "the same"}).raise_for_status()
    page = new_page("#/live")
    give_key(page)
    shared = page.locator("[data-traffic=cnn]")
    expect(shared).to_contain_text("goes on")
    answer = api.post("/predict?model=cnn", content=digits["7"], headers=PNG).json()
    expect(shared).to_contain_text("candidate in the shadow agrees on 100.0 % of 1 input")
    api.post("/feedback", json={"prediction": answer["id"], "label": "1"}).raise_for_status()
    shared.get_by_role("button", name="Compare on corrections").click()
    expect(shared.get_by_role("status")).to_contain_text("that may be chance (McNemar, p = 1.000)")
    shared.get_by_role("button", name="End it").click()
    shared.get_by_role("button", name="Sure?").click()
    expect(shared.locator(".tag")).to_have_text("ended")
