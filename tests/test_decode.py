"""Encoded images to grey pixels."""

import io
import time
import tracemalloc
import zlib
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from models.errors import (
    BrokenImage,
    CostlyImage,
    EmptyImage,
    ImageError,
    ImageTooLarge,
    NotAnImage,
    WrongImageSize,
)
from models.preprocessing.decode import Grey, decode, load, open_image
from models.tensors import normalise
from tests.hostile import (
    bmp_rle_of_short_rows,
    exif_segments,
    fill_bytes,
    png_chunk,
    png_of_chunks,
    progressive_scans,
)
from tests.samples import png_header

SIZE = (28, 28)
GREY: Grey = np.add.outer(np.arange(28) * 5, np.arange(28) * 3).astype(np.uint8)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "BMP", "GIF"])
def test_lossless_formats_give_the_very_pixels(kind: str) -> None:
    assert np.array_equal(decode(encoded(Image.fromarray(GREY), kind), SIZE, 0), GREY)


@pytest.mark.parametrize(("kind", "options"), [("JPEG", {"quality": 95}), ("WEBP", {"quality": 95})])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_lossy_formats_come_close(kind: str, options: dict[str, int], mode: str) -> None:
    pixels = decode(encoded(Image.fromarray(GREY).convert(mode), kind, **options), SIZE, 0)
    assert np.abs(pixels.astype(int) - GREY).mean() < 4


def test_webp_lossless() -> None:
    pixels = decode(encoded(Image.fromarray(GREY).convert("RGB"), "WEBP", lossless=True), SIZE, 0)
    assert np.array_equal(pixels, GREY)


def test_one_bit_png_is_black_and_white() -> None:
    pixels = decode(encoded(Image.fromarray(GREY > 100), "PNG"), SIZE, 0)
    assert np.array_equal(pixels, np.where(GREY > 100, 255, 0))


def test_sixteen_bit_png_keeps_its_high_byte() -> None:
    wide = (GREY.astype(np.uint16) << 8) | 0x7F
    assert np.array_equal(decode(encoded(Image.fromarray(wide), "PNG"), SIZE, 0), GREY)


def test_palette_png() -> None:
    palette = Image.fromarray(GREY).quantize(256)
    assert np.abs(decode(encoded(palette, "PNG"), SIZE, 0).astype(int) - GREY).max() <= 1


def test_cmyk_jpeg() -> None:
    cmyk = Image.fromarray(GREY).convert("RGB").convert("CMYK")
    assert np.abs(decode(encoded(cmyk, "JPEG", quality=95), SIZE, 0).astype(int) - GREY).mean() < 6


@pytest.mark.parametrize("ground", [0, 255])
@pytest.mark.parametrize("kind", ["RGBA", "LA", "palette"])
def test_transparent_pixels_take_the_colour_of_the_ground(kind: str, ground: int) -> None:
    """Alpha is composed, never dropped: what was painted under transparent pixels does not show."""
    ink = np.zeros(SIZE, np.uint8)
    ink[10:18, 10:18] = 1
    image = Image.merge("LA", [Image.fromarray(np.full(SIZE, 90, np.uint8)), Image.fromarray(ink * 255)])
    if kind == "palette":
        palette = Image.fromarray(ink)
        palette.putpalette([200, 10, 10, 90, 90, 90])
        data = encoded(palette, "PNG", transparency=0)
    else:
        data = encoded(image.convert(kind), "PNG")
    assert np.array_equal(decode(data, SIZE, ground), np.where(ink == 1, 90, ground))


def test_half_transparent_ink_is_mixed_with_the_ground() -> None:
    image = Image.new("RGBA", SIZE, (255, 255, 255, 128))
    assert np.abs(decode(encoded(image, "PNG"), SIZE, 0).astype(int) - 128).max() <= 1


@pytest.mark.parametrize(("orientation", "turns"), [(1, 0), (3, 2), (6, 3), (8, 1)])
def test_exif_rotation_is_undone(orientation: int, turns: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = decode(encoded(Image.fromarray(GREY), "JPEG", quality=95, exif=exif.tobytes()), SIZE, 0)
    assert np.abs(pixels.astype(int) - np.rot90(GREY, turns)).mean() < 4


def test_exif_rotation_counts_for_the_size() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    tall = encoded(Image.new("L", (20, 30), 50), "JPEG", exif=exif.tobytes())
    assert decode(tall, (20, 30), 0).shape == (20, 30)
    with pytest.raises(WrongImageSize, match="30x20"):
        decode(tall, (30, 20), 0)


def test_first_frame_of_an_animation() -> None:
    frames = [Image.fromarray(GREY), Image.new("L", SIZE, 255)]
    assert np.array_equal(
        decode(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]), SIZE, 0), GREY
    )


