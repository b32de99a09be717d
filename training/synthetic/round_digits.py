"""0, 2, 3, 6, 8 and 9 as people write them in many countries: each way is a small program with its own draws.

What a careful reader would take for another digit stays outside: the tail of a 9 does not reach its loop
again, a 6 keeps a stem that is seen, the waist of a 3 is open to the left.
"""

import numpy as np
from numpy.random import Generator

from training.synthetic.curves import Path, Point, Strokes, arc, bend, bow, chance, end_of, join, through, wave


def ring(r: Generator) -> Strokes:
    """0: an oval, wide or narrow, that closes, nearly closes, or runs on."""
    return [_ring(r, r.uniform(-22, 70))]


def looped_ring(r: Generator) -> Strokes:
    """0: its end curls inside or runs out at the top."""
    line = _ring(r, r.uniform(-5, 25))
    x, y = end_of(line)
    if chance(r, 0.5):
        size = r.uniform(0.04, 0.1)
        return [join(line, arc((x, y + size), (size, size), 270, -r.uniform(120, 330)))]
    return [join(line, bow((x, y), (x + r.uniform(0.08, 0.28), y - r.uniform(-0.04, 0.1)), -0.1))]


def slashed_ring(r: Generator) -> Strokes:
    """0: with a slash, inside or through it, sometimes in one stroke with the ring."""
    line = _ring(r, r.uniform(0, 40))
    x0, x1 = float(line[:, 0].min()), float(line[:, 0].max())
    reach = r.uniform(0.6, 1.35)
    middle, half = (x0 + x1) / 2, (x1 - x0) / 2 * reach
    tall = min(r.uniform(0.22, 0.4) * reach, 0.52)
    a, b = (middle + half, 0.5 - tall), (middle - half, 0.5 + tall)
    if chance(r, 0.12):
        a, b = (middle - half, 0.5 - tall), (middle + half, 0.5 + tall)
    slash = bow(a, b, r.normal(0, 0.03))
    return [join(line, slash)] if chance(r, 0.3) else [line, slash]


def _ring(r: Generator, over: float) -> Path:
    wide = r.uniform(0.14, 0.26) if chance(r, 0.3) else r.uniform(0.24, 0.45)
    turn = 1 if chance(r, 0.12) else -1
    line = arc(
        (wide, 0.5),
        (wide, 0.5),
        r.uniform(225, 320),
        turn * (360 + over),
        1 + r.normal(0, 0.07),
        r.uniform(0.75, 1.05),
    )
    line[:, 0] = wide + (line[:, 0] - wide) * (1 + r.normal(0, 0.25) * (line[:, 1] - 0.5))  # an egg
    return line


def two(r: Generator) -> Strokes:
    """2: a neck, a corner, a base that is straight or waves."""
    neck = _neck(r)
    return [join(neck, _base(r, neck))]


def looped_two(r: Generator) -> Strokes:
    """2: with a loop where the base begins."""
    neck = _neck(r)
    size, y = r.uniform(0.05, 0.32), r.uniform(0.9, 1.0)
    x = r.uniform(-0.02, 0.1)
    loop = through(
        [
            end_of(neck),
            (x + 0.14, y - 0.08),
            (x + 0.02, y),
            (x - 0.03, y - 0.6 * size),
            (x + 0.08, y - size),
            (x + 0.2, y - 0.35 * size),
            (x + r.uniform(0.45, 0.65), y + r.uniform(-0.05, 0.1)),
        ]
    )
    return [join(neck, loop[2:])]


def flat_two(r: Generator) -> Strokes:
    """2: like a Z."""
    wide = r.uniform(0.4, 0.6)
    top = bow((0, r.uniform(0, 0.12)), (wide, r.uniform(-0.02, 0.06)), r.uniform(0, 0.16))
    left = (r.uniform(-0.05, 0.08), 1.0)
    diagonal = bow(end_of(top), left, r.normal(0, 0.05))
    return [join(top, diagonal, bow(left, (r.uniform(0.42, 0.68), 1 + r.normal(0, 0.03)), r.normal(0, 0.04)))]


