"""Small-image or transfer: both are trained on the training pictures, and validation pictures tell.

How many pictures there are does not tell by itself: of 50 animals a class, features of photographs know more
than a network learns from them alone; of 50 traffic signs they may know less.
"""

from collections.abc import Callable

from training.choice import LITE0, SMALL
from training.directory import RunDirectory
from training.recipes import Config

NAMES = {SMALL: "small-image", LITE0: "transfer"}
Score = Callable[[Config], float]  # trains, and returns the accuracy on validation pictures


def compare(
    files: RunDirectory, small: Config, transfer: Config, score_network: Score, score_head: Score
) -> tuple[str, str]:
    """The architecture with more validation pictures right, and why; small-image where they have as many.

    What both have done stays in the run's directory, where training goes on with it.
    """
    head = score_head(transfer)  # its features are kept
    scores = {SMALL: score_network(small), LITE0: head}
    better = max(scores, key=scores.__getitem__)
    if better == LITE0:  # the other's epochs are not those of the run
        files.resume.unlink(missing_ok=True)
        files.metrics.unlink(missing_ok=True)
    said = ", ".join(f"{NAMES[each]} {score:.3f}" for each, score in scores.items())
    return better, f"{NAMES[better]} was chosen by accuracy on validation pictures: {said}"