def test_no_bytes() -> None:
    with pytest.raises(EmptyImage):
        decode(b"", SIZE, 0)


@pytest.mark.parametrize(
    "data", [b"hello", b"%PDF-1.7 \n", b"<svg xmlns='http://www.w3.org/2000/svg'/>", bytes(999)]
)
def test_not_an_image(data: bytes) -> None:
    with pytest.raises(NotAnImage, match="PNG, JPEG"):
        decode(data, SIZE, 0)


def test_a_format_that_is_not_offered_is_not_opened() -> None:
    with pytest.raises(NotAnImage):
        decode(encoded(Image.fromarray(GREY), "PPM"), SIZE, 0)


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"%PDF-1.7 \n", "PDF"),
        (b" <svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        (b"\0\0\1\0\1\0", "ICO"),
        (b"\0\0\0\x20ftypisom", "MP4"),
        (b"<!doctype html>", "HTML"),
    ],
)
def test_what_is_sent_instead_of_a_picture_is_named(data: bytes, name: str) -> None:
    with pytest.raises(NotAnImage, match=name):
        decode(data, SIZE, 0)


@pytest.mark.parametrize("kind", ["TIFF", "AVIF", "GIF", "WEBP"])
def test_formats_that_pillow_decodes(kind: str) -> None:
    image = Image.fromarray(np.repeat(np.repeat(GREY, 4, 0), 4, 1))
    options = {"lossless": True} if kind == "WEBP" else {"quality": 100} if kind == "AVIF" else {}
    pixels = decode(encoded(image, kind, **options), (112, 112), 0)
    assert np.abs(pixels.astype(int) - np.asarray(image)).mean() < 2


@pytest.mark.parametrize(("bits", "top"), [(8, 255), (10, 1023), (12, 4095), (16, 65535)])
def test_sixteen_bit_png_of_fewer_bits(bits: int, top: int) -> None:
    values = np.rint(GREY * (top / GREY.max())).astype(np.uint16)
    expected = values >> (bits - 8)
    assert np.array_equal(decode(encoded(Image.fromarray(values), "PNG"), SIZE, 0), expected)


def png_with(chunk: bytes) -> bytes:
    data = encoded(Image.fromarray(GREY), "PNG")
    return data[:33] + chunk + data[33:]


@pytest.mark.parametrize(
    "chunk",
    [
        png_chunk(b"eXIf", b"Exif nonsense"),
        png_chunk(b"tEXt", b"a\0b")[:-4] + b"\0\0\0\0",
        png_chunk(b"tEXt", b"a\0" + bytes(3_000_000)),
        png_chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(3_000_000))),
        png_chunk(b"iCCP", b"nonsense"),
        png_chunk(b"prVt", bytes(70_000)),
    ],
)
def test_odd_metadata_of_a_png_spoils_no_picture(chunk: bytes) -> None:
    assert np.array_equal(decode(png_with(chunk), SIZE, 0), GREY)


@pytest.mark.parametrize("kind", ["WEBP", "JPEG"])
def test_damaged_exif_spoils_no_picture(kind: str) -> None:
    image = Image.fromarray(GREY).convert("RGB")
    plain = decode(encoded(image, kind), SIZE, 0)
    assert np.array_equal(decode(encoded(image, kind, exif=b"Exif\0\0II*\0nonsense"), SIZE, 0), plain)


