"""A file that comes as a body, or as the `file` of a form: streamed to disk and digested, never held in memory.

Form and file are read in a thread, a megabyte at a time; the event loop only passes the bytes on.
"""

import hashlib
import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_hex
from typing import BinaryIO, TypeVar

from anyio import CapacityLimiter, to_thread
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect
from starlette.types import Receive

from app.errors import (
    BodyTooLarge,
    EmptyBody,
    MalformedForm,
    NotADataset,
    Overloaded,
    StorageTrouble,
    WrongContentType,
    WrongFields,
)
from app.serving.decoding.forms import FORM, media_type
from app.store.datasets import INCOMING, Source
from app.web.auth import Headers

T = TypeVar("T")
AT_ONCE = 4  # of one process
STEP = 1024 * 1024  # bytes that are written at a time
MAX_FIELD_BYTES = 64 * 1024  # options as JSON; names of classes may be many
MAX_FORM_BYTES = 256 * 1024  # of a form beside its file
MAX_PARTS = 32
_ZIP = b"PK\x03\x04"  # npz is one, too
_BINARY = (_ZIP, b"PAR1", b"\x1f\x8b")  # parquet, gzip
_WIDE = (b"\xff\xfe", b"\xfe\xff")  # text in UTF-16
_NO_TEXT = bytes({*range(32), 127} - set(b"\t\n\r\f"))
_NO_TABLE = (b"%PDF", b"{", b"<", b"\xff\xd8\xff", b"GIF8", b"\xd0\xcf\x11\xe0", b"Rar!", b"7z\xbc\xaf")
_HEAD = 16  # bytes by which it is seen that a file cannot be a data set
_REFUSED = ("application/json", "text/html", "text/xml", "image/", "audio/", "video/")


@dataclass(frozen=True)
class Expected:
    """What may come: the fields of a form that hold the file, how it is called, and how to send it."""

    fields: tuple[str, ...]
    noun: str  # "data set"
    kinds: str  # "a zip, npz, CSV or parquet file"
    example: str  # of curl's -F
    setting: str  # of the limit
    smaller: str  # how to send less
    check: Callable[[bytes], None]  # of the first bytes; raises where they cannot be of such a file


def _check_dataset(head: bytes) -> None:
    if not _may_be_dataset(head):
        raise NotADataset(
            "the file is neither a zip or npz file of pictures nor a table",
            "zip the folders of your classes (cats/1.jpg, dogs/1.jpg), numpy.savez train_images, "
            "train_labels, or send CSV or parquet",
        )


DATASET = Expected(
    fields=("file", "files", "upload", "dataset"),
    noun="data set",
    kinds="a zip, npz, CSV or parquet file",
    example="file=@photos.zip",
    setting="MINIST_MAX_DATASET_BYTES",
    smaller="pictures are scaled to 224 pixels at most, tables may come as parquet or gzipped",
    check=_check_dataset,
)
WEIGHTS = Expected(
    fields=("weights", "file", "files", "upload"),
    noun="weights file",
    kinds="a .pth, .pt, safetensors or ONNX file",
    example="weights=@model.pth",
    setting="MINIST_MAX_WEIGHTS_BYTES",
    smaller="save model.state_dict() alone, without the optimizer",
    check=lambda head: None,  # the process that reads it says what it is
)


@dataclass
class _File:
    """What is written."""

    stream: BinaryIO
    limit: int
    expected: Expected
    size: int = 0
    head: bytes = b""
    digest: "hashlib._Hash" = field(default_factory=hashlib.sha256)

    def write(self, data: bytes) -> None:
        """Raises BodyTooLarge, or NotADataset as soon as the first bytes say so."""
        self.size += len(data)
        if self.size > self.limit:
            raise _too_large(self.limit, self.expected)
        if len(self.head) < _HEAD:
            self.head = (self.head + data)[:_HEAD]
            self.expected.check(self.head)
        self.digest.update(data)
        self.stream.write(data)


