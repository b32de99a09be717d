"""What a request carries: its body within a limit, the files of a form, an array of images."""

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

from app.errors import BodyTooLarge, EmptyBody, MalformedForm, WrongArray, WrongContentType, WrongFields
from app.web.problems import response_of
from models.idx import idx_header

FORM = "multipart/form-data"
ARRAYS = ("application/x-npy", "application/x-idx")
IMAGES = ("image/png", "image/jpeg", "image/bmp", "image/gif", "image/webp")
MAX_PARTS = 100_000
_PLAIN_FORM = re.compile(r"multipart/form-data; ?boundary=([\w.+-]{1,70})", re.ASCII)
_PLAIN_FILE = {
    field: re.compile(
        rb'\r\n(?i:content-disposition): form-data; name="%s"(?:; filename="[^"\\\r\n]*")?'
        rb"(?:\r\n(?i:content-type): [\w/.+-]+)?\r\n\r\n" % field.encode()
    )
    for field in ("file", "files")
}


async def read_body(announced: bytes, receive: Receive, limit: int) -> bytes:
    """The whole body, of which `announced` is the Content-Length, if there is one.

    Raises BodyTooLarge as soon as more than `limit` bytes are announced or have come.
    """
    if announced.isdigit() and int(announced) > limit:
        raise _too_large(limit)
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > limit:
            raise _too_large(limit)
        chunks.append(chunk)
        if not message.get("more_body", False):
            return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _too_large(limit: int) -> BodyTooLarge:
    return BodyTooLarge(
        f"the body has more than the {limit:,} bytes that are allowed here",
        "send a smaller one, or fewer images at a time",
    )


class ContentLengthLimit:
    """ASGI in front of ASGI: what announces too large a body is refused as a problem, `free` paths apart.

    `FastAPI(max_body_size=..)` counts what comes, but answers in plain text what was announced.
    """

    def __init__(self, app: ASGIApp, limit: int, free: Sequence[str]) -> None:
        self.app = app
        self.limit = limit
        self.free = free

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = self.app
        if scope["type"] == "http" and scope["path"] not in self.free:
            announced = dict(scope["headers"]).get(b"content-length", b"")
            if announced.isdigit() and int(announced) > self.limit:
                answer = response_of(_too_large(self.limit))
        await answer(scope, receive, send)


def one_image(content_type: str, body: bytes) -> bytes:
    """The encoded image in a body that is the image, or a form with one `file`."""
    kind = media_type(content_type)
    if kind == FORM:
        return _only(form_files(content_type, body, "file"))
    if kind.startswith("image/") or kind == "application/octet-stream":
        if not body:
            raise EmptyBody("the body has no bytes", "send an image as the body, or a form with a field 'file'")
        return body
    raise WrongContentType(
        f"the content type is {kind or 'not given'}",
        f"send {FORM} with a field 'file' (curl -F file=@digit.png), or the image as the body with one of "
        + ", ".join(IMAGES),
    )


def _only(files: list[bytes]) -> bytes:
    if len(files) != 1:
        raise WrongFields(
            f"the form has {len(files)} fields 'file'",
            "send one image here; many go to /predict/batch as 'files'",
        )
    return files[0]


def form_files(content_type: str, body: bytes, field: str) -> list[bytes]:
    """The contents of every part called `field`, in order.

    Raises EmptyBody, MalformedForm, or WrongFields where there is none.
    """
    if not body:
        raise EmptyBody("the body has no bytes", f"send {FORM} with a field {field!r}")
    found = split_form(content_type, body, field)
    return found if found is not None else _parse(content_type, body, field)


def split_form(content_type: str, body: bytes, field: str) -> list[bytes] | None:
    """As `form_files`, for a form as most clients write it: nothing but files under that name. Else None."""
    boundary = _PLAIN_FORM.fullmatch(content_type)
    if boundary is None:
        return None
    parts = (b"\r\n" + body).split(b"\r\n--" + boundary[1].encode())
    if len(parts) < 3 or len(parts) > MAX_PARTS or parts[0] or parts[-1] not in (b"--", b"--\r\n"):
        return None
    is_file = _PLAIN_FILE[field].match
    files = []
    for part in parts[1:-1]:
        headers = is_file(part)
        if headers is None:
            return None
        files.append(part[headers.end() :])
    return files


