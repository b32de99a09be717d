"""Data: from a folder, a zip file or the camera to a data set, and on to a model that is tried."""

import base64
import io
import json
import random
import zipfile
from collections.abc import Mapping
from pathlib import Path

import httpx2
import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image, ImageDraw
from playwright.sync_api import Page, expect

from tests.browser import A_RUN, SOON, NewPage, address, api, chromium, give_key, new_page, page
from tests.conftest import ADMIN_KEY
from tests.processes import wait_for

pytestmark = pytest.mark.browser

IN = "input[webkitdirectory]"
DROP = """([name, text]) => {
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    const dataTransfer = new DataTransfer();
    dataTransfer.items.add(new File([bytes], name, { type: "application/zip" }));
    const event = new DragEvent("drop", { dataTransfer, bubbles: true, cancelable: true });
    document.querySelector(".drop").dispatchEvent(event);
}"""


def picture(kind: str, seed: int) -> bytes:
    """A bright circle or square somewhere on a dark ground, in colour."""
    chance = random.Random(f"{kind} {seed}")
    ground = tuple(chance.randrange(60) for _ in range(3))
    image = Image.new("RGB", (32, 32), ground)
    x, y = chance.randrange(2, 12), chance.randrange(2, 12)
    shape = ImageDraw.Draw(image)
    draw = shape.ellipse if kind == "round" else shape.rectangle
    draw((x, y, x + 17, y + 17), fill=(chance.randrange(180, 255), 200, 90))
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


def shapes(count: int = 30) -> dict[str, bytes]:
    return {
        f"{kind}/{number}.png": picture(kind, number) for kind in ("round", "square") for number in range(count)
    }


