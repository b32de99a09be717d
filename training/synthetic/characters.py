"""Characters that are no digits, as ink: of many scripts and symbols, and some that nobody has seen.

Scripts come from the fonts of matplotlib, and from those in the folder MINIST_FONTS where it is set: the
shipped weights were trained with Debian's `fonts-noto-core`.
"""

import os
import unicodedata
from collections.abc import Mapping, Sequence, Set
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont, ImageOps

from models.errors import NothingFound
from models.preprocessing.preprocess import preprocess_digit
from training.synthetic.hands import Ink
from training.synthetic.rendering import dots, skeletonize

LARGE = 84  # pixels of a side
LIKE_DIGITS = frozenset("0123456789OoQDIlLi|!ZzSsBbqg°ОоІіǀ۱١٠۰०၀ǁ")
LETTERS = ("Lu", "Ll", "Lo")
SYMBOLS = ("Sm", "So", "Sc", "Po")
PEN = (0.02, 0.07)  # half the width of a stroke, as a share of the side
FACES = ("DejaVuSans", "DejaVuSerif", "DejaVuSansMono", "DejaVuSans-Oblique", "STIXGeneral")
UPRIGHT = 4  # of these, with digits as they are printed
# scripts of further fonts that nobody trains on, so that doubt can be measured on them
KEPT_BACK = (
    "Bengali",
    "Devanagari",
    "Ethiopic",
    "Gujarati",
    "Khmer",
    "Lisu",
    "Tamil",
    "Telugu",
    "Thai",
    "Tifinagh",
)
LIKENESS = 0.85  # cosine to a printed digit from which on a character may be taken for it

Strokes = Sequence[NDArray[np.float64]]  # each [points, 2]: x, y
Scripts = Mapping[str, str]  # characters by script, or kind of symbol


class Face(NamedTuple):
    """A font, and its characters that are no digits and not like them."""

    font: ImageFont.FreeTypeFont
    scripts: Scripts


def printed(random: Generator, faces: Sequence[Face] = ()) -> Ink:
    """A character of a font (of one of `faces`, where there are any), bent, and mostly as a pen of one width
    would follow its middle line."""
    own, further = _faces(), _further_faces()
    faces = faces or (further if further and random.random() < 0.6 else own)
    ink = bent(_glyph(*_any_character(faces, random)), random)
    if random.random() >= 0.7:
        return ink
    line = np.argwhere(skeletonize(ink > 0.5))[:, ::-1] / LARGE
    return dots([(float(x), float(y)) for x, y in line], LARGE, 2 * random.uniform(*PEN))


def kept_back() -> Mapping[str, Face]:
    """Fonts of the scripts that nobody trains on, by script; none where MINIST_FONTS is not set."""
    paths = {script: path for path in _paths() if (script := _script_of(path)) in KEPT_BACK}
    return {script: _face(path, {script.upper()}) for script, path in paths.items()}


def _any_character(faces: Sequence[Face], random: Generator) -> tuple[ImageFont.FreeTypeFont, str]:
    while True:
        font, scripts = faces[int(random.integers(len(faces)))]
        shares = np.sqrt([len(known) for known in scripts.values()])  # scripts of few characters count for more
        known = list(scripts.values())[int(random.choice(len(shares), p=shares / shares.sum()))]
        character = known[int(random.integers(len(known)))]
        if not _is_like_a_digit(font, character):
            return font, character


def _glyph(font: ImageFont.FreeTypeFont, character: str) -> Image.Image:
    image = Image.new("L", (LARGE, LARGE))
    ImageDraw.Draw(image).text((LARGE / 2, LARGE / 2), character, fill=255, font=font, anchor="mm")
    return image


def stroked(random: Generator) -> Ink:
    """A character of strokes, in somebody's hand."""
    alphabets = _alphabets()
    alphabet = alphabets[int(random.integers(len(alphabets)))]
    return drawn(alphabet[int(random.integers(len(alphabet)))], random)


def invented(random: Generator) -> Ink:
    """A few strokes, straight, bent or hooked, mostly joined to each other."""
    strokes: list[NDArray[np.float64]] = []
    for _ in range(int(random.integers(2, 8))):
        start = random.random(2)
        if strokes and random.random() < 0.6:
            other = strokes[int(random.integers(len(strokes)))]
            start = other[int(random.integers(len(other)))]
        angle = random.choice([0, np.pi / 2, np.pi / 4, -np.pi / 4]) + random.normal(0, 0.2)
        bend = random.choice([0, 0, random.normal(0, 1.5), random.normal(0, 3)])
        turns = angle + np.linspace(0, bend, 12)
        steps = np.stack([np.cos(turns), np.sin(turns)], 1) * (random.uniform(0.4, 1.2) / 12)
        stroke = start + np.concatenate([np.zeros((1, 2)), np.cumsum(steps, 0)])
        if random.random() < 0.2:
            stroke = np.concatenate([stroke, stroke[-1:] + random.normal(0, 0.12, (1, 2))])
        strokes.append(stroke)
    return drawn(strokes, random)


