"""1, 4, 5 and 7 as people write them in many countries: each way is a small program with its own draws.

What a careful reader would take for another digit stays outside: the flag of a 1 falls from the top of its
stem, the bar of a 7 lies flat, the bowl of a 5 does not close.
"""

from math import cos, radians, sin

from numpy.random import Generator

from training.synthetic.curves import Path, Strokes, arc, bend, bow, chance, end_of, join, through, wave


def stick(r: Generator) -> Strokes:
    """1: a line, in some hands with a foot."""
    bottom = (0.3 + r.normal(0, 0.05), 1.0)
    stem = bow((0.3, 0), bottom, r.normal(0, 0.03))
    return _footed(r, stem) if chance(r, 0.12) else [stem]


def flagged(r: Generator) -> Strokes:
    """1: an upstroke, short or long, and a stem; often a foot."""
    length = r.uniform(0.1, 0.7)
    angle = r.uniform(25, 62 if length < 0.35 else 52)
    return _peak(r, length, angle, r.normal(0, 0.05), foot=0.3)


def peaked(r: Generator) -> Strokes:
    """1: an upstroke as long as the stem, or nearly, and as steep."""
    return _peak(r, r.uniform(0.55, 1.05), r.uniform(14, 40), r.uniform(-0.05, 0.2), foot=0.08)


def footed(r: Generator) -> Strokes:
    """1: an upstroke, a stem, and a line to stand on."""
    length = r.uniform(0.1, 0.6)
    return _peak(r, length, r.uniform(28, 58 if length < 0.35 else 50), r.normal(0, 0.03), foot=1)


def hooked_one(r: Generator) -> Strokes:
    """1: a flag that bends down, as in print."""
    width, depth = r.uniform(0.08, 0.28), r.uniform(0.12, 0.35)
    flag = bend((0.35 - width, depth), (0.35, depth * r.uniform(0.5, 0.95)), (0.35, 0))
    stem = bow((0.35, 0), (0.35 + r.normal(0, 0.04), 1), r.normal(0, 0.02))
    return _footed(r, join(flag, stem)) if chance(r, 0.4) else [join(flag, stem)]


def _peak(r: Generator, length: float, angle: float, lean: float, foot: float) -> Strokes:
    """An upstroke that makes an `angle` with the vertical, and a stem that leans to the right by `lean`."""
    top = (0.35, 0.0)
    start = (top[0] - length * sin(radians(angle)), min(max(length * cos(radians(angle)), 0.1), 1.02))
    sag = r.normal(0, 0.07 if length < 0.5 else 0.03)
    meets = (top[0] + r.normal(0, 0.01), r.uniform(0.03, 0.12) if chance(r, 0.15) and length < 0.5 else 0.0)
    flag = bow(start, meets, sag)
    stem = bow(top, (top[0] + lean, 1.0), r.normal(0, 0.025))
    strokes = [flag, stem] if meets[1] > 0 else [join(flag, stem)]
    return strokes[:-1] + _footed(r, strokes[-1]) if chance(r, foot) else strokes


def _footed(r: Generator, stem: Path) -> Strokes:
    """A line under the stem, in one stroke with it or after a lift."""
    x, y = end_of(stem)
    left, right = r.uniform(0.05, 0.32), r.uniform(0.05, 0.32)
    y += r.uniform(-0.04, 0.04)
    a, b = (x - left, y + r.normal(0, 0.02)), (x + right, y + r.normal(0, 0.02))
    foot = bow(a, b, r.normal(0, 0.04))
    return [join(stem, foot)] if chance(r, 0.15) else [stem, foot]


def open_four(r: Generator) -> Strokes:
    """4: open at the top, a stroke that turns into the bar, and a stem across it."""
    bar, stem_x = r.uniform(0.42, 0.68), r.uniform(0.38, 0.55)
    left, top = r.uniform(0, 0.12), (r.uniform(0.02, 0.26), r.uniform(0, 0.24))
    over = r.uniform(-0.03, 0.28)
    down = bow(top, (left, bar), r.normal(0, 0.06))
    across = bow((left, bar), (stem_x + over, bar + r.normal(-0.03, 0.07)), r.normal(0.0, 0.05))
    start = (stem_x + r.normal(0, 0.05), r.uniform(-0.05, min(0.3, bar - 0.15)))
    stem = bow(start, (stem_x + r.normal(-0.03, 0.05), 1), r.normal(0, 0.03))
    return [join(down, across), stem]


