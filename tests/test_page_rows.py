"""Try, with a model of a table: a form for a row, answers that follow it, and a file of many rows."""

import csv
import io
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.browser import SOON, NewPage, answer, chromium, explained, new_page, says
from tests.people import ROW, serve_tables
from tests.processes import service
from tests.test_row_bodies import as_csv

pytestmark = pytest.mark.browser
PEOPLE = "#/try?model=people"


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx2.Client]:
    home = tmp_path_factory.mktemp("tables")
    serve_tables(home)
    with service(home, MINIST_FEEDBACK="true") as (_, client):
        yield client


@pytest.fixture
def people(tmp_path: Path) -> Path:
    """A file with three rows, of which one cannot be read."""
    rows = [{**ROW, "smokes": "no"}, {**ROW, "age": 80}, {**ROW, "age": "old"}]
    path = tmp_path / "people.csv"
    path.write_text(as_csv(rows), newline="")
    return path


def test_a_row_is_filled_in_and_the_answer_follows(new_page: NewPage) -> None:
    page = new_page(PEOPLE)
    expect(page.get_by_role("heading", name="Fill in a row")).to_be_visible(timeout=SOON)
    says(page, "rowing", "people")  # the example
    explained(page, "people")
    expect(page.get_by_label("weight, kg")).to_have_value("72.5")
    expect(page.get_by_label("since")).to_have_value("1999-12-31")
    expect(page.locator("#cell-0-about")).to_have_text("18 to 90")
    page.get_by_label("age", exact=True).fill("80")
    says(page, "chess", "people")
    expect(answer(page, "people").locator(".counted li").first).to_contain_text("age", timeout=SOON)
    page.get_by_label("age", exact=True).fill("25")
    page.get_by_label("smokes").check()
    says(page, "=none", "people")
    page.get_by_label("work", exact=True).select_option("other …")
    page.get_by_label("work, another").fill("astronaut")
    says(page, "=none", "people")
    page.get_by_role("button", name="All missing").click()
    expect(page.get_by_label("age", exact=True)).to_have_value("")
    page.get_by_role("button", name="Example").click()
    says(page, "rowing", "people")
    expect(page.locator("#request code")).to_contain_text("application/json")
    expect(page.locator("#pad")).to_be_hidden()


def test_a_file_or_pasted_text_becomes_a_table_of_answers_to_download(
    new_page: NewPage, people: Path, tmp_path: Path
) -> None:
    page = new_page(PEOPLE)
    says(page, "rowing", "people")
    page.set_input_files("#rows-file", people)
    expect(page.locator("#rows-answers tbody tr")).to_have_count(3, timeout=SOON)
    expect(page.locator("#rows-answers tbody tr").nth(1)).to_contain_text("chess")
    expect(page.locator("#rows-answers td.problem")).to_contain_text("column 'age' holds 'old'")
    with page.expect_download() as download:
        page.click("#rows-download")
    assert download.value.suggested_filename == "people-answers.csv"
    download.value.save_as(tmp_path / "answers.csv")
    found = list(csv.DictReader(io.StringIO((tmp_path / "answers.csv").read_text(), newline="")))
    assert [line["label"] for line in found] == ["rowing", "chess", ""]
    page.evaluate(
        """text => {
            const data = new DataTransfer();
            data.setData("text/plain", text);
            document.body.dispatchEvent(new ClipboardEvent("paste", { clipboardData: data, bubbles: true }));
        }""",
        as_csv([ROW] * 60),
    )
    expect(page.locator("#rows-answers tbody tr")).to_have_count(50, timeout=SOON)
    expect(page.locator("#rows-answers")).to_contain_text("60 rows, no problem")
    people.write_text("a,b\n1,2")
    page.set_input_files("#rows-file", people)
    expect(page.locator("#rows-answers .note.error")).to_contain_text("names no column", timeout=SOON)


def test_from_rows_to_pictures_and_back(new_page: NewPage) -> None:
    page = new_page(PEOPLE)
    says(page, "rowing", "people")
    page.get_by_role("button", name="Digits").click()
    expect(page.locator("#pad")).to_be_visible(timeout=SOON)
    expect(page.locator("#row")).to_be_hidden()
    page.get_by_role("button", name="people").click()
    says(page, "rowing", "people")


def test_by_keyboard_alone(new_page: NewPage) -> None:
    page = new_page(PEOPLE)
    says(page, "rowing", "people")
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == "cell-0":
            break
    page.keyboard.press("Control+a")
    page.keyboard.type("85")
    says(page, "chess", "people")


@pytest.mark.parametrize(("width", "look"), [(390, "light"), (1280, "dark")])
def test_axe_finds_nothing_and_nothing_is_wide(new_page: NewPage, people: Path, width: int, look: str) -> None:
    page = new_page(
        PEOPLE, viewport={"width": width, "height": 844}, color_scheme=look, reduced_motion="reduce"
    )
    says(page, "rowing", "people")
    explained(page, "people")
    page.set_input_files("#rows-file", people)
    expect(page.locator("#rows-answers tbody tr")).to_have_count(3, timeout=SOON)
    found = Axe().run(page).response["violations"]
    assert [(each["id"], [node["html"][:160] for node in each["nodes"]]) for each in found] == []
    assert wide(page) <= 0
    page.goto(page.url.split("#")[0] + "#/try?model=wide")
    expect(page.locator("#cell-92")).to_be_attached(timeout=SOON)
    assert wide(page) <= 0


def wide(page: Page) -> int:
    return int(page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))