def round_two(r: Generator) -> Strokes:
    """2: without a corner, the neck swings into the base like that of a swan."""
    neck = _neck(r)
    x, y = end_of(neck)
    low = r.uniform(0.03, 0.12)
    swing = through(
        [(x, y), (0.18, 0.82), (low, 0.95), (0.2, 1.0), (r.uniform(0.5, 0.68), r.uniform(0.9, 1.03))]
    )
    return [join(neck, swing[1:])]


def _neck(r: Generator) -> Path:
    """The upper bow of a 2: from the left over the top to the right and on downwards."""
    wide, tall = r.uniform(0.2, 0.3), r.uniform(0.2, 0.32)
    start = r.uniform(140, 160) if chance(r, 0.2) else r.uniform(165, 235)  # with a curl, or open
    grow = 1 + (r.uniform(0.4, 0.9) if start < 160 else r.uniform(0, 0.15))
    return arc((wide, tall), (wide / grow, tall / grow), start, 360 + r.uniform(0, 35) - start, grow)


def _base(r: Generator, neck: Path) -> Path:
    """Down to the left, and along the line."""
    left = (r.uniform(-0.06, 0.1), r.uniform(0.94, 1.02))
    right = (r.uniform(0.42, 0.72), 1 + r.normal(0, 0.05))
    down = bow(end_of(neck), left, r.normal(-0.02, 0.07))
    base = wave(left, right, r.normal(0.03, 0.05)) if chance(r, 0.5) else bow(left, right, r.normal(0.02, 0.05))
    return join(down, base)


def three(r: Generator) -> Strokes:
    """3: two bows; between them a cusp, a dent or a small loop."""
    waist = (r.uniform(0.12, 0.32), r.uniform(0.4, 0.54))
    wide, tall = r.uniform(0.2, 0.3), waist[1] / 2
    start = r.uniform(145, 170) if chance(r, 0.2) else r.uniform(170, 245)
    upper = arc((wide * 0.95, tall), (wide, tall), start, 360 + r.uniform(45, 80) - start)
    middle = _waist(r, waist)
    lower = _lower_bow(r, waist)
    if chance(r, 0.08):
        return [join(upper, bow(end_of(upper), waist)), join(bow(waist, end_of(lower[:1])), lower)]
    return [join(upper, middle, lower)]


def flat_three(r: Generator) -> Strokes:
    """3: a straight bar on top, a slanting line, and a bow."""
    wide = r.uniform(0.38, 0.6)
    waist = (r.uniform(0.14, 0.34), r.uniform(0.32, 0.46))
    bar = bow((r.uniform(0, 0.08), r.normal(0.01, 0.03)), (wide, r.normal(-0.01, 0.03)), r.normal(0.02, 0.05))
    slant = bow(end_of(bar), waist, r.normal(0, 0.05))
    return [join(bar, slant, _lower_bow(r, waist))]


def angular_three(r: Generator) -> Strokes:
    """3: four straight lines."""
    wide = r.uniform(0.4, 0.6)
    waist = (r.uniform(0.1, 0.25), r.uniform(0.38, 0.5))
    upper = through([(0.0, r.uniform(0.02, 0.16)), (0.6 * wide, 0), (0.9 * wide, r.uniform(0.1, 0.2))])
    low = (wide, r.uniform(0.62, 0.78))
    end = (r.uniform(-0.05, 0.1), r.uniform(0.92, 1.02))
    return [join(upper, bow(end_of(upper), waist), bow(waist, low, 0.06), bow(low, end, -r.uniform(0, 0.15)))]


def _waist(r: Generator, at: Point) -> Path:
    """Where the two bows of a 3 meet."""
    if chance(r, 0.25):
        size = r.uniform(0.025, 0.07)
        return arc((at[0] + size, at[1] - size), (size * 1.3, size), 90, r.uniform(250, 330))
    return bow((at[0] + 0.02, at[1] - 0.01), (at[0] + r.uniform(0, 0.06), at[1] + 0.01))


def _lower_bow(r: Generator, waist: Point) -> Path:
    tall = (1 - waist[1]) / 2
    wide = r.uniform(0.22, 0.34)
    end = r.uniform(112, 190)
    start = r.uniform(268, 300)
    return arc((wide * 0.9, 1 - tall), (wide, tall), start, 360 + end - start, r.uniform(0.9, 1.1))


def six(r: Generator) -> Strokes:
    """6: a stem that bends into its loop; long or short, straight or round."""
    return [_six(r, r.uniform(0.36, 0.72))]


