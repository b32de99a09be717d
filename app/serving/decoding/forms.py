"""The image in the body of a request, and the files of a form (RFC 7578), in time linear in its bytes.

A form is cut at its boundaries without copying. Headers of a part are short, and read once; of what is longer,
nothing is read.
"""

import re
from collections.abc import Iterator

from python_multipart.multipart import parse_options_header

from app.errors import EmptyBody, MalformedForm, WrongContentType, WrongFields

FORM = "multipart/form-data"
IMAGES = ("image/png", "image/jpeg", "image/bmp", "image/gif", "image/webp")
MAX_PARTS = 16  # of a form with one image
MAX_HEADER_BYTES = 4_096  # of one part
MAX_HEADERS = MAX_PARAMETERS = 16  # of a part, of a header
MAX_BOUNDARY_BYTES = 200  # the standard says 70
_WINDOW = 1024 * 1024  # bytes searched in one go: a search holds the interpreter's lock
_ASK_THE_CLIENT = "let your HTTP client build the form"
_PLAIN_HEADERS = re.compile(
    rb'(?i:content-disposition): form-data; name="(\w{1,32})"(?:; filename="[^"\\\r\n]{0,1024}")?'
    rb"(?:\r\n(?i:content-type): [\w/.+-]{1,100})?\r\n\r\n"
)


def media_type(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


def one_image(content_type: str, body: bytes) -> bytes | memoryview:
    """The encoded image in a body that is the image, or a form with one `file`.

    Raises EmptyBody, WrongContentType, MalformedForm or WrongFields.
    """
    kind = media_type(content_type)
    if kind == FORM:
        return _only(form_files(content_type, body, "file", MAX_PARTS))
    if kind.startswith("image/") or kind == "application/octet-stream":
        if not body:
            raise EmptyBody("the body has no bytes", "send an image as the body, or a form with a field 'file'")
        return body
    raise WrongContentType(
        f"the content type is {kind or 'not given'}",
        f"send {FORM} with a field 'file' (curl -F file=@digit.png), or the image as the body with one of "
        + ", ".join(IMAGES),
    )


def _only(files: list[memoryview]) -> memoryview:
    if len(files) != 1:
        raise WrongFields(
            f"the form has {len(files)} fields 'file'",
            "send one image here; many go to /predict/batch as 'files'",
        )
    return files[0]


def form_files(content_type: str, body: bytes, field: str, max_parts: int) -> list[memoryview]:
    """The contents of every part called `field`, in order.

    Raises EmptyBody, MalformedForm, or WrongFields where there is none.
    """
    if not body:
        raise EmptyBody("the body has no bytes", f"send {FORM} with a field {field!r}")
    found: list[memoryview] = []
    others: list[bytes] = []
    for name, content in form_parts(content_type, body, max_parts):
        if name == field.encode():
            found.append(content)
        elif len(others) < 5:
            others.append(name)
    if not found:
        names = ", ".join(repr(name.decode("utf-8", "replace")) for name in others) or "no fields"
        raise WrongFields(f"the form has no field {field!r} but {names}", f"name the field {field!r}")
    return found


def form_parts(content_type: str, body: bytes, max_parts: int) -> Iterator[tuple[bytes, memoryview]]:
    """Name and content of every part, in order. Raises MalformedForm."""
    view = memoryview(body)
    for count, (start, end) in enumerate(_parts(content_type, body)):
        if count == max_parts:
            raise MalformedForm(f"the form has more than {max_parts:,} parts", "send fewer files at a time")
        name, start = _name_and_content(body, start, end)
        yield name, view[start:end]


def _parts(content_type: str, body: bytes) -> Iterator[tuple[int, int]]:
    """Where each part starts and ends, headers included. Raises MalformedForm."""
    boundary = _parameter(content_type.encode("latin-1", "replace"), b"boundary")
    if not 0 < len(boundary) <= MAX_BOUNDARY_BYTES:
        raise MalformedForm("the content type names no boundary that can be used", _ASK_THE_CLIENT)
    opening = b"--" + boundary
    delimiter = b"\r\n" + opening
    at = len(opening) if body.startswith(opening) else _after(body, delimiter, 0)
    while not body.startswith(b"--", at):
        start = _line_end(body, at)
        end = _after(
            body, delimiter, start - 2
        )  # a part may be empty: its headers' end is the delimiter's start
        yield start, max(start, end - len(delimiter))
        at = end


def _after(body: bytes, delimiter: bytes, start: int) -> int:
    """Where the next delimiter ends."""
    for at in range(start, len(body), _WINDOW):
        found = body.find(delimiter, at, at + _WINDOW + len(delimiter) - 1)
        if found >= 0:
            return found + len(delimiter)
    raise MalformedForm("the form ends before its last boundary", "send the whole body")


def _line_end(body: bytes, at: int) -> int:
    """Where the line of a delimiter ends; it may be padded with blanks."""
    end = body.find(b"\r\n", at, at + 72)
    if end < 0 or body[at:end].strip(b" \t"):
        raise MalformedForm("the form has a boundary that nothing should follow", _ASK_THE_CLIENT)
    return end + 2


def _name_and_content(body: bytes, start: int, end: int) -> tuple[bytes, int]:
    """The name of a part, and where its content starts."""
    plain = _PLAIN_HEADERS.match(body, start, end)
    if plain is not None:
        return plain[1], plain.end()
    if body.startswith(b"\r\n", start):  # no headers
        return b"", start + 2
    stop = body.find(b"\r\n\r\n", start, min(end, start + MAX_HEADER_BYTES))
    if stop < 0:
        reason = f"a part without the end of its headers within {MAX_HEADER_BYTES:,} bytes"
        raise MalformedForm(f"the form has {reason}", _ASK_THE_CLIENT)
    lines = body[start:stop].split(b"\r\n", MAX_HEADERS)
    if len(lines) > MAX_HEADERS:
        raise MalformedForm(f"a part of the form has more than {MAX_HEADERS} headers", _ASK_THE_CLIENT)
    for line in lines:
        header, colon, value = line.partition(b":")
        if not colon:
            raise MalformedForm("a part of the form has a header without a colon", _ASK_THE_CLIENT)
        if header.strip().lower() == b"content-disposition":
            return _parameter(value, b"name"), stop + 4
    return b"", stop + 4


def _parameter(value: bytes, wanted: bytes) -> bytes:
    """A parameter of a header, b"" where it has none. Raises MalformedForm for a header with too many."""
    if value.count(b";") > MAX_PARAMETERS:  # reading them takes time that is quadratic in their number
        raise MalformedForm(f"a header has more than {MAX_PARAMETERS} parameters", _ASK_THE_CLIENT)
    return parse_options_header(value)[1].get(wanted, b"")
