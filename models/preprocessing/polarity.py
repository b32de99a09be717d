"""Whether ink is darker than its ground, told before anything is found."""

import numpy as np
from PIL import Image

from models.preprocessing.background import SMALL
from models.preprocessing.lines import frame_width
from models.preprocessing.morphology import Mask, Plane, border, box_blur, label

POLARITY_SIDE = 64  # pixels along the longer side are enough
BORDER_TRUST, BORDER_TRUST_SMALL = 0.6, 2  # how far the border may outvote the third moment
LEAST_OF_BORDER, MOST_OF_BORDER = 0.1, 0.8  # of a small picture, that a digit has which reaches its sides
JOINED, APART = 0.95, 0.85  # the largest component, as a share: of such a digit at least, of its ground at most
MOST_INK = 0.7  # share of such a picture that a digit covers
FRAMED = 48  # pixels along the longer side: in a smaller picture a margin may be as narrow as a frame
DIVIDED = 12  # pixels along the longer side: in a smaller picture strokes are broken
PIECES, CORNERS = 2, 3  # pieces of ground along the border; where the digit has most of it


def ink_is_dark(image: Image.Image) -> bool:
    """Strokes take less room than their background: which side of the local mean is the rarer one?

    The third moment of the detail says so in any light; the border helps where a digit fills the picture.
    """
    step = -(-max(image.size) // POLARITY_SIDE)
    page = np.asarray(image.reduce(step) if step > 1 else image, np.float32)
    small = max(image.size) < SMALL  # no shadows
    if small and max(page.shape) >= FRAMED:
        dark = page < (float(page.min()) + float(page.max())) / 2
        inset = frame_width(dark if border(dark).mean() > 0.5 else ~dark)
        page = page[inset : page.shape[0] - inset, inset : page.shape[1] - inset]
    joined = _joined_level_is_dark(page) if small and max(page.shape) >= DIVIDED else None
    if joined is not None:
        return joined
    detail = page - (page.mean() if small else box_blur(page, max(page.shape) // 5))
    spread = float(detail.std()) + 1e-3
    skew = float((detail * detail * detail).mean()) / spread**3
    lighter = (float(np.median(border(page))) - float(page.mean())) / (float(page.std()) + 1e-3)
    trust = BORDER_TRUST_SMALL if small else BORDER_TRUST
    return min(max(lighter, -trust), trust) > skew


def _joined_level_is_dark(page: Plane) -> bool | None:
    """Which of two levels hangs together where the other one is in pieces that lie along the border: that of a
    digit which reaches the sides of a small picture, for it divides its ground. None in doubt."""
    dark = page < (float(page.min()) + float(page.max())) / 2
    share = float(border(dark).mean())
    if share in (0, 1):
        return None
    pieces = {True: _pieces(dark), False: _pieces(~dark)}
    for digit, along in ((True, share), (False, 1 - share)):
        if along < LEAST_OF_BORDER or (dark == digit).mean() > MOST_INK:
            continue
        fewest = PIECES if along < MOST_OF_BORDER else CORNERS
        if pieces[digit][0] > JOINED and pieces[not digit][0] < APART and pieces[not digit][1] >= fewest:
            return digit
    return None


def _pieces(mask: Mask) -> tuple[float, int]:
    """The largest component as a share of all that is set, and how many lie along the border; some is set."""
    labels, _ = label(mask)
    sizes = np.bincount(labels[mask])
    return float(sizes.max() / sizes.sum()), int(np.count_nonzero(np.unique(border(labels))))