def short_six(r: Generator) -> Strokes:
    """6: a large loop, a short stem."""
    return [_six(r, r.uniform(0.62, 0.78))]


def straight_six(r: Generator) -> Strokes:
    """6: a straight stem, its loop like that of a b."""
    tall, wide = r.uniform(0.2, 0.34), r.uniform(0.2, 0.3)
    top, left = (r.uniform(0.05, 0.35), 0.0), r.uniform(0, 0.06)
    low = (left, 1 - tall * r.uniform(0.6, 1.0))
    stem = bow(top, low, r.uniform(0, 0.08))
    loop = arc((left + wide, 1 - tall), (wide, tall), 170, -r.uniform(300, 385), r.uniform(0.8, 1.05))
    return [join(stem, loop)]


def _six(r: Generator, height: float) -> Path:
    """A loop of this height and a stem; the loop may stay open a little, or its end goes inside."""
    tall, wide = height / 2, r.uniform(0.2, 0.33)
    centre = (wide, 1 - tall)
    top = (r.uniform(0.25 * wide, wide + 0.35), 0.0)
    left = (0.0, centre[1] + r.uniform(-0.05, 0.05))
    pull = r.uniform(0.0, 0.75)  # 1: up the left side, 0: straight
    towards = (pull * 0.0 + (1 - pull) * (top[0] * 0.45), (1 - pull) * 0.5 * left[1] + pull * left[1] * 0.3)
    stem = bend(top, towards, left)
    if chance(r, 0.12):
        stem = join(bow((top[0] + r.uniform(0.04, 0.12), r.uniform(0.02, 0.1)), top, 0.2), stem)
    return join(stem, arc(centre, (wide, tall), 180, -r.uniform(310, 420), r.uniform(0.72, 1.02)))


def eight(r: Generator) -> Strokes:
    """8: one stroke, from the top an S and back; it closes, its ends cross or stay apart."""
    start, over = r.uniform(-0.7, 0.1), r.uniform(-0.15, 0.35)
    t = np.linspace(start, 2 * np.pi + start + over, 48)
    middle, lower = r.uniform(0.4, 0.54), np.cos(t) < 0
    fullness = r.uniform(0.88, 1.1)
    wide = np.where(lower, r.uniform(0.19, 0.33), r.uniform(0.14, 0.27))
    x = -np.sign(np.sin(2 * t)) * np.abs(np.sin(2 * t)) ** fullness * wide
    y = 1 - np.cos(t)  # 0..2, the crossing at 1
    y = np.where(lower, middle + (y - 1) * (1 - middle), y * middle)
    line = np.stack([x + 0.3 + r.normal(0, 0.08) * (1 - y), y], 1)
    ends = r.random()
    if ends < 0.3:  # its last part goes beyond the first
        last = (end_of(line)[0] + r.uniform(0.02, 0.16), end_of(line)[1] - r.uniform(0.0, 0.12))
        line = join(line, np.array([last]))
    return [line]


def two_rings(r: Generator) -> Strokes:
    """8: a ring on a ring, which touch, overlap or leave a gap."""
    m, gap = r.uniform(0.36, 0.55), r.normal(0, 0.02)
    small, large = r.uniform(0.14, 0.27), r.uniform(0.18, 0.33)
    over = r.uniform(-15, 60)
    upper = arc((0.3, m / 2), (small, m / 2), r.uniform(60, 130), -(360 + over), r.uniform(0.95, 1.05))
    x = 0.3 + r.normal(0, 0.04)
    lower = arc(
        (x, (1 + m + gap) / 2), (large, (1 - m - gap) / 2), r.uniform(230, 310), -(360 + r.uniform(-15, 50))
    )
    return [upper, lower]


def ribbon_eight(r: Generator) -> Strokes:
    """8: an S and a straight line back across it, its ends above the upper loop."""
    m = r.uniform(0.4, 0.55)
    x, low = 0.3, r.uniform(0.14, 0.28)
    start, end = (
        (x + r.uniform(0.12, 0.28), r.uniform(0.0, 0.14)),
        (x + r.uniform(0.18, 0.36), r.uniform(-0.08, 0.1)),
    )
    s = through(
        [
            start,
            (x - 0.02, 0.0 + r.uniform(0, 0.05)),
            (x - r.uniform(0.12, 0.25), m * 0.45),
            (x, m),
            (x + low, (1 + m) / 2 + 0.04),
            (x + 0.6 * low, 0.96),
            (x - 0.02, 1),
            (x - 0.8 * low, 0.94),
            (x - low, r.uniform(0.75, 0.85)),
        ]
    )
    back = bow(end_of(s), end, r.normal(-0.03, 0.05))
    return [join(s, back)]


