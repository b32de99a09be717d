"""Image files and forms that are small to send and costly to read; each as an audit used it, or of its kind."""

import io
import struct
import zlib

from PIL import Image

from benchmarks.upload import BOUNDARY


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(*chunks: bytes, size: tuple[int, int] = (28, 28), pixels: bytes | None = None) -> bytes:
    """An 8-bit grey PNG with these chunks before its data; black without `pixels` (compressed rows)."""
    width, height = size
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    data = png_chunk(b"IDAT", zlib.compress(bytes((width + 1) * height)) if pixels is None else pixels)
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + data + png_chunk(b"IEND", b"")


def png_of_chunks(kind: bytes, count: int, data: bytes = b"") -> bytes:
    return png(png_chunk(kind, data) * count)


def png_of_rows(width: int, height: int) -> bytes:
    """A blank PNG of any size, at a thousandth of its pixels."""
    packer = zlib.compressobj(9)
    row = b"\0" + b"\xc8" * width
    data = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    return png(size=(width, height), pixels=data)


def rgba16(side: int) -> bytes:
    """A blank PNG of 16 bits and four channels: the most bytes of memory for a pixel."""
    packer = zlib.compressobj(1)
    row = b"\0" + (b"\xc8\0" * 3 + b"\x80\0") * side
    data = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 16, 6, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + png_chunk(b"IDAT", data) + png_chunk(b"IEND", b"")


def jpeg(size: tuple[int, int] = (64, 64), **options: object) -> bytes:
    stream = io.BytesIO()
    Image.new("L", size, 200).save(stream, "JPEG", **options)
    return stream.getvalue()


def jpeg_of_segments(segment: bytes, count: int) -> bytes:
    """With `segment` so often behind the start."""
    whole = jpeg()
    return whole[:2] + segment * count + whole[2:]


def exif_segments(count: int) -> bytes:
    content = b"Exif\0\0" + b"II*\0\x08\0\0\0\0\0" + bytes(6)
    return jpeg_of_segments(b"\xff\xe1" + struct.pack(">H", len(content) + 2) + content, count)


def fill_bytes(count: int) -> bytes:
    return jpeg_of_segments(b"\xff" * count, 1)


def progressive_scans(side: int, scans: int) -> bytes:
    """A progressive JPEG whose last scan comes again and again."""
    whole = jpeg((side, side), progressive=True)
    last = whole.rindex(b"\xff\xda")
    end = whole.rindex(b"\xff\xd9")
    return whole[:end] + whole[last:end] * scans + whole[end:]


def bmp_rle_of_short_rows(width: int) -> bytes:
    """One pixel and the end of the row, which the decoder has to fill."""
    return bmp_rle(width, 1, b"\x01\x02\0\0")


def bmp_rle(width: int, height: int, data: bytes) -> bytes:
    """A BMP of 8 bits, run-length encoded (RLE8)."""
    palette = bytes(4 * 256)
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(data), 0, 0, 256, 0)
    start = 14 + len(info) + len(palette)
    return b"BM" + struct.pack("<IHHI", start + len(data), 0, 0, start) + info + palette + data


FORM_OF_SEMICOLONS = 3_500, 4_000  # parts, semicolons in each


def form_of_semicolons(parts: int, semicolons: int, field: str = "files") -> bytes:
    header = f'Content-Disposition: form-data; name="{field}"'.encode() + b";" * semicolons
    return b"".join(b"--%s\r\n%s\r\n\r\n\r\n" % (BOUNDARY.encode(), header) for _ in range(parts)) + (
        b"--%s--\r\n" % BOUNDARY.encode()
    )


def deflated(size: int) -> bytes:
    """So many zeros, in a thousandth of them."""
    return zlib.compress(bytes(size), 9)


def gif_of_frames(count: int) -> bytes:
    stream = io.BytesIO()
    Image.new("P", (28, 28)).save(stream, "GIF")
    whole = stream.getvalue()
    start = whole.index(b",\0\0\0\0")
    return whole[:start] + whole[start:-1] * count + b";"
