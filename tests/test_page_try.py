"""Try: what people draw or send, and what the models answer."""

import json
import re
import subprocess
from pathlib import Path

import httpx2
import pytest
from PIL import Image, ImageDraw
from playwright.sync_api import Page, expect

from tests.browser import (
    SOON,
    STROKES,
    NewPage,
    address,
    answer,
    api,
    choose,
    chromium,
    draw,
    explained,
    give_key,
    new_page,
    page,
    run_to_its_end,
    says,
)
from tests.conftest import ADMIN, ROOT, SAMPLE
from tests.samples import PNG

pytestmark = pytest.mark.browser


def test_every_drawn_digit_gets_its_label(page: Page) -> None:
    for label in STROKES:
        draw(page, label)
        says(page, label)
        explained(page)
        page.click("#clear")
        says(page, "–")


def test_another_view_that_is_asked_for_while_the_models_change_is_shown(page: Page) -> None:
    """The browser tells of a new address in a task of its own: until then the old view is there and at work."""
    expect(page.locator("#chosen input").first).to_be_visible(timeout=SOON)
    page.evaluate(
        "() => { location.hash = '#/train'; document.querySelector('#chosen input:not(:checked)').click(); }"
    )
    expect(page.locator("#train-title")).to_be_visible(timeout=SOON)
    assert page.evaluate("location.hash") == "#/train"


def test_a_browser_that_encodes_slowly_still_shows_the_explanation(page: Page) -> None:
    """Then the picture that was sent at the end of the stroke is ready after the one to be explained."""
    page.evaluate("""() => {
        const toBlob = HTMLCanvasElement.prototype.toBlob;
        let before = -Infinity;
        HTMLCanvasElement.prototype.toBlob = function (done, type) {
            const drawing = performance.now() - before < 250;
            before = performance.now();
            setTimeout(() => toBlob.call(this, done, type), drawing ? 1000 : 0);
        };
    }""")
    draw(page, "7")
    explained(page)
    page.wait_for_timeout(1200)
    explained(page)
    says(page, "7")


def test_bars_move_while_the_pen_is_down(page: Page) -> None:
    expect(answer(page)).to_be_visible(timeout=SOON)
    box = page.locator("#canvas").bounding_box()
    assert box
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 40)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] - 40, steps=10)
    says(page, "1")
    before = str(answer(page).get_attribute("data-number"))
    page.mouse.move(box["x"] + 60, box["y"] + box["height"] - 60, steps=10)
    expect(answer(page)).not_to_have_attribute("data-number", before)
    page.mouse.up()


def test_touch_draws_and_does_not_scroll(new_page: NewPage) -> None:
    page = new_page(viewport={"width": 390, "height": 700}, has_touch=True, is_mobile=True)
    expect(answer(page)).to_be_visible(timeout=SOON)
    page.locator("#canvas").scroll_into_view_if_needed()
    box = page.locator("#canvas").bounding_box()
    assert box
    before = page.evaluate("scrollY")
    fingers = page.context.new_cdp_session(page)
    touches = [("touchStart", 6), *(("touchMove", row) for row in range(7, 22)), ("touchEnd", None)]
    for kind, row in touches:
        middle = box["x"] + box["width"] / 2
        points = [] if row is None else [{"x": middle, "y": box["y"] + row * box["width"] / 28}]
        fingers.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    says(page, "1")
    assert page.evaluate("scrollY") == before
    assert page.locator(".camera").is_visible()


def test_undo_and_clear(page: Page) -> None:
    draw(page, "1")
    says(page, "1")
    page.click("#clear")
    says(page, "–")
    expect(page.locator("#pad-hint")).to_be_visible()
    page.click("#undo")  # what was cleared is there again
    says(page, "1")
    page.click("#undo")
    says(page, "–")
    expect(page.locator("#undo")).to_be_disabled()


def test_pictures_are_uploaded_dropped_and_pasted(page: Page) -> None:
    expect(answer(page)).to_be_visible(timeout=SOON)
    labels = json.loads((SAMPLE / "pictures" / "labels.json").read_text())
    photo = "photo-white-07.jpg"
    page.set_input_files("#file", SAMPLE / "pictures" / photo)
    says(page, str(labels[photo] if isinstance(labels, dict) else labels[7]))
    give = """([bytes, kind]) => {
        const data = new DataTransfer();
        data.items.add(new File([new Uint8Array(bytes)], "a picture.png", { type: "image/png" }));
        const options = { bubbles: true, cancelable: true };
        const pad = document.querySelector("#pad");
        pad.dispatchEvent(kind === "drop"
            ? new DragEvent("drop", { ...options, dataTransfer: data })
            : new ClipboardEvent("paste", { ...options, clipboardData: data }));
    }"""
    for label, kind in (("4", "drop"), ("2", "paste")):
        page.evaluate(give, [list((ROOT / "examples" / f"{label}.png").read_bytes()), kind])
        says(page, label)


