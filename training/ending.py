"""The end of a run on pictures: figures on validation and test images, report, card."""

from collections.abc import Sequence
from datetime import UTC, datetime

from models import checkpoint
from models.card import Card, Metrics
from models.classifier import Classifier
from training import report
from training.baselines import baselines
from training.calibration import calibrate
from training.corrections import Corrections
from training.datasets import Dataset, Split
from training.errors import Diverged, NotFinite
from training.evaluation import Evaluation, evaluate
from training.kept import keep_sample
from training.novelty import measured
from training.protocols import RunState
from training.simulated import held_out


def finish(
    run: RunState,
    classifier: Classifier,
    dataset: Dataset,
    validation: Split | None,
    corrections: Corrections | None,
    notes: Sequence[str],
) -> Card:
    """Fit the temperature, evaluate on the test set, once; write report, weights and card (the card last)."""
    metrics: dict[str, Metrics] = {}
    if validation:
        classifier.model.eval()
        classifier = calibrate(classifier, validation)
        metrics["validation"] = evaluate_trained(run, classifier, validation).metrics
        classifier = classifier.with_novelty(measured(classifier, held_out(classifier.card, validation)))
    test = evaluate_trained(run, classifier, dataset.test)
    metrics["test"] = test.metrics
    history = run.history()
    card = classifier.card.model_copy(
        update={
            "metrics": metrics,
            "notes": tuple(notes),
            "baselines": baselines(dataset)
            if dataset.imported and not dataset.is_sample
            else classifier.card.baselines,
            "corrections": corrections.outcome(classifier, dataset.test if dataset.is_sample else None)
            if corrections
            else None,
            "parameters": sum(tensor.numel() for tensor in classifier.model.parameters()),
            "created": datetime.now(UTC),
            "cpu_seconds": sum(epoch.cpu_seconds for epoch in history),
            "search": run.search(),
        }
    )
    keep_sample(dataset, run.files.sample, run.config.seed)
    report.write(run.files, card, history, dataset, test)
    return checkpoint.save(classifier.model, card, run.directory)


def evaluate_trained(run: RunState, classifier: Classifier, split: Split) -> Evaluation:
    """`evaluate` of what a run has trained. Raises Diverged."""
    classifier.model.eval()
    try:
        return evaluate(classifier, split)
    except NotFinite as error:
        raise Diverged(f"after training, {error}", run.config.lr) from error
