"""The page at / in a real browser: what people see and do there, against a real service."""

import json
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from tests.browser import CHROMIUM, FLAGS, SOON, STROKES, address, answer, choose, draw, explained
from tests.conftest import ADMIN_KEY, ROOT, SAMPLE
from tests.processes import free_port, service

pytestmark = pytest.mark.browser

SHORT = {"recipe": "softmax-mnist", "epochs": 3, "validation_images": 100, "batch_size": 16}
A_RUN = 300_000  # a job has the lowest priority

# A focused control is ringed itself, or what stands for it.
RING = """(() => {
    const on = document.activeElement;
    return [on, on.parentElement, on.nextElementSibling]
        .some((each) => each && getComputedStyle(each).outlineStyle !== "none");
})()"""

NewPage = Callable[..., Page]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("there is no chromium: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx2.Client]:
    """A service that takes corrections, with the small sample as its data set."""
    with service(tmp_path_factory.mktemp("page"), MINIST_FEEDBACK="true") as (_, client):
        yield client


@pytest.fixture
def new_page(chromium: Browser, api: httpx2.Client) -> Iterator[NewPage]:
    """Opens `#/...` in a fresh context. Nothing foreign may be asked for, and nothing may fail in the page."""
    contexts: list[BrowserContext] = []
    requested: list[str] = []
    wrong: list[str] = []

    def open_page(route: str = "#/try", base: str | None = None, **options: Any) -> Page:
        options = {"viewport": {"width": 1280, "height": 1000}, **options}
        contexts.append(chromium.new_context(**options))
        page = contexts[-1].new_page()
        page.set_default_timeout(SOON)
        page.on("request", lambda request: requested.append(request.url))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda said: wrong.append(said.text) if "Content Security" in said.text else None)
        page.goto(f"{base or address(api)}/{route}")
        return page

    yield open_page
    cookies = [cookie for context in contexts for cookie in context.cookies()]
    for context in contexts:
        context.close()
    ours = re.compile(r"(http://127\.0\.0\.1:\d+/|data:|blob:http://127\.0\.0\.1:)")
    assert [url for url in requested if not ours.match(url)] == []
    assert wrong == []
    assert cookies == []


@pytest.fixture
def page(new_page: NewPage) -> Page:
    return new_page()


def says(page: Page, label: str, model: str = "digits") -> None:
    expect(answer(page, model).locator(".label")).to_have_text(label, timeout=SOON)


def give_key(page: Page, key: str = ADMIN_KEY) -> None:
    expect(page.locator("#ask-key")).to_be_visible(timeout=SOON)
    page.fill("#key-text", key)
    page.click("text=Use it")


def begin_run(page: Page, model: str, **settings: object) -> None:
    page.locator("#recipe").wait_for()
    page.select_option("#recipe", str(settings.pop("recipe")))
    page.fill("#model", model)
    if page.locator("#more").get_attribute("open") is None:
        page.click("text=More settings")
    promote = settings.pop("promote", None)
    if promote:
        page.select_option("#promote", str(promote))
    for name, value in settings.items():
        page.fill(f"#set-{name}", str(value))
    page.click("text=Start training")


def run_to_its_end(api: httpx2.Client, model: str, **changes: object) -> dict[str, Any]:
    """The same without a browser."""
    job = api.post("/train", json={**SHORT, "model": model, **changes}).json()
    deadline = time.monotonic() + A_RUN / 1000
    while job["status"] in ("queued", "running") and time.monotonic() < deadline:
        time.sleep(0.2)
        job = api.get(f"/train/{job['id']}").json()
    assert job["status"] == "succeeded", job
    return dict(job)


# ---- Try