def drawn(strokes: Strokes, random: Generator) -> Ink:
    """Strokes turned, slanted, stretched and shaken, with a pen of one width."""
    points = np.concatenate(strokes)
    size = max(float(np.ptp(points, axis=0).max()), 1e-6)
    turn = _turned(random) * np.exp(random.normal(0, 0.15, (1, 2)))
    image = Image.new("L", (2 * LARGE, 2 * LARGE))
    draw, width = ImageDraw.Draw(image), max(1, round(4 * LARGE * random.uniform(*PEN)))
    round_off = random.random() < 0.5
    for stroke in strokes:
        moved = ((stroke - points.mean(0)) / size + random.normal(0, 0.02, stroke.shape)) @ turn.T
        if round_off and len(moved) > 2:
            moved = np.concatenate([moved[:1], rounded(moved), moved[-1:]])
        path = [(float(x), float(y)) for x, y in moved * (1.2 * LARGE) + LARGE]
        draw.line(path, fill=255, width=width, joint="curve")
        for x, y in (path[0], path[-1]):
            draw.ellipse((x - width / 2, y - width / 2, x + width / 2, y + width / 2), fill=255)
    return np.asarray(image.reduce(2), np.float32) / np.float32(255)


def bent(image: Image.Image, random: Generator) -> Ink:
    """Turned, slanted and stretched, with a corner or two pulled aside."""
    corners = np.array([(0, 0), (0, LARGE), (LARGE, LARGE), (LARGE, 0)], np.float64) - LARGE / 2
    corners = (corners * np.exp(random.normal(0, 0.15, 2))) @ _turned(random).T
    corners += random.normal(0, 5, (4, 2)) + LARGE / 2
    quad = tuple(corners.ravel().tolist())
    moved = image.transform(image.size, Image.Transform.QUAD, quad, Image.Resampling.BILINEAR)
    return np.asarray(moved, np.float32) / np.float32(255)


def rounded(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Chaikin's corner cutting, three times."""
    for _ in range(3):
        points = np.stack([points[:-1] * 0.75 + points[1:] * 0.25, points[:-1] * 0.25 + points[1:] * 0.75], 1)
        points = points.reshape(-1, 2)
    return points


def _turned(random: Generator) -> NDArray[np.float64]:
    angle, slant = random.normal(0, 0.12), random.normal(0, 0.18)
    return np.array([[np.cos(angle), np.sin(angle) + slant], [-np.sin(angle), np.cos(angle)]])


@lru_cache(maxsize=1)
def _faces() -> Sequence[Face]:
    """Of the fonts that come with matplotlib."""
    import matplotlib

    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    return [_face(folder / f"{name}.ttf") for name in FACES]


@lru_cache(maxsize=1)
def _further_faces() -> Sequence[Face]:
    """Of the fonts in the folder MINIST_FONTS."""
    found = [_face(path) for path in _paths() if _script_of(path) not in KEPT_BACK]
    return [face for face in found if face.scripts]


def _paths() -> list[Path]:
    folder = os.environ.get("MINIST_FONTS")
    return sorted(Path(folder).glob("NotoSans*-Regular.ttf")) if folder else []


def _script_of(path: Path) -> str:
    return path.stem.removeprefix("NotoSans").removesuffix("-Regular")


def _face(path: Path, only: Set[str] = frozenset()) -> Face:
    """A font with symbols and the letters of all scripts that are not kept back; or of `only` some scripts."""
    from fontTools.ttLib import TTFont

    with TTFont(path, lazy=True) as font:
        known = [chr(code) for code in font.getBestCmap()]
    scripts: dict[str, str] = {}
    for one in filter(_is_unlike_digits, known):
        category = unicodedata.category(one)
        script = unicodedata.name(one, "OTHER").split()[0] if category in LETTERS else category
        if script in only or (not only and script.title() not in KEPT_BACK):
            scripts[script] = scripts.get(script, "") + one
    return Face(ImageFont.truetype(str(path), LARGE * 2 // 3), scripts)


@lru_cache(maxsize=100_000)
def _is_like_a_digit(font: ImageFont.FreeTypeFont, character: str) -> bool:
    """Whether it looks like a printed digit, or like nothing."""
    seen = _direction(font, character)
    return seen is None or bool((_digits() @ seen).max() > LIKENESS)


@lru_cache(maxsize=1)
def _digits() -> NDArray[np.float32]:
    directions = [_direction(face.font, digit) for face in _faces()[:UPRIGHT] for digit in "0123456789"]
    return np.stack([direction for direction in directions if direction is not None])


def _direction(font: ImageFont.FreeTypeFont, character: str) -> NDArray[np.float32] | None:
    """The picture that a model would see, as a vector of length 1; None: it would see nothing."""
    try:
        seen = preprocess_digit(ImageOps.invert(_glyph(font, character)))[0].astype(np.float32).ravel()
    except NothingFound:
        return None
    return seen / np.linalg.norm(seen)


def _is_unlike_digits(character: str) -> bool:
    if character in LIKE_DIGITS or unicodedata.decomposition(character).startswith("<"):
        return False
    return unicodedata.category(character) in (*LETTERS, *SYMBOLS)


@lru_cache(maxsize=1)
def _alphabets() -> Sequence[Sequence[Strokes]]:
    """Characters as strokes: Latin hands, Greek, Cyrillic, Japanese, symbols.

    Source: Hershey, "Calligraphy for computers" (1967), in the package Hershey-Fonts.
    """
    from HersheyFonts import HersheyFonts

    fonts = HersheyFonts()
    found = []
    for name in fonts.default_font_names:
        fonts.load_default_font(name)
        japanese = name == "japanese"
        codes = range(33, 224 if japanese else 127)
        known = (chr(code) for code in codes if japanese or chr(code) not in LIKE_DIGITS)
        characters = ([np.array(line, np.float64) for line in fonts.strokes_for_text(one)] for one in known)
        alphabet = [[line for line in strokes if len(line) > 1] for strokes in characters]
        found.append([strokes for strokes in alphabet if strokes])
    return found
