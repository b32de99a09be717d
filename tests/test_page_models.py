"""Models: what is served, mistakes, comparisons and versions."""

import io
import json
import re

import httpx2
import pytest
import torch
from playwright.sync_api import Page, expect
from torch import nn

from tests.browser import SOON, NewPage, api, chromium, give_key, new_page, run_to_its_end, served

pytestmark = pytest.mark.browser


def test_every_model_is_a_card(new_page: NewPage, api: httpx2.Client) -> None:
    page = new_page("#/models")
    for model in api.get("/models").json():
        card = page.locator(".model-card", has=page.get_by_role("link", name=model["name"], exact=True))
        expect(card).to_contain_text(f"{100 * model['accuracy']:.2f} %")
        expect(card).to_contain_text(f"{model['parameters']:,}")


def test_a_version_is_downloaded(new_page: NewPage, api: httpx2.Client) -> None:
    page = new_page("#/models/cnn")
    with page.expect_download() as saved:
        page.get_by_role("button", name="Download version 1 as safetensors").click(timeout=SOON)
    assert saved.value.suggested_filename == "cnn-1.safetensors"
    expected = api.get("/models/cnn@1/export?format=safetensors").content
    assert saved.value.path().read_bytes() == expected


def test_confusion_leads_to_the_mistakes(new_page: NewPage, api: httpx2.Client) -> None:
    page = new_page("#/models/softmax-mnist")
    expected = api.get("/models/softmax-mnist/versions/1/confusion").json()
    table = page.locator(".confusion")
    table.wait_for()
    shown = table.locator("tbody tr").evaluate_all(
        "rows => rows.map(r => [...r.querySelectorAll('td')].map(c => Number(c.textContent) || 0))"
    )
    assert shown == expected["matrix"]
    first = table.locator("button").first
    count = int(first.inner_text())
    right, said = re.findall(r"(\d) taken for (\d)", str(first.get_attribute("aria-label")))[0]
    first.click()
    gallery = page.locator("#mistakes-title ~ div .gallery li")
    expect(gallery).to_have_count(min(12, count), timeout=SOON)
    expect(page.locator("#mistakes-title ~ div")).to_contain_text(f"{right} taken for {said}")
    page.get_by_role("button", name="Show all, surest first").click()
    surest = api.get("/models/softmax-mnist/versions/1/mistakes?limit=500").json()
    expect(gallery.first).to_contain_text(f"no. {surest[0]['index']}", timeout=SOON)
    page.get_by_role("button", name=f"Show all {len(surest)}").click()
    expect(gallery).to_have_count(len(surest))
    gallery.first.get_by_role("link", name="Open").click()
    expect(page.locator(".answer[data-model='softmax-mnist@1'] .label")).to_have_text(surest[0]["predicted"])
    assert page.url.endswith("#/try?model=softmax-mnist@1")


def test_layers_and_every_version_can_be_looked_into_and_tried(new_page: NewPage) -> None:
    page = new_page("#/models/cnn")
    page.get_by_text("Layers of version 1").click()
    row = page.get_by_role("region", name="Layers").get_by_role("row", name=re.compile("^conv2 "))
    expect(row).to_have_text(re.compile(r"conv2\s*Conv2d\s*20 × 8 × 8\s*5,020"))
    page.get_by_role("link", name="Try it: version 1").click()
    expect(page.locator("#chosen input:checked")).to_have_value("cnn@1")


def test_two_models_are_compared(new_page: NewPage, api: httpx2.Client) -> None:
    page = new_page("#/models/softmax-mnist")
    page.select_option("#other", "cnn@1")
    page.get_by_role("button", name="Compare").click()
    told = api.get("/models/softmax-mnist/compare?a=1&b=1&other=cnn").json()
    section = page.get_by_role("region", name="Compare version 1")
    expect(section).to_contain_text(f"They agree on {100 * told['agreement']:.2f} %", timeout=SOON)
    expect(section.locator(".gallery li")).to_have_count(min(12, len(told["differ"])))


def test_versions_are_served_rolled_back_and_deleted(new_page: NewPage, api: httpx2.Client) -> None:
    for _ in range(2):
        run_to_its_end(api, "pair", epochs=1, promote="always")
    page = new_page("#/models/pair")
    one = page.locator("[data-version='1']")
    one.get_by_role("button", name="Serve").click()
    give_key(page)
    expect(one.locator(".tag")).to_have_text("production", timeout=SOON)
    assert served(api, "pair") == 1
    page.get_by_role("button", name="Roll back").click()
    expect(page.locator("[data-version='2'] .tag")).to_have_text("production", timeout=SOON)
    assert served(api, "pair") == 2
    expect(page.locator(".history li").first).to_contain_text("rolled back to 2")
    one.get_by_role("button", name="Delete").click()
    one.get_by_role("button", name="Sure?").click()
    expect(page.locator(".version-card")).to_have_count(1)


