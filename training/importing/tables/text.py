"""The text of a table as UTF-8, whatever it was written in; a megabyte at a time.

A file is read once to see that it is text (its encoding, no line above `MAX_LINE`), then by who parses it.
"""

import codecs
import io
from collections.abc import Iterator
from dataclasses import dataclass

from training.errors import DatasetError
from training.importing.tables.facts import Encoding
from training.importing.tables.files import TableFile

MAX_LINE = 4 * 1024**2  # bytes
_BOM_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_KINDS = {b"%PDF": "a PDF", b"\x89PNG": "a picture", b"\xff\xd8\xff": "a picture", b"GIF8": "a picture"}
_KINDS |= {b"<!DOC": "a web page", b"<!doc": "a web page", b"<html": "a web page", b"<?xml": "XML"}
_KINDS |= {b"\xd0\xcf\x11\xe0": "an old Excel file", b"SQLite": "a database", b"@relation": "ARFF"}


def _western() -> str:
    """cp1252, and what it leaves open as in latin-1: every byte is a letter."""
    return "".join(bytes([byte]).decode("cp1252", "ignore") or chr(byte) for byte in range(256))


_WESTERN = _western()


@dataclass(frozen=True)
class Text:
    """A text file whose encoding is known."""

    file: TableFile
    encoding: Encoding
    bom: bool
    old_newlines: bool  # a lone carriage return ends a line
    size: int  # bytes as they came, unpacked

    def chunks(self) -> Iterator[bytes]:
        """As UTF-8, without a byte order mark, lines ending in a line feed. Raises DatasetError."""
        for chunk in self._utf8():
            yield chunk.replace(b"\r", b"\n") if self.old_newlines else chunk

    def head(self, size: int) -> tuple[str, bool]:
        """About the first `size` bytes up to a character's end, and whether that is all."""
        parts, length = [], 0
        for chunk in self.chunks():
            parts.append(chunk)
            length += len(chunk)
            if length > size:
                return b"".join(parts)[:size].decode("utf-8", "ignore"), False
        return b"".join(parts).decode("utf-8", "ignore"), True

    def stream(self, end: bytes = b"") -> io.BufferedReader:
        """The same as a file; `end` follows."""
        return as_file(self.chunks(), end)

    def _utf8(self) -> Iterator[bytes]:
        if self.encoding == "utf-16":
            yield from _from_utf16(self.file)
            return
        first = True
        for chunk in self.file.chunks():
            if first and chunk.startswith(codecs.BOM_UTF8):
                chunk = chunk[len(codecs.BOM_UTF8) :]
            first = False
            yield (
                chunk
                if self.encoding == "utf-8"
                else codecs.charmap_decode(chunk, "strict", _WESTERN)[0].encode()
            )


def read_text(file: TableFile, encoding: Encoding | None) -> Text:
    """Read all of it once. Raises DatasetError for what is no text, or has a line that is too long."""
    start = file.head(16)
    for begin, kind in _KINDS.items():
        if start.lower().startswith(begin.lower()):
            raise DatasetError(f"{file.name} is {kind}, not a table: save it as CSV")
    if start[:2] in _BOM_16 and encoding in (None, "utf-16"):
        wide = Text(file, "utf-16", True, False, 0)
        return _surveyed(file, wide.chunks(), "utf-16", True)
    try:
        found = _surveyed(file, _valid(file.chunks()), "utf-8", start.startswith(codecs.BOM_UTF8))
        return found if encoding in (None, "utf-8") else _as(found, encoding)
    except UnicodeDecodeError:
        if encoding == "utf-8":
            raise DatasetError(f"{file.name} is not UTF-8: choose another encoding, or leave it open") from None
        return _surveyed(file, file.chunks(), "cp1252", False)


def _as(text: Text, encoding: Encoding) -> Text:
    return Text(text.file, encoding, text.bom, text.old_newlines, text.size)


def _valid(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """The same. Raises UnicodeDecodeError."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    for chunk in chunks:
        decoder.decode(chunk)
        yield chunk
    decoder.decode(b"", final=True)


def _surveyed(file: TableFile, chunks: Iterator[bytes], encoding: Encoding, bom: bool) -> Text:
    size = open_line = feeds = returns = 0
    for chunk in chunks:
        if b"\0" in chunk:
            raise DatasetError(f"{file.name} is not text: send CSV or parquet")
        size += len(chunk)
        feeds += chunk.count(b"\n")
        returns += chunk.count(b"\r")
        end = b"\n" if feeds else b"\r"
        first, last = chunk.find(end), chunk.rfind(end)  # lines within a chunk are short enough
        longest = open_line + (len(chunk) if last < 0 else first)
        open_line = open_line + len(chunk) if last < 0 else len(chunk) - last
        if longest > MAX_LINE:
            raise DatasetError(
                f"{file.name} has a line of more than {MAX_LINE:,} bytes: is each row on a line of its own?"
            )
    return Text(file, encoding, bom, not feeds and returns > 0, size)


def _from_utf16(file: TableFile) -> Iterator[bytes]:
    decoder = codecs.getincrementaldecoder("utf-16")("replace")
    for chunk in file.chunks():
        yield decoder.decode(chunk).encode("utf-8", "replace")


def as_file(chunks: Iterator[bytes], end: bytes = b"") -> io.BufferedReader:
    """Chunks, and `end` after them, as a file."""
    return io.BufferedReader(_Stream(chunks, end), 1024**2)


class _Stream(io.RawIOBase):
    def __init__(self, chunks: Iterator[bytes], end: bytes) -> None:
        self._chunks = chunks
        self._end = end
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        while not self._rest:
            chunk = next(self._chunks, None)
            if chunk is None:
                chunk, self._end = self._end, b""
                if not chunk:
                    return 0
            self._rest = memoryview(chunk)
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count