def cupped_four(r: Generator) -> Strokes:
    """4: open at the top, its left a round cup, with or without a bar that goes beyond the stem."""
    bar, wide = r.uniform(0.42, 0.65), r.uniform(0.35, 0.55)
    deep = r.uniform(0.1, 0.25)
    top = (r.uniform(0, 0.1), r.uniform(0, 0.15))
    cup = through(
        [top, (0.01, bar - deep), (0.25 * wide, bar), (0.65 * wide, bar), (wide, bar - r.uniform(0, deep))]
    )
    start = (wide + r.normal(0, 0.03), r.uniform(-0.08, 0.15))
    stem = bow(start, (wide + r.normal(-0.03, 0.05), 1), r.normal(0, 0.03))
    if chance(r, 0.5):
        return [join(cup, bow(end_of(cup), start), stem)]
    over = (wide + r.uniform(0.02, 0.2), bar - r.uniform(0, deep))
    return [join(cup, bow(end_of(cup), over)), stem]


def closed_four(r: Generator) -> Strokes:
    """4: a triangle with a stem, closed or nearly."""
    bar, x = r.uniform(0.45, 0.75), r.uniform(0.38, 0.52)
    apex = (x + r.normal(-0.02, 0.03), 0.0)
    left = (r.uniform(-0.05, 0.08), bar + r.normal(0, 0.03))
    over = r.uniform(-0.05, 0.28)
    down = bow(apex, left, r.normal(0, 0.04))
    across = bow(left, (x + over, bar + r.normal(-0.02, 0.04)), r.normal(0, 0.03))
    stem_top = (x, r.uniform(-0.06, 0.12) if chance(r, 0.7) else 0.0)
    stem = bow(stem_top, (x + r.normal(-0.02, 0.05), 1), r.normal(0, 0.02))
    if chance(r, 0.2):  # from the end of the bar up to the top, and down
        return [join(down, across[:-1] if over < 0.05 else across, stem)]
    return [join(down, across), stem]


def lightning_four(r: Generator) -> Strokes:
    """4: a long slanting stroke, the bar, and a short stem across its end."""
    bar, wide = r.uniform(0.5, 0.8), r.uniform(0.4, 0.6)
    top = (r.uniform(0.1, 0.45), 0.0)
    left = (r.uniform(-0.02, 0.08), bar)
    across = (wide + r.uniform(0.03, 0.2), bar + r.normal(-0.02, 0.05))
    x = r.uniform(0.62, 0.9) * wide
    start = (x + r.uniform(0, 0.12), bar - r.uniform(0.06, 0.32))
    stem = bow(start, (x - r.uniform(-0.02, 0.12), r.uniform(0.95, 1.15)), r.normal(0, 0.02))
    return [join(bow(top, left, r.normal(0, 0.04)), bow(left, across, r.normal(0, 0.03))), stem]


def bolt_four(r: Generator) -> Strokes:
    """4: a bolt of lightning in one stroke: down to the left, across, down."""
    bar, wide = r.uniform(0.42, 0.6), r.uniform(0.38, 0.55)
    left = (r.uniform(0, 0.08), bar)
    corner = (wide, bar + r.normal(-0.03, 0.04))
    back = (corner[0] - r.uniform(0, 0.06), corner[1] - r.uniform(0.12, 0.35))
    down = bow((r.uniform(0.12, 0.35), 0), left, r.normal(0, 0.04))
    stem = bow(back, (wide - r.uniform(0, 0.15), 1), r.normal(0, 0.02))
    return [join(down, bow(left, corner, r.normal(0, 0.03)), stem)]


def five(r: Generator) -> Strokes:
    """5: a neck and a bowl, then the bar: joined, apart, slanted, too far to the left."""
    neck, bowl = _five(r)
    x, y = float(neck[0, 0]), float(neck[0, 1])
    gap = r.uniform(0.02, 0.14) if chance(r, 0.35) else r.uniform(-0.04, 0.02)
    lift = r.normal(0, 0.04) if chance(r, 0.6) else -r.uniform(0.03, 0.12)
    long = r.uniform(0.22, 0.62)
    start = (x + gap, y + lift)
    bar = (start[0] + long, start[1] + r.normal(-0.03, 0.06))
    top = wave(start, bar, r.normal(0, 0.05)) if chance(r, 0.3) else bow(start, bar, r.normal(0, 0.06))
    return [join(neck, bowl), top]


