"""A picture of one digit or several: what `preprocess.read` makes of it, and beside that the candidates.

one digit, clearly        as before, nothing more is done
perhaps several           the candidates too, so that the answer can warn
a number is asked for     the candidates alone; where there is but one digit, that
"""

from dataclasses import replace

import numpy as np
from PIL import Image

from models.errors import TooManyDigits
from models.numbers import MAX_DIGITS, Candidate, Candidates, Reading
from models.preprocessing.decode import LARGE, load, load_exact
from models.preprocessing.digit_candidates import find_candidates
from models.preprocessing.pictures import Pixels, to_planes
from models.preprocessing.preprocess import (
    ENOUGH,
    InputInfo,
    InputSpec,
    Look,
    PreprocessMode,
    in_pixels_of,
    look_at,
    read,
    read_digit,
    scale_as_trained,
)

_LIGHT = bytes(range(255, -1, -1))


def read_digits(
    image: Image.Image, spec: InputSpec, mode: PreprocessMode, reading: Reading
) -> tuple[bytes, InputInfo, Candidates | None]:
    """The pixels of an opened image that a model takes, one channel after the other, what was done for that,
    and the candidates where it may have several digits.

    When a number is read there are no pixels but those of the candidates. Raises as `preprocess.read`.
    """
    if spec.preprocessing != "digit" or mode == "none" or _is_as_trained(image, spec):
        pixels, info = read(image, spec, mode)
        return _alone(pixels, info, reading)
    picture, size = load(image, ENOUGH if reading == "digit" else LARGE)
    look = look_at(picture)
    candidates = None
    if reading == "number" or (look.found is not None and look.found.several):
        candidates = find_candidates(look.picture, look.found, spec.shape[1], reading)
    candidates = _for_upload(candidates, spec, size, picture.size) if candidates is not None else None
    if reading == "number" and candidates is not None:
        if candidates.more:
            raise TooManyDigits(f"the picture has more than {MAX_DIGITS} digits", "send a part of it at a time")
        return b"", _whole(look, spec, size), candidates
    pixels, inverted, box = read_digit(look, spec.shape[1])
    if spec.polarity == "dark-on-light":
        pixels, inverted = 255 - pixels, not inverted
    info = InputInfo(size, inverted, in_pixels_of(size, picture.size, box))
    if reading == "number":
        return _alone(pixels, info, reading)
    return pixels.tobytes(), info, candidates


def _is_as_trained(image: Image.Image, spec: InputSpec) -> bool:
    height, width = spec.shape[1:]
    if sorted(image.size) != [min(height, width), max(height, width)]:
        return False
    return scale_as_trained(load_exact(image, (height, width), spec.ground), spec) is not None


def _alone(pixels: Pixels, info: InputInfo, reading: Reading) -> tuple[bytes, InputInfo, Candidates | None]:
    """One digit; as a number it is the only candidate."""
    planes = to_planes(pixels)
    if reading == "digit":
        return planes, info, None
    only = Candidate(0, 0, 1, info.box, 0.0)
    return b"", info, Candidates(planes, (only,), ((np.inf,),))


def _for_upload(
    candidates: Candidates, spec: InputSpec, size: tuple[int, int], reduced: tuple[int, int]
) -> Candidates:
    """In pixels of the upload, of the model's polarity."""
    found = tuple(replace(one, box=in_pixels_of(size, reduced, one.box)) for one in candidates.found)
    pixels = candidates.pixels.translate(_LIGHT) if spec.polarity == "dark-on-light" else candidates.pixels
    return replace(candidates, found=found, pixels=pixels)


def _whole(look: Look, spec: InputSpec, size: tuple[int, int]) -> InputInfo:
    """What was done to a picture that was read as a whole."""
    dark = look.inverted if look.inverted is not None else look.found is None or look.found.dark
    return InputInfo(size, dark != (spec.polarity == "dark-on-light"), (0, 0, *size))
