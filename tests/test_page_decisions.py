"""Decisions are asked before they hurt: other data for a model, a worse version, names, the end of a model."""

import httpx2
import pytest
from playwright.sync_api import Page, Route, expect

from tests.browser import SOON, NewPage, address, api, chromium, new_page, page, run_to_its_end, served
from tests.conftest import ADMIN_KEY

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def worse(api: httpx2.Client) -> str:
    """The job that made version 2 of `softmax-mnist`, which is worse than version 1."""
    return str(run_to_its_end(api, "softmax-mnist", epochs=1, lr=1e-5, promote="never")["id"])


def with_key(page: Page) -> None:
    page.evaluate("key => sessionStorage.setItem('minist-key', key)", ADMIN_KEY)


def test_other_data_than_a_model_knows_is_warned_of_before_the_start(page: Page, api: httpx2.Client) -> None:
    with_key(page)
    page.goto(f"{address(api)}/#/train?model=digits")
    expect(page.locator("#model")).to_have_value("digits", timeout=SOON)
    warning = page.locator("#run-warning")
    expect(warning).to_be_empty()
    page.select_option("#set-dataset", "fashion-mnist")
    expect(warning).to_contain_text("digits was trained on mnist and answers with 10 classes")
    expect(warning).to_contain_text("choose another name, such as fashion-mnist")
    page.select_option("#promote", "always")
    expect(warning).to_contain_text("takes the place of version 1 whatever comes out")
    page.click("text=Start training")
    expect(page.get_by_role("button", name="Start all the same")).to_be_visible()
    assert page.evaluate("document.activeElement.id") == "run-warning"
    assert api.get("/train").json()["jobs"] == []
    page.fill("#model", "garments")
    expect(warning).to_be_empty()
    expect(page.get_by_role("button", name="Start training")).to_be_visible()


def test_a_worse_version_serves_only_after_its_difference_was_shown(
    page: Page, api: httpx2.Client, worse: str
) -> None:
    with_key(page)
    page.goto(f"{address(api)}/#/train/{worse}")
    outcome, dialog = (
        page.locator(".outcome"),
        page.get_by_role("dialog", name="Serve version 2 of softmax-mnist?"),
    )
    serve = outcome.get_by_role("button", name="Serve version 2 …")
    expect(outcome).to_contain_text("It has an accuracy of", timeout=SOON)
    expect(serve).not_to_have_class("strong")
    serve.click()
    expect(dialog).to_contain_text("McNemar", timeout=SOON)
    expect(dialog.locator(".gallery li").first).to_be_visible()
    assert page.evaluate("document.activeElement.textContent") == "Keep version 1"
    page.keyboard.press("Enter")
    expect(dialog).to_have_count(0)
    assert served(api, "softmax-mnist") == 1
    serve.click()
    dialog.get_by_role("button", name="Serve version 2 all the same").click()
    expect(outcome).to_contain_text("It is served now.", timeout=SOON)
    assert served(api, "softmax-mnist") == 2
    outcome.get_by_role("button", name="Roll back").click()  # to a better one: at once
    expect(outcome).to_contain_text("It is not served.", timeout=SOON)


@pytest.mark.usefixtures("worse")
def test_other_classes_are_named_before_they_are_served(page: Page, api: httpx2.Client) -> None:
    def renamed(route: Route) -> None:
        card = route.fetch().json()
        route.fulfill(json={**card, "classes": [*card["classes"][:9], "nine"]})

    page.route("**/models/softmax-mnist%402", renamed)
    with_key(page)
    page.goto(f"{address(api)}/#/models/softmax-mnist")
    version = page.locator("[data-version='2']")
    version.get_by_role("button", name="Serve").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("It does not know 1 class: “9”.", timeout=SOON)
    expect(dialog).to_contain_text("New are 1 class: “nine”.")
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    assert served(api, "softmax-mnist") == 1


@pytest.mark.usefixtures("worse")
def test_names_and_models_are_made_renamed_and_deleted(new_page: NewPage, api: httpx2.Client) -> None:
    page = new_page("#/models/softmax-mnist")
    with_key(page)
    names = page.get_by_role("region", name="Names of versions")
    names.get_by_text("New name").click(timeout=SOON)
    names.get_by_label("Name", exact=True).fill("Candidate")
    names.get_by_role("button", name="Make it").click()
    expect(names.locator(".field .problem").first).to_contain_text("Small letters")
    names.get_by_label("Name", exact=True).fill("candidate")
    names.get_by_role("button", name="Make it").click()
    names.get_by_text("Change", exact=True).click(timeout=SOON)
    names.get_by_role("form", name="Change candidate").get_by_label("Name").fill("next")
    names.get_by_role("button", name="Change it").click()
    expect(names.get_by_role("link", name="Try softmax-mnist@next")).to_be_visible(timeout=SOON)
    assert api.get("/models/softmax-mnist/versions").json()[0]["aliases"] == ["next"]
    names.get_by_role("button", name="Delete").click()
    names.get_by_role("button", name="Sure?").click()
    expect(names.get_by_text("next")).to_have_count(0, timeout=SOON)
    page.get_by_text("Copy version 1 to another model").first.click()
    page.get_by_role("form", name="Copy version 1").get_by_label("New name").fill("first")
    page.get_by_role("button", name="Copy version 1 to another model").click()
    expect(page.get_by_role("heading", name="first", exact=True)).to_be_visible(timeout=SOON)
    assert served(api, "first") == 1
    page.get_by_text("Rename first", exact=True).first.click()
    page.get_by_role("form", name="Rename first").get_by_label("New name").fill("digits")
    page.get_by_role("button", name="Rename first").click()
    expect(page.get_by_role("alert").filter(has_text="there is a model 'digits'")).to_be_visible(timeout=SOON)
    page.get_by_role("form", name="Rename first").get_by_label("New name").fill("renamed")
    page.get_by_role("button", name="Rename first").click()
    page.get_by_text("Delete renamed", exact=True).first.click(timeout=SOON)
    button = page.get_by_role("button", name="Delete renamed")
    expect(button).to_be_disabled()
    page.get_by_label("Its name, to be sure").fill("renamed")
    button.click()
    expect(page.get_by_role("heading", name="Models")).to_be_visible(timeout=SOON)
    assert api.get("/models/renamed").status_code == api.get("/models/first").status_code == 404