def test_a_large_photograph_is_made_smaller_than_the_service_takes(page: Page, tmp_path: Path) -> None:
    from PIL import Image

    image = Image.effect_noise((3000, 2400), 12).point(lambda value: 200 + value // 5)
    digit = Image.open(ROOT / "examples" / "3.png").convert("L").resize((1400, 1400))
    image.paste(20, (700, 500), digit)
    image.save(tmp_path / "IMG 1.jpg", quality=97)
    assert (tmp_path / "IMG 1.jpg").stat().st_size > 1_048_576
    page.set_input_files("#file", tmp_path / "IMG 1.jpg")
    says(page, "3")


def test_a_file_that_is_not_a_picture_is_an_error(page: Page, tmp_path: Path) -> None:
    expect(answer(page)).to_be_visible(timeout=SOON)
    (tmp_path / "letter.txt").write_text("not a picture")
    page.set_input_files("#file", tmp_path / "letter.txt")
    expect(page.get_by_role("alert").filter(has_text="letter.txt is not a picture")).to_be_visible()
    draw(page, "7")
    says(page, "7")
    expect(page.locator("#pad-problem")).to_be_empty()


def test_several_digits_are_read_and_each_can_be_pressed(page: Page) -> None:
    page.set_input_files("#file", ROOT / "examples" / "number.jpg")
    expect(page.locator("#number-text span")).to_have_text(["0522", "1859"], timeout=SOON)
    marks = page.locator("#number .mark")
    expect(marks).to_have_count(8)
    image, mark = page.locator("#number img").bounding_box(), marks.first.bounding_box()
    assert image
    assert mark
    assert image["x"] < mark["x"] < image["x"] + image["width"] - mark["width"]
    marks.nth(3).click()
    expect(page.locator("#number .labels button")).to_have_count(10)
    page.click("#clear")
    expect(page.locator("#number")).to_be_hidden()


def test_models_answer_side_by_side_with_version_and_time(page: Page) -> None:
    draw(page, "5")
    choose(page, "digits", "cnn", "softmax-mnist")
    for model in ("digits", "cnn", "softmax-mnist"):
        says(page, "5", model)
        expect(answer(page, model).locator(".version")).to_have_text("version 1")
        expect(answer(page, model).locator(".time")).to_have_text(re.compile(r"^[\d.]+ ms$"))
        explained(page, model)
        widths = answer(page, model).locator(".insight img").evaluate_all("all => all.map(i => i.naturalWidth)")
        assert widths == [28, 28]
    expect(page.locator("#said")).to_contain_text("softmax-mnist: 5", timeout=SOON)


def test_fashion_has_samples_of_its_own(page: Page) -> None:
    page.click("text=Fashion")
    page.get_by_role("button", name="Sample: ankle boot").click()
    says(page, "ankle boot", "fashion")
    page.get_by_role("button", name="Digits", exact=True).click()
    says(page, "–")
    page.get_by_role("button", name="Sample: 9").click()
    says(page, "9")


@pytest.mark.parametrize("drawn", [True, False])
def test_the_curl_command_works_as_printed(page: Page, tmp_path: Path, drawn: bool) -> None:
    if drawn:
        draw(page, "2")
    else:
        page.set_input_files("#file", SAMPLE / "pictures" / "scan-05.png")
    explained(page)
    label = answer(page).locator(".label").inner_text()
    page.click("#request summary")
    with page.expect_download() as download:
        page.click("#request a")
    download.value.save_as(tmp_path / download.value.suggested_filename)
    command = page.locator("#request code").inner_text()
    done = subprocess.run(f"{command} -sS --fail", shell=True, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["label"] == label
    page.get_by_role("button", name="Python", exact=True).click()
    expect(page.locator("#request code")).to_contain_text("from minist_client import Client")


def blank(folder: Path) -> Path:
    """A picture with nothing on it."""
    path = folder / "blank.png"
    Image.new("L", (200, 200), 255).save(path)
    return path


def test_a_picture_with_nothing_on_it_is_an_error_that_is_announced(page: Page, tmp_path: Path) -> None:
    """The bars keep their width, the time of the answer before is gone, and a screen reader hears of it."""
    draw(page, "3")
    explained(page)
    bars = answer(page).locator(".track").first
    before = bars.bounding_box()
    page.set_input_files("#file", blank(tmp_path))
    expect(answer(page).locator(".problem")).to_contain_text("Nothing found", timeout=SOON)
    expect(answer(page).locator(".time")).to_be_empty()
    after = bars.bounding_box()
    assert before
    assert after
    assert abs(after["width"] - before["width"]) < 4  # the best class was bold
    expect(page.get_by_role("status").filter(has_text="digits: Nothing found")).to_be_attached(timeout=SOON)
    page.click("#undo")
    says(page, "3")
    expect(answer(page).locator(".problem")).to_be_empty()


def test_chosen_models_stay_in_the_address(page: Page, api: httpx2.Client) -> None:
    choose(page, "minist", "cnn")
    expect(page).to_have_url(f"{address(api)}/#/try?model=minist,cnn")
    page.reload()
    draw(page, "5")
    for model in ("minist", "cnn"):
        says(page, "5", model)
    expect(page.locator(".answer")).to_have_count(2)
    page.click("nav >> text=Models")
    page.click("nav >> text=Try")
    expect(page.locator(".answer")).to_have_count(2)
    expect(page).to_have_url(f"{address(api)}/#/try?model=minist,cnn")


def test_a_link_names_models_and_versions(new_page: NewPage, api: httpx2.Client) -> None:
    for _ in range(2):
        run_to_its_end(api, "linked", epochs=1, promote="always")
    page = new_page("#/try?model=linked@1,linked@production,nothing@7")
    draw(page, "1")
    expect(answer(page, "'linked@1'").locator(".version")).to_have_text("version 1", timeout=SOON)
    says(page, str(answer(page, "'linked@1'").locator(".label").inner_text()), "'linked@1'")
    expect(answer(page, "'linked@production'").locator(".version")).to_have_text("version 2", timeout=SOON)
    expect(page.get_by_role("alert").filter(has_text="There is no model nothing@7 here.")).to_be_visible()
    page.goto(f"{address(api)}/#/try?model=fashion")
    expect(page.get_by_role("heading", name="Draw a garment")).to_be_visible(timeout=SOON)
    expect(answer(page, "fashion")).to_be_visible()


@pytest.mark.parametrize("kind", ["81 megapixels", "svg"])
def test_what_the_browser_can_show_is_scaled_to_what_the_service_takes(
    page: Page, tmp_path: Path, kind: str
) -> None:
    expect(answer(page)).to_be_visible(timeout=SOON)
    if kind == "svg":
        path = tmp_path / "one.svg"
        path.write_text(
            '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 100 140">'
            '<rect width="100" height="140" fill="#fff"/>'
            '<path d="M50 25V115" stroke="#111" stroke-width="12" stroke-linecap="round"/></svg>'
        )
    else:
        path = tmp_path / "huge.png"
        image = Image.new("L", (9000, 9000), 235)
        ImageDraw.Draw(image).line([(4500, 2500), (4500, 6500)], fill=20, width=300)
        image.save(path)
    page.set_input_files("#file", path)
    says(page, "1")
    explained(page)
    expect(page.locator("#request a")).to_have_attribute("download", re.compile(r"\.jpg$"))


def test_unsure_pictures_are_labelled_by_keys(
    new_page: NewPage, api: httpx2.Client, digits: dict[str, bytes]
) -> None:
    """Each key is announced, undone by another, and the focus stays; a label that is kept can be changed."""
    api.delete("/feedback", headers=ADMIN).raise_for_status()  # and what tests before have asked
    asked = {}
    for label in "17":
        answer = api.post("/predict?model=softmax-mnist", content=digits[label], headers=PNG).json()
        asked[answer["id"]] = answer["label"]
    page = new_page()
    while not {one["id"] for one in api.get("/feedback/unsure", headers=ADMIN).json()} >= set(asked):
        page.wait_for_timeout(50)
    first = api.get("/feedback/unsure?limit=2&model=softmax-mnist", headers=ADMIN).json()
    mine = "&model=softmax-mnist"  # tests before have asked other models
    page.route("**/feedback/unsure*", lambda route: route.continue_(url=route.request.url + mine))
    page.get_by_role("button", name="Label unsure pictures").click()
    give_key(page)
    queue, said = page.locator(".queue"), page.locator(".queue [role=status]")
    expect(queue).to_be_focused()
    expect(said).to_contain_text("Picture 1 of ")
    page.keyboard.press("3")
    expect(said).to_contain_text("Kept as 3. Picture 2 of ")
    page.keyboard.press("ArrowLeft")
    expect(said).to_contain_text("Undone. Picture 1 of ")
    assert api.get("/feedback").json()["count"] == 0
    page.keyboard.press("5")
    expect(said).to_contain_text("Kept as 5. Picture 2 of ")
    queue.get_by_role("button", name="8").click()
    expect(said).to_contain_text("Kept as 8.")
    expect(queue).to_be_focused()
    page.keyboard.press("Escape")
    expect(queue).to_be_hidden()
    kept = api.get("/feedback", headers=ADMIN).json()["items"]
    assert {one["id"]: one["label"] for one in kept} == {first[0]["id"]: "5", first[1]["id"]: "8"}
    page.get_by_role("button", name="Show them").click()
    page.get_by_role("button", name="Relabel 8").click()
    page.keyboard.press("9")
    expect(said).to_contain_text("Kept as 9.")
    assert {one["label"] for one in api.get("/feedback", headers=ADMIN).json()["items"]} == {"5", "9"}