def nine(r: Generator) -> Strokes:
    """9: a loop and a straight stem."""
    loop, x, y = _loop(r, r.uniform(0.34, 0.6))
    foot = (x + r.normal(-0.1, 0.13), 1.0)
    return [join(loop, bow((x, y), foot, r.normal(-0.02, 0.05)))]


def low_nine(r: Generator) -> Strokes:
    """9: a loop that takes most of it."""
    loop, x, y = _loop(r, r.uniform(0.56, 0.76))
    return [join(loop, bow((x, y), (x + r.normal(-0.08, 0.08), 1.0), r.normal(-0.03, 0.04)))]


def curled_nine(r: Generator) -> Strokes:
    """9: the tail bends to the left, a little or like that of a g."""
    height = r.uniform(0.3, 0.6)
    loop, x, y = _loop(r, height, most_open=0.5)
    wide, tall = r.uniform(0.12, 0.38), r.uniform(0.08, 0.25)
    sweep = r.uniform(70, 205 if 1 - height > 0.5 else 150)
    centre = (x - wide + r.normal(0, 0.03), 1 - tall)
    tail = arc(centre, (wide, tall), 0, sweep, r.uniform(0.9, 1.15))
    return [join(loop, bow((x, y), end_of(tail[:1]), r.normal(-0.01, 0.03)), tail)]


def leaning_nine(r: Generator) -> Strokes:
    """9: its stem leaves the loop low at the right and leans under it, as in a P seen from behind or a rho."""
    tall, wide = r.uniform(0.24, 0.36), r.uniform(0.2, 0.32)
    start = r.uniform(20, 80)
    loop = arc((wide, tall), (wide, tall), start, -r.uniform(350, 400), r.uniform(0.95, 1.05))
    foot = (r.uniform(0.0, 1.1) * wide, 1.0)
    right = arc((wide, tall), (wide, tall), 300, r.uniform(40, 80))
    return [join(loop, right[-2:], bow(end_of(right), foot, r.normal(-0.04, 0.05)))]


def lifted_nine(r: Generator) -> Strokes:
    """9: a loop, and a stem of its own that starts at the top: like a q, or the mirror of a P."""
    height = r.uniform(0.36, 0.62)
    loop, x, _ = _loop(r, height)
    top = (x + r.normal(0.01, 0.025), r.uniform(-0.08, 0.12))
    foot = (x + r.normal(-0.03, 0.06), 1.0)
    stem = bow(top, foot, r.normal(-0.01, 0.03))
    if chance(r, 0.12):
        stem = join(stem, bow(foot, (foot[0] + r.uniform(0.06, 0.16), 1 - r.uniform(0.02, 0.12))))
    return [loop, stem]


def open_nine(r: Generator) -> Strokes:
    """9: a 6 on its head: the round stem ends at the left."""
    line = _six(r, r.uniform(0.4, 0.68))
    return [line[:, :] * -1 + (float(line[:, 0].max()), 1.0)]


def _loop(r: Generator, height: float, most_open: float = 0.3) -> tuple[Path, float, float]:
    """The loop of a 9, from the right over the top and back; where its stem begins."""
    tall, wide = height / 2, r.uniform(0.17, 0.32)
    start = r.uniform(290 if chance(r, most_open) else 325, 360)
    over = 360 - start  # it begins that much before its right side
    shrink = r.uniform(0.85, 1.12)
    sweep = -(360 - over) + r.uniform(-10, 12)
    loop = arc((wide, tall), (wide, tall), start, sweep, shrink)
    if chance(r, 0.35):  # closed by the stem, from above the loop's beginning
        top = (2 * wide + r.normal(0, 0.02), tall * r.uniform(0.1, 0.8))
    else:
        top = (2 * wide + r.normal(0, 0.01), tall * r.uniform(0.6, 1.1))
    return loop, *top