def five_at_once(r: Generator) -> Strokes:
    """5: from the end of the bar to the end of the bowl in one stroke."""
    neck, bowl = _five(r)
    x, y = float(neck[0, 0]), float(neck[0, 1])
    start = (x + r.uniform(0.25, 0.6), y + r.normal(-0.03, 0.06))
    return [join(bow(start, (x, y), r.normal(0, 0.06)), neck, bowl)]


def five_without_bar(r: Generator) -> Strokes:
    """5: hardly a bar, but a straight neck and a corner before the bowl."""
    neck, bowl = _five(r, corner=0.95, last=150)
    x, y = float(neck[0, 0]), float(neck[0, 1])
    if chance(r, 0.1):
        return [join(neck, bowl)]
    stub = bow((x + r.uniform(0.1, 0.22), y + r.normal(-0.03, 0.03)), (x, y))
    return [join(stub, neck, bowl)]


def _five(r: Generator, corner: float = 0.6, last: float = 190) -> tuple[Path, Path]:
    """Neck and bowl; the bowl starts in a corner, or the neck turns into it."""
    depth, left = r.uniform(0.22, 0.54), r.uniform(0.02, 0.12)
    neck = bow((left + r.uniform(-0.02, 0.14), 0), (left, depth), r.normal(0, 0.04))
    tall = (1 - depth + r.uniform(0.02, 0.12)) / 2
    wide = r.uniform(0.2, 0.32)
    centre = (left + wide * r.uniform(0.7, 1.0), 1 - tall)
    start, end = (r.uniform(225, 262), r.uniform(110, last))
    bowl = arc(centre, (wide, tall), start, 360 + end - start, r.uniform(0.9, 1.12))
    if chance(r, corner):
        return neck, bowl
    return neck[:-2], join(bend(end_of(neck[:-2]), end_of(neck), end_of(bowl[:1])), bowl)


def seven(r: Generator) -> Strokes:
    """7: a bar and a stem, straight or bent."""
    return [_seven(r)]


def hooked_seven(r: Generator) -> Strokes:
    """7: the bar begins with a hook or a serif."""
    return [_hooked_seven(r, r.uniform(0.07, 0.3))]


def _hooked_seven(r: Generator, deep: float) -> Path:
    hook = (r.normal(0, 0.05), deep)
    line = _seven(r)
    return join(bow(hook, end_of(line[:1]), r.normal(0, 0.08)), line)


def crossed_seven(r: Generator) -> Strokes:
    """7: with a line across its stem, in some hands with a hook as well."""
    line = _hooked_seven(r, r.uniform(0.07, 0.42)) if chance(r, 0.4) else _seven(r)
    return [line, _crossing(r, line)]


def _seven(r: Generator) -> Path:
    wide, rise = r.uniform(0.48, 0.75), r.normal(0.0, 0.035)
    corner = (wide, 0.0 - rise)
    start = (0.0, 0.0 + rise)
    kind = r.random()
    flat = kind < 0.55
    bar = bow(start, corner, r.normal(0, 0.05)) if flat else wave(start, corner, r.normal(0.04, 0.06))
    foot = (wide * r.uniform(0.05, 0.75), 1.0)
    if kind > 0.85:  # the stem falls from the corner, then bends to the left
        stem = bend(corner, (wide * r.uniform(0.4, 0.75), r.uniform(0.35, 0.6)), foot)
    else:
        bent = r.normal(0, 0.05)
        stem = wave(corner, foot, 0.6 * bent) if chance(r, 0.15) else bow(corner, foot, bent - 0.02)
    if chance(r, 0.12):  # a small loop in the corner
        size = r.uniform(0.04, 0.09)
        bar = join(bar, arc((corner[0], corner[1] + size), (size, size), 270, 330))
    tail = r.random()
    if tail < 0.08:
        stem = join(stem, bow(foot, (foot[0] + r.uniform(0.03, 0.08), 1 + r.normal(0, 0.02))))
    return join(bar, stem)


def _crossing(r: Generator, line: Path) -> Path:
    """A line across the stem, between a third and two thirds of its height."""
    y = r.uniform(0.36, 0.66)
    stem = line[len(line) // 2 :]
    x = float(stem[abs(stem[:, 1] - y).argmin(), 0])
    left, right = r.uniform(0.1, 0.4), r.uniform(0.08, 0.4)
    tilt = r.normal(-0.1, 0.18)
    return bow((x - left, y - left * tilt), (x + right, y + right * tilt), r.normal(0, 0.04))
