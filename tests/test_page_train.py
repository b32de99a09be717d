"""Train: forms, runs with their curves, and what comes out of them."""

import re
from pathlib import Path

import httpx2
import pytest
from playwright.sync_api import Page, expect

from tests.browser import (
    A_RUN,
    SHORT,
    SOON,
    STROKES,
    NewPage,
    address,
    answer,
    api,
    begin_run,
    choose,
    chromium,
    draw,
    explained,
    give_key,
    new_page,
    page,
    run_to_its_end,
    says,
    served,
    shown,
)
from tests.conftest import ADMIN_KEY
from tests.processes import free_port, service, wait_for

pytestmark = pytest.mark.browser

# Charts of uPlot as they are made, in `charts`.
CHARTS = """
    let real;
    window.charts = [];
    Object.defineProperty(window, "uPlot", {
        get: () => real,
        set: (given) => {
            real = class extends given {
                constructor(...all) { super(...all); window.charts.push(this); }
            };
        },
    });
"""


def test_a_run_to_its_end_promoted_and_rolled_back(page: Page, api: httpx2.Client) -> None:
    run_to_its_end(api, "mine")
    page.goto(f"{address(api)}/#/train")
    begin_run(page, "mine", **SHORT, promote="never")
    give_key(page, "a wrong one")
    expect(page.locator("#key-problem")).to_contain_text("A valid key is needed", timeout=SOON)
    give_key(page)
    expect(page.locator(".job .status")).to_have_text("succeeded", timeout=A_RUN)
    expect(page.locator(".numbers tbody tr")).to_have_count(3)
    for plot in page.locator(".plot").all():
        expect(plot).to_have_attribute("aria-label", re.compile(r"after epoch 3: training [\d.]+"))
        assert plot.locator("canvas").evaluate(
            "c => c.getContext('2d').getImageData(0, 0, c.width, c.height).data.some((v) => v)"
        )
    expect(page.locator(".outcome h2")).to_have_text("Version 2")
    page.locator(".pictures img").first.scroll_into_view_if_needed()
    expect(page.locator(".pictures img")).to_have_count(4)
    shown(page.locator(".pictures img").first)
    page.click("text=Serve version 2")
    expect(page.locator(".outcome")).to_contain_text("It is served now.", timeout=SOON)
    assert served(api, "mine") == 2
    page.click("text=Roll back")
    expect(page.locator(".outcome")).to_contain_text("It is not served.", timeout=SOON)
    assert served(api, "mine") == 1
    kept = page.evaluate("[Object.entries(sessionStorage), localStorage.length]")
    assert kept == [[["minist-key", ADMIN_KEY]], 0]
    page.click("text=Forget key")
    assert page.evaluate("sessionStorage.length") == 0


def test_jobs_wait_are_cancelled_and_resumed(new_page: NewPage) -> None:
    page = new_page("#/train")
    begin_run(page, "long", **{**SHORT, "epochs": 900, "batch_size": 1})
    give_key(page)
    expect(page.locator(".job .progress-line")).to_contain_text("accuracy", timeout=A_RUN)
    page.evaluate("scrollTo(0, 0)")
    begin_run(page, "next", **SHORT)
    expect(page.locator(".job .progress-line")).to_have_text("Next to start", timeout=SOON)
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator(".job .status")).to_have_text("cancelled", timeout=SOON)
    page.locator(".jobs a", has_text="long").click()
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator(".job .status")).to_have_text("cancelled", timeout=SOON)
    page.locator(".jobs a", has_text="next").click()
    page.get_by_role("button", name="Resume").click()
    expect(page.locator(".job .status")).to_have_text("succeeded", timeout=A_RUN)


def test_a_wrong_setting_is_shown_at_its_field(new_page: NewPage) -> None:
    page = new_page("#/train")
    begin_run(page, "mine", **{**SHORT, "epochs": 0})
    expect(page.locator("#set-epochs-wrong")).to_have_text("At least 1.")
    assert page.evaluate("document.activeElement.id") == "set-epochs"
    expect(page.locator("#set-epochs")).to_have_attribute("aria-invalid", "true")