def test_a_jpeg_that_lacks_its_last_tenth() -> None:
    """Every browser shows it; the rows that are missing are no ink."""
    photo = np.random.default_rng(0).integers(0, 255, (300, 300), np.uint8)
    data = encoded(Image.fromarray(photo), "JPEG")
    pixels, size = load(open_image(data[: len(data) * 9 // 10]), 400)
    assert size == (300, 300)
    assert 260 <= pixels.height < 280
    with pytest.raises(BrokenImage, match="ends early"):
        load(open_image(data[: len(data) // 2]), 400)


def test_a_bmp_whose_alpha_is_zero_everywhere_is_opaque() -> None:
    image = Image.fromarray(GREY).convert("RGBA")
    image.putalpha(0)
    pixels, _ = load(open_image(encoded(image, "PNG")), 400)
    assert pixels.mode == "RGB"
    assert np.array_equal(np.asarray(pixels)[..., 0], GREY)


def test_a_gif_that_begins_with_a_blank_frame() -> None:
    frames = [Image.new("L", SIZE), Image.fromarray(GREY)]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert np.array_equal(decode(data, SIZE, 0), GREY)


def test_run_lengths_in_a_bmp_are_refused() -> None:
    with pytest.raises(NotAnImage, match="run-length"):
        decode(bmp_rle_of_short_rows(1000), SIZE, 0)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(lambda: png_of_chunks(b"tEXt", 320_000), id="tiny chunks"),
        pytest.param(lambda: png_of_chunks(b"IDAT", 320_000), id="empty IDATs"),
        pytest.param(lambda: exif_segments(20_000), id="EXIF segments"),
        pytest.param(lambda: fill_bytes(4_000_000), id="fill bytes"),
        pytest.param(lambda: progressive_scans(200, 200), id="scans"),
        pytest.param(lambda: progressive_scans(7_000, 60), id="pixels of scans"),
    ],
)
def test_what_no_honest_picture_has_is_refused_at_once(data: Callable[[], bytes]) -> None:
    encoded = data()
    begun = time.process_time()
    with pytest.raises((CostlyImage, BrokenImage)):
        decode(encoded, SIZE, 0)
    assert time.process_time() - begun < 0.5


def test_an_error_keeps_no_other_one() -> None:
    """For that would keep its frames, and they the picture."""
    with pytest.raises(BrokenImage) as caught:
        decode(encoded(Image.fromarray(GREY), "PNG")[:-30], SIZE, 0)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "WEBP"])
def test_truncated_images(kind: str) -> None:
    data = encoded(Image.fromarray(GREY).convert("RGB"), kind)
    with pytest.raises((BrokenImage, NotAnImage)):
        decode(data[: len(data) // 2], SIZE, 0)


def test_another_size_is_told_with_both_sizes() -> None:
    with pytest.raises(WrongImageSize, match="64x48 pixels, the model takes 28x28"):
        decode(encoded(Image.new("L", (64, 48)), "PNG"), SIZE, 0)


@pytest.mark.parametrize(
    "data", [png_header(20_000, 20_000), png_header(10_000, 9_000), png_header(8_000, 8_000)]
)
def test_a_bomb_is_refused_from_its_header(data: bytes) -> None:
    tracemalloc.start()
    begun = time.thread_time()
    with pytest.raises(ImageTooLarge):
        decode(data, SIZE, 0)
    seconds, (_, peak) = time.thread_time() - begun, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert seconds < 0.5  # of the CPU
    assert peak < 10_000_000  # 20000x20000 grey pixels would be 400 MB


@settings(max_examples=300, deadline=None)
@given(data=st.binary(max_size=300))
def test_arbitrary_bytes_are_an_image_error(data: bytes) -> None:
    with pytest.raises(ImageError):
        decode(data, SIZE, 0)


@settings(max_examples=400, deadline=None)
@given(
    kind=st.sampled_from(["PNG", "JPEG", "GIF", "BMP", "WEBP"]),
    changes=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=8),
    cut=st.integers(0, 200),
)
def test_damaged_images_are_pixels_or_an_image_error(
    kind: str, changes: list[tuple[int, int]], cut: int
) -> None:
    """Whatever happens to the bytes, the answer is an array of the right shape or an ImageError."""
    data = bytearray(encoded(Image.fromarray(GREY).convert("RGB"), kind))
    for position, value in changes:
        data[position % len(data)] = value
    try:
        pixels = decode(bytes(data[: len(data) - cut]), SIZE, 0)
    except ImageError:
        return
    assert pixels.shape == SIZE
    assert pixels.dtype == np.uint8


def test_normalise_is_what_the_tutorials_transforms_do() -> None:
    images = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)
    expected = (images / 255 - 0.1307) / 0.3081
    torch.testing.assert_close(normalise(images, (0.1307,), (0.3081,)), expected, atol=1e-6, rtol=1e-5)