class _Form:
    """A form of which one part is the file and the others are short texts."""

    def __init__(self, content_type: str, file: _File) -> None:
        boundary = parse_options_header(content_type)[1].get(b"boundary", b"")
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._begin,
                    "on_header_begin": self._begin_header,
                    "on_header_field": self._header_name,
                    "on_header_value": self._header_value,
                    "on_header_end": self._header_end,
                    "on_headers_finished": self._headers,
                    "on_part_data": self._data,
                    "on_end": self._end,
                },
            )
        except FormParserError as error:
            raise MalformedForm(f"the boundary cannot be used ({error})", "let your client build it") from error
        self._file = file
        self._expected = file.expected
        self._name = self._header = b""
        self._value = b""
        self._parts = 0
        self._beside = 0  # bytes that are not the file's
        self.files = 0
        self.fields: dict[str, str] = {}
        self._texts: dict[bytes, bytes] = {}
        self.ended = False

    def write(self, data: bytes) -> None:
        before = self._file.size
        try:
            self._parser.write(data)
        except FormParserError as error:
            raise MalformedForm(
                f"the form cannot be read ({error})", "let your HTTP client build it"
            ) from error
        self._beside += len(data) - (self._file.size - before)
        if self._beside > MAX_FORM_BYTES:
            raise MalformedForm(
                "the form holds much besides its file",
                f"send the field {self._expected.fields[0]!r} and short options",
            )

    def finish(self) -> dict[str, str]:
        """The texts. Raises MalformedForm or WrongFields."""
        if not self.ended:
            raise MalformedForm("the form ends before its last boundary", "send the whole body")
        if self.files != 1:
            raise WrongFields(
                f"the form has {self.files} files",
                f"send one field {self._expected.fields[0]!r} (curl -F {self._expected.example})",
            )
        return {
            name.decode("utf-8", "replace"): text.decode("utf-8", "replace")
            for name, text in self._texts.items()
        }

    def _begin(self) -> None:
        self._name = b""
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise MalformedForm(f"the form has more than {MAX_PARTS} parts", "send one file and its options")

    def _begin_header(self) -> None:
        self._header = self._value = b""

    def _header_name(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        if self._header.lower() == b"content-disposition" and self._value.count(b";") <= 16:
            self._name = parse_options_header(self._value)[1].get(b"name", b"")

    def _headers(self) -> None:
        name = self._name.decode("utf-8", "replace")
        if name in self._expected.fields:
            self.files += 1
            if self.files > 1:
                many = "; train.csv and test.csv in a zip" if self._expected is DATASET else ""
                raise WrongFields("the form has several files", f"send one{many}")
        elif not name:
            raise MalformedForm("a part of the form has no name", "let your HTTP client build the form")
        elif self._name in self._texts:
            raise WrongFields(f"the field {name!r} comes twice", "send it once")
        else:
            self._texts[self._name] = b""

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._name not in self._texts:
            self._file.write(data[start:end])
            return
        self._texts[self._name] += data[start:end]
        if len(self._texts[self._name]) > MAX_FIELD_BYTES:
            raise WrongFields(
                f"the field {self._name.decode('utf-8', 'replace')!r} is long", "send a short text"
            )

    def _end(self) -> None:
        self.ended = True


class Incoming:
    """Receives files into a folder, a few at once."""

    def __init__(self, folder: Path, limit: int, expected: Expected = DATASET) -> None:
        """`limit` in bytes, of each."""
        self._expected = expected
        self._folder = folder
        self._limit = limit
        self._receiving = 0
        self._threads = CapacityLimiter(AT_ONCE)

    @asynccontextmanager
    async def receive(
        self, headers: Headers, receive: Receive
    ) -> AsyncIterator[tuple[Source, Mapping[str, str]]]:
        """The file in a body, and the texts beside it in a form; removed at the end unless it was moved away.

        Raises BodyTooLarge as soon as there are too many bytes, WrongContentType, NotADataset, EmptyBody,
        MalformedForm, WrongFields or Overloaded.
        """
        kind = headers.get(b"content-type", b"").decode("latin-1")
        self._check(headers, kind)
        if self._receiving >= AT_ONCE:
            raise Overloaded(
                f"{AT_ONCE} {self._expected.noun}s are being received", "try again in a minute", retry_after=30
            )
        self._receiving += 1
        path = self.new_path()
        try:
            file, texts = await self._receive(path, kind, receive)
            yield Source(path, file.digest.hexdigest(), file.size), texts
        finally:
            self._receiving -= 1
            path.unlink(missing_ok=True)

    async def _receive(self, path: Path, kind: str, receive: Receive) -> tuple[_File, dict[str, str]]:
        try:
            with await self._run(self._open, path) as stream:
                file = _File(stream, self._limit, self._expected)
                form = _Form(kind, file) if media_type(kind) == FORM else None
                await self._copy(receive, file.write if form is None else form.write)
                texts = {} if form is None else form.finish()
                if not file.size:
                    raise EmptyBody("the file has no bytes", f"send {self._expected.kinds}")
                await self._run(_flush, stream)
        except OSError as error:
            raise StorageTrouble(
                f"the file cannot be written ({error.strerror})", "the operator should look at the disk", 60
            ) from error
        return file, texts

    def new_path(self) -> Path:
        """Where a file may be written; what is left there by a process that died is removed at a start."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return self._folder / f"{INCOMING}{token_hex(8)}"

    def _check(self, headers: Headers, kind: str) -> None:
        announced = headers.get(b"content-length", b"")
        if announced.isdigit() and int(announced) > self._limit + MAX_FORM_BYTES:
            raise _too_large(self._limit, self._expected)
        if headers.get(b"content-encoding", b"identity") != b"identity":
            raise WrongContentType("the body has a content encoding", "send it as it is")
        if media_type(kind).startswith(_REFUSED):
            raise WrongContentType(
                f"the content type is {media_type(kind)}",
                f"send {FORM} with a field {self._expected.fields[0]!r} (curl -F {self._expected.example}), "
                "or the file as application/octet-stream",
            )

    def _open(self, path: Path) -> BinaryIO:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        return os.fdopen(os.open(path, flags, 0o600), "wb")

    async def _copy(self, receive: Receive, write: Callable[[bytes], None]) -> None:
        """Everything that comes, in steps."""
        waiting = bytearray()
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            waiting += message.get("body", b"")
            more = message.get("more_body", False)
            if len(waiting) >= STEP or (waiting and not more):
                await self._run(write, bytes(waiting))
                waiting.clear()

    async def _run(self, work: Callable[..., T], *arguments: object) -> T:
        return await to_thread.run_sync(work, *arguments, limiter=self._threads)


def _may_be_dataset(head: bytes) -> bool:
    """Whether the first bytes may be of a zip file, or of a table: parquet, gzip, text."""
    if any(head.startswith(magic[: len(head)]) for magic in (*_BINARY, *_WIDE)):
        return True
    return not head.startswith(_NO_TABLE) and not any(byte in _NO_TEXT for byte in head)


def is_zip(path: Path) -> bool:
    """Whether it may hold pictures; anything else is a table."""
    with path.open("rb") as file:
        return file.read(len(_ZIP)) == _ZIP


def source_of(path: Path) -> Source:
    """A file that was written here."""
    with path.open("rb") as file:
        return Source(path, hashlib.file_digest(file, "sha256").hexdigest(), path.stat().st_size)


def _flush(stream: BinaryIO) -> None:
    stream.flush()
    os.fsync(stream.fileno())


def _too_large(limit: int, expected: Expected) -> BodyTooLarge:
    return BodyTooLarge(
        f"the file has more than the {limit:,} bytes that are allowed ({expected.setting})",
        f"send less: {expected.smaller}",
    )