def test_every_drawn_digit_gets_its_label(page: Page) -> None:
    for label in STROKES:
        draw(page, label)
        says(page, label)
        explained(page)
        page.click("#clear")
        says(page, "–")


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
    before = int(str(answer(page).get_attribute("data-number")))
    page.mouse.move(box["x"] + 60, box["y"] + box["height"] - 60, steps=10)
    page.wait_for_function(f"Number(document.querySelector('.answer').dataset.number) > {before}")
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
        page.click("#download")
    download.value.save_as(tmp_path / download.value.suggested_filename)
    command = page.locator("#curl").inner_text()
    done = subprocess.run(f"{command} -sS --fail", shell=True, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["label"] == label


def test_by_keyboard_alone(page: Page) -> None:
    """A 1 is drawn, a correction given, Train and Models are reached, and back; every stop shows its focus."""
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
    for view, heading in (("train", "New run"), ("models", "minist"), ("try", "Draw a digit")):
        page.evaluate("document.activeElement.blur()")
        tab_to(f"nav a[href='#/{view}']")
        press("Enter")
        expect(page.get_by_role("heading", name=heading, exact=True)).to_be_visible(timeout=SOON)
        assert page.evaluate("document.activeElement.id") == f"{view}-title"
    says(page, "0")  # the drawing was kept


# ---- Train


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
    page.wait_for_function("document.querySelector('.pictures img').naturalWidth > 100")
    page.click("text=Serve version 2")
    expect(page.locator(".outcome")).to_contain_text("It serves now.", timeout=SOON)
    assert served(api, "mine") == 2
    page.click("text=Roll back")
    expect(page.locator(".outcome")).to_contain_text("It does not serve.", timeout=SOON)
    assert served(api, "mine") == 1
    kept = page.evaluate("[Object.entries(sessionStorage), localStorage.length]")
    assert kept == [[["minist-key", ADMIN_KEY]], 0]
    page.click("text=Forget key")
    assert page.evaluate("sessionStorage.length") == 0


def served(api: httpx2.Client, model: str) -> int:
    return int(next(each["version"] for each in api.get("/models").json() if each["name"] == model))


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


def test_without_a_key_nothing_starts(new_page: NewPage, api: httpx2.Client) -> None:
    before = len(api.get("/train").json()["jobs"])
    page = new_page("#/train")
    begin_run(page, "mine", **SHORT)
    page.get_by_role("button", name="Cancel", exact=True).click()
    expect(page.locator("#run-problem")).to_contain_text("A valid key is needed")
    assert len(api.get("/train").json()["jobs"]) == before


# ---- Models


def test_every_model_is_a_card(new_page: NewPage, api: httpx2.Client) -> None:
    page = new_page("#/models")
    for model in api.get("/models").json():
        card = page.locator(".model-card", has=page.get_by_role("link", name=model["name"], exact=True))
        expect(card).to_contain_text(f"{100 * model['accuracy']:.2f} %")
        expect(card).to_contain_text(f"{model['parameters']:,}")


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


def test_without_a_test_set_and_without_corrections(new_page: NewPage, tmp_path: Path) -> None:
    with service(tmp_path, MINIST_DATA_DIR=str(tmp_path / "nothing")) as (_, client):
        page = new_page("#/models/cnn", address(client))
        expect(page.locator(".note.empty").first).to_contain_text("The test set is not here")
        page.goto(f"{address(client)}/#/train")
        expect(page.locator("#jobs .note.empty")).to_contain_text("No jobs yet")
        page.goto(f"{address(client)}/#/try")
        draw(page, "3")
        explained(page)
        expect(page.locator("#correct")).to_be_hidden()
        expect(page.locator("#corrections")).to_be_empty()


def test_a_service_that_is_not_open_asks_for_the_key_at_once(new_page: NewPage, tmp_path: Path) -> None:
    with service(tmp_path, MINIST_OPEN_PREDICT="false") as (_, client):
        page = new_page(base=address(client))
        give_key(page)
        draw(page, "6")
        says(page, "6")


# ---- Correct me


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
    expect(page.locator("#recipe")).to_have_value("softmax-mnist")
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


# ---- the service away and back


def test_the_service_goes_away_and_comes_back(new_page: NewPage, tmp_path: Path) -> None:
    port = free_port()
    with service(tmp_path, port=port) as (process, client):
        page = new_page(base=address(client))
        draw(page, "8")
        says(page, "8")
        job = client.post("/train", json={**SHORT, "model": "mine", "epochs": 900}).json()["id"]
        watching = new_page(f"#/train/{job}", address(client))
        expect(watching.locator(".numbers tbody tr").nth(1)).to_be_attached(timeout=A_RUN)
        process.send_signal(signal.SIGTERM)
        process.wait(30)
        expect(page.locator("#banner")).to_contain_text("cannot be reached", timeout=SOON)
        expect(watching.locator("#banner")).to_contain_text("cannot be reached", timeout=SOON)
        choose(page, "cnn")  # nobody answers now
        seen = watching.locator(".numbers tbody tr").count()
    with service(tmp_path, port=port):
        expect(page.locator("#banner")).to_contain_text("back", timeout=SOON)
        says(page, "8", "cnn")
        expect(watching.locator(".numbers tbody tr").nth(seen + 1)).to_be_attached(timeout=A_RUN)
        expect(page.locator("#banner")).to_be_empty(timeout=SOON)


# ---- for everybody


@pytest.fixture(scope="module")
def finished(api: httpx2.Client) -> str:
    return str(run_to_its_end(api, "look", promote="always")["id"])


def views(job: str) -> list[tuple[str, str]]:
    """Every view with something that is there once it has loaded."""
    return [
        ("#/try", ".answer"),
        ("#/train", "#set-epochs"),
        (f"#/train/{job}", ".outcome"),
        ("#/models", ".model-card"),
        ("#/models/look", ".confusion button"),
        ("#/models/fashion-cnn", ".version-card"),
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_axe_finds_nothing_serious(new_page: NewPage, finished: str, scheme: str, width: int) -> None:
    page = new_page(color_scheme=scheme, viewport={"width": width, "height": 900}, reduced_motion="reduce")
    for route, there in views(finished):
        page.goto(page.url.split("#")[0] + route)
        page.locator(f"{there} >> visible=true").first.wait_for()
        if route == "#/try":
            draw(page, "4")
            explained(page)
        if "look" in route:
            page.locator(".confusion button").first.click()
            page.locator(".gallery li").first.wait_for()
        for closed in page.locator("details:not([open]) summary >> visible=true").all():
            closed.click()
        found = Axe().run(page).response["violations"]
        serious = [
            (each["id"], [node["html"][:160] for node in each["nodes"]])
            for each in found
            if each["impact"] in ("serious", "critical")
        ]
        assert serious == [], (route, scheme)


@pytest.mark.parametrize("width", [320, 360, 768, 1600])
def test_nothing_is_wider_than_the_window(new_page: NewPage, finished: str, width: int) -> None:
    page = new_page(viewport={"width": width, "height": 800})
    for route, there in views(finished):
        page.goto(page.url.split("#")[0] + route)
        page.locator(f"{there} >> visible=true").first.wait_for()
        wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide <= 0, route