def test_the_run_is_shown_as_code(new_page: NewPage) -> None:
    page = new_page("#/train")
    page.click("#run-request summary")
    code = page.locator("#run-request code")
    expect(code).to_contain_text('"recipe": "softmax-mnist"')
    page.fill("#model", "mine")
    page.get_by_role("button", name="Python", exact=True).click()
    expect(code).to_contain_text('client.train(**{"recipe": "softmax-mnist", "model": "mine"')


def test_without_a_key_nothing_starts(new_page: NewPage, api: httpx2.Client) -> None:
    before = len(api.get("/train").json()["jobs"])
    page = new_page("#/train")
    begin_run(page, "mine", **SHORT)
    page.get_by_role("button", name="Cancel", exact=True).click()
    expect(page.locator("#run-problem")).to_contain_text("A valid key is needed")
    assert len(api.get("/train").json()["jobs"]) == before


def test_draw_wrong_correct_retrain_right(page: Page, api: httpx2.Client) -> None:
    run_to_its_end(api, "hand", epochs=1, promote="always")
    page.reload()
    expect(page.locator("#chosen")).to_contain_text("hand")
    choose(page, "hand")
    for label in STROKES:
        draw(page, label)
        explained(page, "hand")
        if answer(page, "hand").locator(".label").inner_text() != label:
            break
        page.click("#clear")
    else:
        raise AssertionError("a model of 400 digits and one epoch knows every digit")
    page.locator("#correct").get_by_role("button", name=label, exact=True).click()
    expect(page.locator("#correct")).to_contain_text("1 correction waits for hand", timeout=SOON)
    page.click("text=Show them")
    give_key(page)
    expect(page.locator(".kept .gallery li")).to_have_count(1, timeout=SOON)
    page.click("text=Train on them")
    expect(page.locator("#model")).to_have_value("hand")
    expect(page.locator("#recipe")).to_have_value("fine-tune")
    expect(page.locator("#feedback")).to_be_checked()
    begin_run(page, "hand", **SHORT, promote="always")
    expect(page.locator(".job .status")).to_have_text("succeeded", timeout=A_RUN)
    expect(page.locator("#job")).to_contain_text("1 of 1 is right now", timeout=SOON)
    page.locator("nav").get_by_text("Try").click()
    expect(answer(page, "hand").locator(".version")).to_have_text("version 2", timeout=SOON)
    says(page, label, "hand")
    page.get_by_role("button", name="Delete all").click()
    page.get_by_role("button", name="Sure?").click()
    expect(page.locator("#corrections")).to_contain_text("None yet", timeout=SOON)


@pytest.fixture(scope="module")
def apart(api: httpx2.Client) -> str:
    """The job of the second of two versions, which does not serve."""
    run_to_its_end(api, "apart", epochs=1)
    return str(run_to_its_end(api, "apart", epochs=2, lr=0.01, promote="never")["id"])


def test_runs_are_searched_sorted_put_side_by_side_and_repeated(
    page: Page, api: httpx2.Client, apart: str
) -> None:
    page.goto(f"{address(api)}/#/train")
    page.get_by_role("link", name="All runs in a table").click()
    table = page.get_by_role("region", name="Runs in a table")
    rows = table.locator("tbody tr")
    page.fill("#runs-search", "apart lr")
    expect(rows).to_have_count(1, timeout=SOON)
    expect(rows.first).to_contain_text("lr 0.01")
    page.fill("#runs-search", "apart")
    expect(rows).to_have_count(2)
    for order in ("descending", "ascending"):
        table.get_by_role("button", name="Test accuracy").click()
        expect(table.get_by_role("columnheader", name="Test accuracy")).to_have_attribute("aria-sort", order)
        shown = [float(text.split()[0]) for text in table.locator("td:nth-child(7)").all_inner_texts()]
        assert shown == sorted(shown, reverse=order == "descending")
    for box in table.get_by_role("checkbox").all():
        box.check()
    beside = page.get_by_role("region", name="Side by side")
    expect(beside.locator(".plot canvas")).to_have_count(2, timeout=SOON)
    expect(beside.get_by_role("row", name=re.compile("^lr"))).to_contain_text("0.01")
    beside.get_by_label("Logarithmic scale").check()
    expect(beside.locator(".plot canvas")).to_have_count(2)
    page.fill("#runs-search", "lr 0.01 apart")
    table.get_by_role("link", name="Again").click()
    expect(page.locator("#set-lr")).to_have_value("0.01", timeout=SOON)
    expect(page.locator("#model")).to_have_value("apart")
    expect(page.locator("#promote")).to_have_value("never")
    expect(page.locator("#run-pace")).to_have_text(
        re.compile(r"^About .* s, by the last run of softmax-mnist \(apart 2\)\.$")
    )
    page.goto(f"{address(api)}/#/train/{apart}")
    expect(page.get_by_role("link", name="Again with these settings")).to_be_visible(timeout=SOON)