def _parse(content_type: str, body: bytes, field: str) -> list[bytes]:
    """As `form_files`, for any form."""
    _, options = parse_options_header(content_type)
    boundary = options.get(b"boundary")
    if not boundary:
        raise MalformedForm("the content type names no boundary", "let your HTTP client build the form")
    parts = _Parts()
    parser = MultipartParser(boundary, parts.callbacks())  # type: ignore[arg-type]
    try:
        parser.write(body)
        parser.finalize()
    except MultipartParseError as error:
        raise MalformedForm(
            f"the form cannot be read: {error}", "let your HTTP client build the form"
        ) from error
    if not parts.ended:
        raise MalformedForm("the form ends before its last boundary", "send the whole body")
    found = [part.content() for part in parts.parts if part.name == field]
    if not found:
        names = ", ".join(repr(part.name) for part in parts.parts[:5]) or "no fields"
        raise WrongFields(f"the form has no field {field!r} but {names}", f"name the field {field!r}")
    return found


@dataclass
class _Part:
    headers: dict[bytes, bytes]
    chunks: list[bytes]

    @property
    def name(self) -> str:
        _, options = parse_options_header(self.headers.get(b"content-disposition", b""))
        return options.get(b"name", b"").decode("utf-8", "replace")

    def content(self) -> bytes:
        return b"".join(self.chunks)


class _Parts:
    """Collects what the parser meets."""

    def __init__(self) -> None:
        self.parts: list[_Part] = []
        self.ended = False
        self._field = self._value = b""

    def callbacks(self) -> dict[str, object]:
        names = ("part_begin", "part_data", "header_field", "header_value", "header_end", "end")
        return {f"on_{name}": getattr(self, f"_{name}") for name in names}

    def _part_begin(self) -> None:
        if len(self.parts) == MAX_PARTS:
            raise MalformedForm(f"the form has more than {MAX_PARTS:,} parts", "send fewer images at a time")
        self.parts.append(_Part({}, []))

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        self.parts[-1].chunks.append(data[start:end])

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        self.parts[-1].headers[self._field.lower()] = self._value
        self._field = self._value = b""

    def _end(self) -> None:
        self.ended = True


def images_array(content_type: str, body: bytes, size: tuple[int, int]) -> tuple[memoryview, int]:
    """The pixels in a body in the npy or idx format, uint8 [N, height, width], and N.

    Raises EmptyBody or WrongArray; nothing is allocated for a header that promises more than came.
    """
    if not body:
        raise EmptyBody("the body has no bytes", f"send uint8 [N, {size[0]}, {size[1]}] as npy or idx")
    npy = media_type(content_type) == "application/x-npy"
    shape, dtype, offset, fortran = _npy_header(body) if npy else _idx_header(body)
    if dtype != "uint8" or len(shape) != 3 or shape[1:] != size or shape[0] == 0 or fortran:
        order = " in Fortran order" if fortran else ""
        raise WrongArray(
            f"the array is {dtype} {list(shape)}{order}",
            f"send uint8 [N, {size[0]}, {size[1]}] in C order, 0 for black, as many as fit into one body",
        )
    expected = shape[0] * size[0] * size[1]
    if len(body) - offset != expected:
        raise WrongArray(
            f"the header promises {expected:,} bytes of pixels, {len(body) - offset:,} came",
            "send the whole array",
        )
    return memoryview(body)[offset:], shape[0]


_Header = tuple[tuple[int, ...], str, int, bool]  # shape, dtype, offset of the data, Fortran order


def _npy_header(body: bytes) -> _Header:
    stream = io.BytesIO(body)
    try:
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(stream)
    except Exception as error:  # numpy evaluates the header: ValueError, SyntaxError, TypeError, EOFError
        raise WrongArray(f"the body is no npy file ({error})", "write it with numpy.save") from error
    return shape, str(dtype), stream.tell(), fortran


def _idx_header(body: bytes) -> _Header:
    try:
        shape, start = idx_header(body)
    except ValueError as error:
        raise WrongArray(f"the body is not an idx file ({error})", "send an idx3-ubyte file") from error
    return shape, "uint8", start, False


def media_type(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()