def zipped(files: Mapping[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as file:
        for name, data in files.items():
            file.writestr(name, data)
    return stream.getvalue()


def bring(api: httpx2.Client, name: str, files: Mapping[str, bytes]) -> None:
    """The same without a browser."""
    headers = {"content-type": "application/zip"}
    api.post("/datasets", params={"name": name}, content=zipped(files), headers=headers).raise_for_status()
    wait_for(lambda: api.get(f"/datasets/{name}").json()["status"] == "ready")


def drop(page: Page, name: str, data: bytes) -> None:
    page.locator(".drop").wait_for()
    page.evaluate(DROP, [name, base64.b64encode(data).decode()])


@pytest.fixture
def known(new_page: NewPage) -> NewPage:
    """Opens a page that has the key already."""

    def open_page(route: str, **options: object) -> Page:
        page = new_page("#/models", **options)
        page.evaluate("key => sessionStorage.setItem('minist-key', key)", ADMIN_KEY)
        page.goto(page.url.split("#")[0] + route)
        page.reload()
        return page

    return open_page


def test_from_a_folder_to_a_model_that_is_tried(new_page: NewPage, api: httpx2.Client, tmp_path: Path) -> None:
    for path, data in shapes().items():
        (tmp_path / "My Shapes" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "My Shapes" / path).write_bytes(data)
    page = new_page("#/data")
    page.locator(IN).set_input_files(tmp_path / "My Shapes")
    expect(page.locator("#bring-name")).to_have_value("my-shapes")
    expect(page.locator(".drop")).to_contain_text("My Shapes: 60 files")
    page.click("text=Import")
    give_key(page)
    expect(page.locator("#data-title")).to_have_text("my-shapes", timeout=SOON)
    expect(page.locator(".numbers-by-class")).to_contain_text("round", timeout=SOON)
    assert api.get("/datasets/my-shapes").json()["profile"]["images"] == 60
    page.select_option("#of-class", "round")
    expect(page.locator(".samples-of img").first).to_have_attribute("alt", "round, as the model sees it")
    page.click("button:has-text('Train on this')")
    expect(page.locator("#job .job-head")).to_contain_text("by auto", timeout=SOON)
    expect(page.locator(".job .status")).to_have_text("succeeded", timeout=A_RUN)
    expect(page.locator(".outcome")).to_contain_text("It is served now.")
    page.click("text=Try it")
    expect(page.locator("#try-title")).to_have_text("Choose a picture")
    page.set_input_files("#file", {"name": "new.png", "mimeType": "image/png", "buffer": picture("square", 99)})
    expect(page.locator(".answer .label")).to_have_text("square", timeout=SOON)
    seen = page.locator(".insight[data-state=new] img").first
    assert seen.evaluate("image => image.naturalWidth") == 32
    page.click("#clear")
    page.locator(".samples button[aria-label='Sample: round']").first.click()
    expect(page.locator(".answer .label")).to_have_text("round", timeout=SOON)
    page.click("#watch-camera")
    expect(page.locator("#viewfinder")).to_be_visible()
    wait_for(lambda: page.evaluate("document.querySelector('#viewfinder').videoWidth"))
    page.click("#watch-camera")
    expect(page.locator("#viewfinder")).to_be_hidden()
    expect(page.locator("#request a")).to_contain_text("camera.jpg", timeout=SOON)
    page.goto(f"{address(api)}/#/data/my-shapes")
    page.click("button:has-text('Delete')")
    page.click("text=Sure?")
    expect(page.locator(".set-head .problem")).to_contain_text("is needed by", timeout=SOON)
    page.click("text=Delete it all the same")
    page.click("text=Sure?")
    expect(page.locator("#data-title")).to_have_text("Data", timeout=SOON)
    assert api.get("/datasets/my-shapes").status_code == 404


def test_a_zip_with_traps_shows_what_is_wrong(known: NewPage) -> None:
    page = known("#/data")
    half = picture("round", 1)[:60]
    traps = {
        **shapes(12),
        "round/half.png": half,
        "round/empty.png": b"",
        ".DS_Store": b"\0\0",
        "README.txt": b"hello",
        "square/copy.png": picture("round", 3),
        "seven/7.png": picture("square", 70),
    }
    drop(page, "Traps 1.zip", zipped(traps))
    expect(page.locator("#bring-name")).to_have_value("traps-1", timeout=SOON)
    page.press("#bring-name", "Enter")
    warnings = page.locator(".warnings")
    expect(warnings).to_contain_text("Class 'seven' has one picture", timeout=SOON)
    expect(warnings).to_contain_text("Add more, or drop it.")
    expect(warnings).to_contain_text("1 picture under several classes")
    for name, reason in (
        ("could not be read", "empty.png"),
        ("file manager", ".DS_Store"),
        ("several", "copy.png"),
    ):
        page.locator("summary", has_text=name).click()
        expect(page.locator("details[open]", has_text=name)).to_contain_text(reason)


def test_what_cannot_be_imported_says_why(known: NewPage) -> None:
    page = known("#/data")
    drop(page, "one.zip", zipped({"a/1.png": picture("round", 1)}))
    page.click("text=Import")
    expect(page.locator(".note.error")).to_contain_text("a classifier needs two at least", timeout=SOON)
    page.goto(page.url.split("#")[0] + "#/data")
    drop(page, "photo.zip", picture("round", 1))
    page.click("text=Import")
    expect(page.locator(".bring .problem").last).to_contain_text("neither a zip or npz file", timeout=SOON)
    page.fill("#bring-name", "mnist")
    page.click("text=Import")
    expect(page.locator(".bring .problem").last).to_contain_text("comes with the service", timeout=SOON)


def test_what_is_too_large_is_told_before_it_is_sent(known: NewPage, api: httpx2.Client) -> None:
    page = known("#/data")
    info = {**api.get("/info").json(), "max_dataset_bytes": 2000}
    page.route("**/info", lambda route: route.fulfill(body=json.dumps(info)))
    drop(page, "large.zip", zipped(shapes()))
    page.click("text=Import")
    expect(page.locator(".bring .problem").last).to_contain_text("at most 2.0 KiB", timeout=SOON)
    assert api.get("/datasets/large").status_code == 404


def test_other_options_make_another_version(known: NewPage, api: httpx2.Client) -> None:
    bring(api, "three", {**shapes(10), **{f"Round/{i}.png": picture("round", 50 + i) for i in range(4)}})
    page = known("#/data/three")
    page.click("text=Size, splits, classes")
    page.fill("#option-size", "4")
    page.click("text=Make a new version")
    expect(page.locator("#option-size-wrong")).to_have_text("At least 8.")
    page.fill("#option-size", "24")
    page.fill("[aria-label='Name of Round']", "round")
    page.click("text=Make a new version")
    expect(page.locator(".set-head h2")).to_have_text("Version 2", timeout=SOON)
    expect(page.locator(".numbers-by-class .sum")).to_contain_text("All 24", timeout=SOON)
    profile = api.get("/datasets/three@2").json()["profile"]
    assert (profile["classes"], profile["height"]) == (["round", "square"], 24)
    page.click("text=Size, splits, classes")
    expect(page.locator("[aria-label='Name of Round']")).to_have_value("round")
    with page.expect_download() as waiting:
        page.click("text=Export")
    with zipfile.ZipFile(waiting.value.path()) as exported:
        assert len(exported.namelist()) == 24
    page.click("button:has-text('Delete')")
    page.click("text=Sure?")
    expect(page.locator(".set-head h2")).to_have_text("Version 1", timeout=SOON)
    assert api.get("/datasets/three@2").status_code == 404


def test_classes_are_shot_with_the_camera(known: NewPage, api: httpx2.Client) -> None:
    page = known("#/data")
    page.click("text=With the camera of this device")
    page.click("text=Start the camera")
    expect(page.locator(".live video")).to_be_visible()
    expect(page.get_by_role("button", name="Make a data set")).to_be_disabled()
    wait_for(lambda: page.evaluate("document.querySelector('.live video').videoWidth"))
    first, second = page.locator(".shot-class").all()
    first.locator("input").fill("cup")
    first.get_by_role("button", name="Take pictures").hover()
    page.mouse.down()
    expect(first.locator(".shots li").nth(2)).to_be_visible()
    page.mouse.up()
    second.get_by_role("button", name="Take pictures").focus()
    for number in (1, 2, 3):
        page.keyboard.press("Enter")
        expect(second.locator(".shots li")).to_have_count(number)
    second.get_by_role("button", name="Remove picture 3").press("Enter")
    expect(second.locator(".fine")).to_have_text("2 pictures")
    page.fill("#shoot-name", "cups")
    page.get_by_role("button", name="Make a data set").click()
    expect(page.locator(".numbers-by-class")).to_contain_text("cup", timeout=SOON)
    counts = api.get("/datasets/cups").json()["profile"]["counts"]
    assert sum(counts["class 2"].values()) == 2
    assert sum(counts["cup"].values()) >= 3
    assert page.evaluate("document.querySelector('.live video')") is None


def test_training_offers_data_sets_of_ones_own(new_page: NewPage, api: httpx2.Client) -> None:
    bring(api, "offered", shapes(5))
    page = new_page("#/train?dataset=offered")
    expect(page.locator("#set-dataset")).to_have_value("offered", timeout=SOON)
    expect(page.locator("#recipe")).to_have_value("auto")
    expect(page.locator("#model")).to_have_value("offered")


def test_what_the_page_zips_is_a_zip_file(page: Page) -> None:
    files = {"katze/größe 1.jpg": "x" * 70_000, "b/empty.jpg": "", "b/2.jpg": "12"}
    text = page.evaluate(
        """async (files) => {
            const { zip } = await import("./static/page/zip.js");
            const entries = Object.entries(files).map(([path, text]) => ({ path, blob: new Blob([text]) }));
            const bytes = new Uint8Array(await (await zip(entries)).arrayBuffer());
            return btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""));
        }""",
        files,
    )
    with zipfile.ZipFile(io.BytesIO(base64.b64decode(text))) as made:
        assert made.testzip() is None
        assert {name: made.read(name).decode() for name in made.namelist()} == files


def test_the_time_left_comes_from_steps_and_then_from_epochs(page: Page) -> None:
    told = page.evaluate(
        """async () => {
            const { Foretold } = await import("./static/page/foretold.js");
            const foretold = new Foretold();
            const step = { epoch: 1, epochs: 10, step: 5, steps: 10, eta_seconds: 70 };
            const epoch = (number, seconds) => foretold.epoch({ epoch: number, epochs: 10, seconds });
            return [foretold.step(step), epoch(1, 10), foretold.step({ ...step, epoch: 2 }), epoch(2, 20)];
        }"""
    )
    assert told == [70, 90, 85, 120]


@pytest.mark.parametrize("look", ["light", "forced"])
def test_for_everybody_on_a_phone(known: NewPage, api: httpx2.Client, look: str) -> None:
    """Nothing is wider than the window, axe finds nothing, and every stop of the keyboard is seen."""
    bring(api, "phone", {**shapes(6), f"{'long' * 20}/1.png": picture("round", 1), "broken/1.png": b"no"})
    colours = {"forced_colors": "active"} if look == "forced" else {"color_scheme": look}
    page = known("#/data", viewport={"width": 390, "height": 844}, reduced_motion="reduce", **colours)
    for route, there in (("#/data", ".sets"), ("#/data/phone", ".samples-of")):
        page.goto(page.url.split("#")[0] + route)
        page.locator(f"{there} >> visible=true").first.wait_for()
        page.evaluate("for (const each of document.querySelectorAll('details')) each.open = true")
        wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide <= 0, route
        found = [
            (each["id"], [node["html"][:160] for node in each["nodes"]])
            for each in Axe().run(page).response["violations"]
        ]
        assert found == [], route
    page.goto(f"{address(api)}/#/data")
    page.locator("#bring-name").focus()
    for _ in range(2):
        page.keyboard.press("Shift+Tab")
    ring = "getComputedStyle(document.activeElement.nextElementSibling).outlineStyle"
    assert page.evaluate("document.activeElement.webkitdirectory")
    assert page.evaluate(ring) != "none"


def test_a_table_gets_its_target_and_the_roles_of_its_columns(known: NewPage, api: httpx2.Client) -> None:
    lines = (f"{i},{i * 7919 % 997},{('red', 'blue')[i // 2 % 2]},{'ab'[i // 3 % 2]}" for i in range(60))
    text = "A title\nnumber,size,colour,kind\n" + "\n".join(lines) + "\n1,2\n"
    page = known("#/data")
    page.locator(".bring input[multiple]").set_input_files(
        {"name": "My kinds.csv", "mimeType": "text/csv", "buffer": text.encode()}
    )
    expect(page.locator("#bring-name")).to_have_value("my-kinds")
    page.click("text=Import")
    expect(page.locator("#columns-title")).to_have_text("Which column is the class?", timeout=SOON)
    expect(page.locator(".set-head .status")).to_have_text("needs its target")
    expect(page.locator("#option-target")).to_have_value("kind")
    expect(page.locator(".columns")).to_contain_text("It numbers the rows")
    expect(page.locator(".left-out")).to_contain_text("Line 63")
    assert Axe().run(page, "#data").response["violations"] == []
    page.select_option("[aria-label='Role of number']", "numeric")
    page.click("text=Use this target")
    expect(page.locator("#classes-title")).to_have_text("2 classes", timeout=SOON)
    profile = api.get("/datasets/my-kinds@1").json()["profile"]
    assert [column["used"] for column in profile["columns"]] == [True, True, True, False]
    expect(page.locator(".columns .histogram")).to_have_count(3)
    expect(page.locator("#rows-title + p + div table")).to_contain_text("red")
    expect(page.locator("text=Train on this")).to_be_visible()
    assert Axe().run(page, "#data").response["violations"] == []
    page.select_option("[aria-label='Role of size']", "leave-out")
    page.click("text=Make a new version")
    expect(page.locator(".set-head h2")).to_have_text("Version 2", timeout=SOON)
    expect(page.locator("#classes-title")).to_have_text("2 classes", timeout=SOON)
    assert [column["used"] for column in api.get("/datasets/my-kinds@2").json()["profile"]["columns"]] == [
        True,
        False,
        True,
        False,
    ]