def test_an_unknown_model_is_an_error(new_page: NewPage) -> None:
    page = new_page("#/models/nobody")
    expect(page.locator("#shelf .note.error")).to_contain_text("Unknown model")


def test_a_roll_back_to_nothing_is_refused_in_plain_words(new_page: NewPage, api: httpx2.Client) -> None:
    run_to_its_end(api, "lone", epochs=1)
    run_to_its_end(api, "lone", epochs=1, promote="never")
    page = new_page("#/models/lone")
    page.get_by_role("button", name="Roll back").click()
    give_key(page)
    problem = page.get_by_role("alert").filter(has_text="no other version")
    expect(problem).to_be_visible(timeout=SOON)
    assert "PUT" not in problem.inner_text()


def test_a_version_that_cannot_be_loaded_is_named(new_page: NewPage) -> None:
    broken = {"name": "cnn", "version": 3, "serving": 2, "reason": "cnn.pth is damaged"}
    page = new_page()
    page.route("**/readyz", lambda route: route.fulfill(json={"status": "ok", "degraded": [broken]}))
    page.click("nav >> text=Models")
    note = page.get_by_role("alert").filter(has_text="Version 3 of cnn cannot be loaded")
    expect(note).to_contain_text("Version 2 answers instead. Cnn.pth is damaged.")


def bring(page: Page, name: str, weights: object, **card: object) -> None:
    """Choose a file, and a card where one is said, in the form of the view that is shown."""
    stream = io.BytesIO()
    torch.save(weights, stream)
    files = [{"name": f"{name}.pth", "mimeType": "application/octet-stream", "buffer": stream.getvalue()}]
    page.get_by_text("Bring weights from elsewhere").click()
    page.get_by_label("Choose weights").set_input_files(files)  # type: ignore[arg-type]
    if card:
        said = {"name": "card.json", "mimeType": "application/json", "buffer": json.dumps(card).encode()}
        page.get_by_label("Choose a card").set_input_files(said)  # type: ignore[arg-type]


def test_weights_from_elsewhere_become_a_version_that_says_what_was_inferred(
    new_page: NewPage, api: httpx2.Client
) -> None:
    page = new_page("#/models")
    net = nn.Sequential(nn.Flatten(), nn.Linear(784, 24), nn.Tanh(), nn.Linear(24, 10))
    bring(page, "My net", net.state_dict(), mean=0, std=1, activation="tanh")
    expect(page.locator("#weights-model")).to_have_value("my-net")
    page.select_option("#weights-dataset", "mnist")
    page.get_by_role("button", name="Upload").click()
    give_key(page)
    version = page.locator("[data-version='1']")
    version.get_by_text("What was inferred").click(timeout=SOON)
    expect(version.locator(".notes")).to_contain_text("1 (linear 784-24), tanh, 3 (linear 24-10)")
    expect(version).to_contain_text("brought as weights")
    expect(page.get_by_role("status").filter(has_text="It is version 1 of my-net")).to_be_visible()
    tested = api.get("/models/my-net").json()["metrics"]["test"]["accuracy"]
    expect(version.locator(".figure")).to_contain_text(f"{100 * tested:.2f} %")


def test_weights_that_cannot_be_used_say_why(new_page: NewPage) -> None:
    page = new_page("#/models/cnn")
    weights = torch.load("models/weights/cnn.pth", weights_only=True)
    weights = {key: value for key, value in weights.items() if not key.startswith("conv2.")}
    bring(page, "broken", weights)
    expect(page.locator("#weights-model")).to_have_value("cnn")
    page.get_by_role("button", name="Upload").click()
    give_key(page)
    problem = page.get_by_role("form", name="Bring weights").get_by_role("alert")
    expect(problem).to_contain_text("'cnn' fits best: missing conv2.weight, conv2.bias")
    page.get_by_label("Choose a card").set_input_files(
        {"name": "card.json", "mimeType": "application/json", "buffer": b"[1]"}
    )
    page.get_by_role("button", name="Upload").click()
    expect(problem).to_contain_text("no JSON object")
