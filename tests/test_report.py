"""A run on one page."""

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Literal

import pytest
import torch
from playwright.sync_api import sync_playwright

from models.card import Card
from models.classifier import Classifier
from tests.browser import CHROMIUM, FLAGS
from tests.conftest import SAMPLE
from training import report
from training.__main__ import main
from training.datasets import Dataset
from training.evaluation import evaluate
from training.recipes import RECIPES
from training.reliability import reliability
from training.report import class_rows, worst_mistakes
from training.run import Run, train


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = Run.create(
        tmp_path_factory.mktemp("runs") / "run",
        RECIPES["softmax-mnist"].config(epochs=2, validation_images=100),
    )
    train(run, SAMPLE, torch.device("cpu"), lambda event: None)
    return run


@pytest.fixture(scope="module")
def classifier(finished: Run) -> Classifier:
    return Classifier.load(finished.weights_path, torch.device("cpu"))


class Tags(HTMLParser):
    """Everything that a page could ask for, and whether its tags are closed."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.asked += [value or "" for key, value in attrs if key in ("src", "href", "srcset", "action")]
        if tag not in ("meta", "link", "img", "source", "col"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_asks_for_nothing_outside_itself(finished: Run) -> None:
    page = (finished.directory / "report.html").read_text()
    tags = Tags()
    tags.feed(page)
    assert not tags.open
    assert len(tags.asked) == 2 * 3 + 25  # three pictures in two themes, and the mistakes
    assert all(url.startswith("data:image/png;base64,") for url in tags.asked)
    assert "url(" not in page
    assert "@import" not in page
    assert "<script" not in page
    assert "default-src 'none'" in page


def test_the_page_shows_what_is_promised(finished: Run) -> None:
    page = (finished.directory / "report.html").read_text()
    for heading in ("Curves", "Confusion matrix", "Every class", "Calibration", "Timing", "Config"):
        assert f"<h2>{heading}</h2>" in page
    for words in (
        "The 25 worst of",
        "Brier score",
        "images per second",
        "CPU time",
        "precision",
        "recall",
        "F1",
    ):
        assert words in page
    assert "prefers-color-scheme: dark" in page
    for key in finished.config.model_dump():
        assert f"<dt>{key.replace('_', ' ')}</dt>" in page


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1200, 1600])
def test_the_page_fits_any_screen(width: int, scheme: Literal["light", "dark"], finished: Run) -> None:
    """In a real browser: nothing wider than the screen, every picture shown, nothing asked of anyone."""
    if CHROMIUM is None:
        pytest.skip("there is no chromium: apt-get install chromium")
    asked: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        page.on("request", lambda request: asked.append(request.url))
        page.goto((finished.directory / "report.html").as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate("[...document.images].every(image => image.naturalWidth > 0)")
        browser.close()
    assert all(url.startswith(("file:", "data:")) for url in asked)


def test_report_writes_page_and_pictures_again(finished: Run, capsys: pytest.CaptureFixture[str]) -> None:
    path = finished.directory / "report.html"
    before = path.read_text()
    pictures = {file.name for file in finished.directory.glob("*.png")}
    for file in (path, *finished.directory.glob("*.png")):
        file.unlink()
    words = ["report", str(finished.directory), "--data-dir", str(SAMPLE), "--device", "cpu"]
    assert main(words) == 0
    assert f"wrote {path}" in capsys.readouterr().out
    assert path.read_text() == before
    assert {file.name for file in finished.directory.glob("*.png")} == pictures


def test_a_run_that_goes_on_has_no_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Run.create(tmp_path / "run", RECIPES["mlp"].config())
    assert main(["report", str(tmp_path / "run"), "--device", "cpu"]) == 1
    assert "has not finished" in capsys.readouterr().err


def test_precision_recall_and_f1_by_hand() -> None:
    """Three of class a, one taken for b; two of b, none right; nothing of c."""
    rows = class_rows(torch.tensor([[2, 1, 0], [2, 0, 0], [0, 0, 0]]), ("a", "b", "c"))
    assert [(row.label, row.images) for row in rows] == [("a", 3), ("b", 2), ("c", 0)]
    assert rows[0].precision == 2 / 4
    assert rows[0].recall == pytest.approx(2 / 3)
    assert rows[0].f1 == pytest.approx(4 / 7)
    assert [(row.precision, row.recall, row.f1) for row in rows[1:]] == [(0, 0, 0)] * 2


def test_the_worst_mistakes_give_the_truth_the_least(classifier: Classifier, sample: Dataset) -> None:
    evaluation = evaluate(classifier, sample.test)
    mistakes = worst_mistakes(classifier.card, sample.test, evaluation)
    truth = evaluation.probabilities.gather(1, sample.test.labels[:, None]).squeeze(1)
    wrong = evaluation.predicted != sample.test.labels
    assert [mistake.probability for mistake in mistakes] == sorted(truth[wrong].tolist())[:25]
    for mistake in mistakes:
        assert mistake.label == sample.classes[int(sample.test.labels[mistake.position])]
        assert mistake.guesses[0][0] == sample.classes[int(evaluation.predicted[mistake.position])]
        assert mistake.guesses[0][0] != mistake.label


def test_a_name_is_text_and_never_markup(finished: Run, classifier: Classifier, sample: Dataset) -> None:
    """Class names and config values come from files that others may have written."""
    evaluation = evaluate(classifier, sample.test)
    card: Card = classifier.card.model_copy(update={"architecture": "<script>alert(1)</script>"})
    bins = reliability(evaluation.probabilities, sample.test.labels)
    page = report.page(card, finished.history(), sample, evaluation, bins, bins)
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)" in page


def test_a_classifier_without_mistakes_has_a_page_too(
    finished: Run, classifier: Classifier, sample: Dataset
) -> None:
    first = evaluate(classifier, sample.test)
    perfect = Dataset(
        sample.name,
        sample.train,
        sample.test[first.predicted == sample.test.labels],
        sample.classes,
        sample.digest,
    )
    path = report.write(
        finished.files, classifier.card, finished.history(), perfect, evaluate(classifier, perfect.test)
    )
    assert re.search(r"<h2>No mistakes</h2>", path.read_text())