def test_a_run_is_named_found_by_its_tag_and_its_report_is_a_tab(
    page: Page, api: httpx2.Client, apart: str
) -> None:
    page.evaluate("key => sessionStorage.setItem('minist-key', key)", ADMIN_KEY)
    page.goto(f"{address(api)}/#/train/{apart}")
    page.get_by_text("Name, notes, tags").click()
    form = page.get_by_role("form", name="Name, notes and tags of apart")
    form.get_by_label("Name", exact=True).fill("a higher rate")
    form.get_by_label("Notes").fill("It diverges.")
    form.get_by_label("Tags").fill("t" * 33)
    form.get_by_role("button", name="Save").click()
    expect(form.get_by_label("Tags")).to_have_accessible_description(re.compile("At most 32 letters in each"))
    form.get_by_label("Tags").fill("keep, odd")
    form.get_by_role("button", name="Save").click()
    head = page.locator(".job div.labels")
    expect(head).to_have_text("a higher rate#keep#oddIt diverges.")
    page.get_by_role("link", name="Report", exact=True).click()
    expect(page.frame_locator("iframe.report").get_by_role("heading", name="apart")).to_be_visible()
    expect(page.locator(".job .curves")).to_be_hidden()
    page.reload()  # the tab is in the address
    expect(page.frame_locator("iframe.report").get_by_role("heading", name="apart")).to_be_visible()
    page.get_by_role("link", name="Curves", exact=True).click()
    expect(page.locator(".job .curves")).to_be_visible()
    page.goto(f"{address(api)}/#/runs")
    rows = page.get_by_role("region", name="Runs in a table").locator("tbody tr")
    page.fill("#runs-search", "diverges #keep")
    expect(rows).to_have_count(1)
    rows.get_by_role("button", name="Name").click()
    dialog = page.get_by_role("dialog", name=re.compile("^apart of"))
    dialog.get_by_label("Name", exact=True).fill("")
    dialog.get_by_label("Tags", exact=True).fill("odd keep")
    dialog.get_by_role("button", name="Save").click()
    expect(rows).not_to_contain_text("a higher rate")
    assert api.get(f"/train/{apart}").json()["tags"] == ["keep", "odd"]


def test_a_new_version_is_tried_from_its_run(page: Page, api: httpx2.Client, apart: str) -> None:
    """Also where it does not serve."""
    page.goto(f"{address(api)}/#/train/{apart}")
    page.locator(".outcome").get_by_role("link", name="Try it").click()
    draw(page, "1")
    expect(answer(page, "'apart@2'").locator(".version")).to_have_text("version 2", timeout=SOON)
    says(page, answer(page, "'apart@2'").locator(".label").inner_text(), "'apart@2'")


def test_why_a_run_has_failed_is_announced_without_what_is_for_programs(
    page: Page, api: httpx2.Client, apart: str
) -> None:
    why = "data set 'mnist' is not here (HTTP Error 403): put it into raw, or name it with --data-dir"
    job = {**api.get(f"/train/{apart}").json(), "status": "failed", "error": why}
    page.route(
        re.compile(rf"\d/train/{apart}$"), lambda route: route.fulfill(json=job)
    )  # not of the page itself
    page.goto(f"{address(api)}/#/train/{apart}")
    shown = "Data set 'mnist' is not here: put it into raw."
    expect(page.locator(".job .problem").filter(has_text="mnist")).to_have_text(shown)
    expect(page.locator("#job").get_by_role("status")).to_have_text(f"apart: failed. {shown}")


