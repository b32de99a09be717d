"""What counted, in a few words for a terminal: the columns of a row, the places of a picture."""

import io
from collections.abc import Mapping

from minist_client import Prediction

COUNTED = 3  # columns, or places, that are shown
PLACES = (
    ("top left", "top", "top right"),
    ("left", "centre", "right"),
    ("bottom left", "bottom", "bottom right"),
)


def counted(answer: Prediction) -> str:
    """The columns or places that counted most, first the one that did most; empty where nothing is known."""
    if answer.contributions:
        return _columns(answer.contributions)
    return _places(answer.saliency) if answer.saliency else ""


def _columns(contributions: Mapping[str, float]) -> str:
    found = sorted(contributions.items(), key=lambda pair: -abs(pair[1]))[:COUNTED]
    return ", ".join(f"{name} {value:+.2f}" for name, value in found)


def _places(saliency: bytes) -> str:
    """Shares of a map of how much each pixel counts, a PNG, in the nine parts of the picture."""
    import numpy as np
    from PIL import Image

    values = np.asarray(Image.open(io.BytesIO(saliency)).convert("L"), float)
    total = values.sum()
    if not total:
        return ""
    shares = {
        place: part.sum() / total
        for places, band in zip(PLACES, np.array_split(values, 3, axis=0), strict=True)
        for place, part in zip(places, np.array_split(band, 3, axis=1), strict=True)
    }
    largest = sorted(shares.items(), key=lambda pair: -pair[1])[:COUNTED]
    return ", ".join(f"{place} {100 * share:.0f} %" for place, share in largest if share >= 0.005)
