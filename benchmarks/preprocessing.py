"""How long it takes to bring a picture to 28x28, on one core: `python -m benchmarks.preprocessing`.

The bar: at most 3 ms for a photograph of 1000x1000 pixels, everything after decoding; nothing that can
be told from noise for an image that is as the model was trained.
"""

import io
from collections.abc import Callable
from functools import partial
from time import process_time

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from models.card import Card, Input
from models.preprocessing.decode import decode, load, open_image
from models.preprocessing.preprocess import ENOUGH, preprocess_digit, read

CARD = Card(
    name="digits",
    architecture="digits",
    input=Input(
        channels=1,
        height=28,
        width=28,
        mean=(0,),
        std=(1,),
        preprocessing="digit",
        polarity="light-on-dark",
    ),
    classes=tuple("0123456789"),
)


def photograph(side: int, paper: str, share: float) -> bytes:
    """A 7 that takes `share` of a sheet, in uneven light, as JPEG."""
    image = Image.new("L", (side, side), 230)
    draw = ImageDraw.Draw(image)
    if paper == "grid":
        for at in range(0, side, side // 20):
            draw.line([(at, 0), (at, side)], fill=190, width=2)
            draw.line([(0, at), (side, at)], fill=190, width=2)
    start, size = side * (0.45 - share / 2), side * share
    line = [(start, start), (start + size * 0.7, start), (start + size * 0.3, start + size)]
    draw.line(line, fill=40, width=max(2, int(size / 18)))
    light = np.linspace(0.7, 1, side)[:, None] + np.random.default_rng(0).normal(0, 0.02, (side, side))
    image = image.filter(ImageFilter.GaussianBlur(side / 700))
    stream = io.BytesIO()
    Image.fromarray((np.asarray(image) * light).clip(0, 255).astype(np.uint8)).convert("RGB").save(
        stream, "JPEG", quality=85
    )
    return stream.getvalue()


def decoded(data: bytes, long: int) -> Image.Image:
    return load(open_image(data), long)[0]


def milliseconds(work: Callable[[], object], times: int = 50) -> float:
    """CPU time, the best of many."""
    best = float("inf")
    for _ in range(times):
        begun = process_time()
        work()
        best = min(best, process_time() - begun)
    return best * 1000


def main() -> None:
    print(f"{'picture':28} {'decode':>8} {'fit':>8}  ms")
    for side in (300, 1000, 3000):
        for paper, share in (("white", 0.7), ("white", 0.25), ("grid", 0.7), ("grid", 0.25)):
            data = photograph(side, paper, share)
            sheet = decoded(data, ENOUGH)
            decoding = milliseconds(partial(decoded, data, ENOUGH), 10)
            fitting = milliseconds(partial(preprocess_digit, sheet))
            print(f"{f'{side}x{side} {paper}, digit {share:.0%}':28} {decoding:8.2f} {fitting:8.2f}")
    stream = io.BytesIO()
    Image.fromarray(np.pad(np.full((20, 20), 200, np.uint8), 4)).save(stream, "PNG")
    small = stream.getvalue()
    plain = milliseconds(lambda: decode(small, (28, 28), 0), 2000)
    read_too = milliseconds(lambda: read(open_image(small), CARD.picture), 2000)
    print(f"28x28 as trained: decode {plain * 1000:.0f} us, with the check that it is {read_too * 1000:.0f} us")


if __name__ == "__main__":
    main()