def test_curves_begin_with_the_first_epoch_and_survive_a_reload(page: Page, api: httpx2.Client) -> None:
    """Steps too: an ended job keeps some of them."""
    job = run_to_its_end(api, "curves", epochs=4, batch_size=1)["id"]
    seen = api.get(f"/train/{job}/metrics").json()
    steps = [each["data"] for each in seen if each["event"] == "step"]
    assert steps
    losses = [each["loss"] for each in steps if each["step"] < each["steps"]]  # the last is the epoch's point
    page.add_init_script(CHARTS)
    page.goto(f"{address(api)}/#/train/{job}")
    page.reload()
    expect(page.locator(".numbers tbody tr")).to_have_count(4, timeout=SOON)
    wait_for(lambda: page.evaluate("charts.at(-1)?.data[0].length") == len(losses) + 4, SOON / 1000)
    low, high = page.evaluate("[charts.at(-2).scales.y.min, charts.at(-2).scales.y.max]")
    assert all(low <= loss <= high for loss in losses)


def test_help_speaks_of_the_choices_that_a_recipe_offers(new_page: NewPage) -> None:
    page = new_page("#/train")
    page.locator("#recipe").wait_for()
    about = page.locator("#set-optimizer-about")
    page.select_option("#recipe", "mlp")
    expect(about).not_to_contain_text("from-scratch")
    page.select_option("#recipe", "mlp-scratch")
    expect(about).to_contain_text("from-scratch")
    for recipe in page.locator("#recipe option").all_inner_texts():
        page.select_option("#recipe", recipe)
        assert "--" not in page.locator("#run").inner_text(), recipe


@pytest.mark.parametrize(
    ("field", "value", "problem"),
    [
        ("#model", "My model", "Small letters, digits and hyphens; a letter or digit first."),
        ("#model", "", "It cannot be empty."),
        ("#set-epochs", "1.5", "A whole number."),
        ("#set-epochs", "2000", "At most 1,000."),
        ("#set-lr", "0", "More than 0."),
        ("#set-momentum", "1", "Less than 1."),
    ],
)
def test_what_is_wrong_is_said_in_plain_words(new_page: NewPage, field: str, value: str, problem: str) -> None:
    page = new_page("#/train")
    page.locator("#recipe").wait_for()
    page.click("text=More settings")
    page.fill(field, value)
    page.click("text=Start training")
    expect(page.locator(f"{field}-wrong")).to_have_text(problem)
    assert page.evaluate("document.activeElement.id") == field[1:]


def test_what_only_the_service_can_judge_is_said_at_its_field(new_page: NewPage) -> None:
    page = new_page("#/train")
    page.evaluate("key => sessionStorage.setItem('minist-key', key)", ADMIN_KEY)
    page.locator("#recipe").wait_for()
    page.select_option("#recipe", "mlp-scratch")
    page.click("text=More settings")
    page.select_option("#set-loss", "brier")
    page.click("text=Start training")
    wrong = page.locator("#set-optimizer-wrong")
    expect(wrong).to_contain_text("choose optimizer sgd", timeout=SOON)
    assert "Value error" not in wrong.inner_text()


def test_a_run_started_while_the_service_is_away_starts_when_it_is_back(
    new_page: NewPage, tmp_path: Path
) -> None:
    port = free_port()
    with service(tmp_path, port=port) as (_, client):
        page = new_page("#/train", address(client))
        page.evaluate("key => sessionStorage.setItem('minist-key', key)", ADMIN_KEY)
        page.locator("#recipe").wait_for()
    begin_run(page, "patient", **{**SHORT, "epochs": 1})
    expect(page.locator("#run-problem")).to_contain_text("sent as soon as it is back", timeout=SOON)
    with service(tmp_path, port=port) as (_, client):
        expect(page.locator(".job h2")).to_contain_text("patient", timeout=A_RUN)
        assert [job["model"] for job in client.get("/train").json()["jobs"]] == ["patient"]


def test_running_does_not_look_like_failed(page: Page) -> None:
    colours = page.evaluate("""["running", "failed"].map((status) => {
        const span = document.createElement("span");
        span.className = "status";
        span.dataset.status = status;
        document.querySelector("main").append(span);
        return getComputedStyle(span).color.match(/\\d+/g).map(Number);
    })""")
    running, failed = colours
    assert failed[0] > failed[2]  # red
    assert running[2] > running[0]  # not red
