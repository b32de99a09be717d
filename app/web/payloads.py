"""What the body of a prediction says: images, and options beside them.

    image/*                         the image
    multipart/form-data             files (or their text as base64 or data URL), options as further fields
    application/json                {"image": base64 or data URL}, options as further members
    application/x-npy, x-idx        an array of images, for batches
    none, or a client's default     whatever the first bytes are

Everything here takes time linear in the body, and for the little that it reads besides files, very little.
"""

import binascii
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import cast, get_args

from app.errors import BodyTooLarge, EmptyBody, InvalidRequest, MalformedForm, WrongContentType, WrongFields
from app.serving.decoding.forms import FORM, IMAGES, MAX_PARTS, form_parts, media_type
from app.web.near_misses import unknown
from models.numbers import Reading
from models.preprocessing.preprocess import PreprocessMode

JSON = "application/json"
ARRAYS = ("application/x-npy", "application/x-idx")
FILES = ("file", "files", "image", "images", "upload", "file[]", "files[]")
GZIP: Mapping[str, int] = {"gzip": 31, "x-gzip": 31}  # what zlib calls the format
_DEFAULTS = ("", "application/octet-stream", "application/x-www-form-urlencoded", "binary/octet-stream")
MAX_BATCH_PARTS = 100_000
MAX_OPTION_BYTES = 256
MAX_MEMBERS = 16
PLAIN_FORM_BYTES = 4_096
_PLAIN_FORM = re.compile(r"multipart/form-data; ?boundary=([\w.+-]{1,70})", re.ASCII)
_PLAIN_FILE = re.compile(
    rb'\r\n(?i:content-disposition): form-data; name="(?:file|image|upload)"(?:; filename="[^"\\\r\n]*")?'
    rb"(?:\r\n(?i:content-type): [\w/.+-]+)?\r\n\r\n"
)
_MAGIC = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"BM", b"RIFF", b"II*\0", b"MM\0*")
_MAGIC_ARRAYS = ((b"\x93NUMPY", ARRAYS[0]), (b"\0\0\x08", ARRAYS[1]))
_BASE64 = re.compile(rb"[A-Za-z0-9+/_\r\n-]{16,}={0,2}\s*")
_STEP = 256 * 1024  # characters of base64 at a time: the interpreter's lock is held for one
_ESCAPED = (
    (b"\\/", b"/"), (b"\\n", b"\n"), (b"\\r", b"\r"), (b"\\u002B", b"+"), (b"\\u002b", b"+"),
    (b"\\u002F", b"/"), (b"\\u002f", b"/"), (b"\\u003D", b"="), (b"\\u003d", b"="),
)  # fmt: skip  # what libraries escape in base64 (PHP, .NET, Gson, ..)
_MEMBER = re.compile(rb'\s*"(\w{1,32})"\s*:\s*')
_NEXT = re.compile(rb"\s*([,}])\s*")
_SCALAR = re.compile(rb"(?:true|false|null|-?[\d.eE+-]{1,32})(?=[\s,}])")

Part = bytes | memoryview


@dataclass(frozen=True)
class Options:
    """How to predict; None: not said."""

    model: str | None = None
    preprocess: PreprocessMode | None = None
    explain: bool | None = None
    read: Reading | None = None

    def merged(self, other: "Options") -> "Options":
        """Both together. Raises InvalidRequest where they contradict each other."""
        if other is NO_OPTIONS:
            return self
        for name, value in vars(other).items():
            mine = getattr(self, name)
            if None not in (mine, value) and mine != value:
                raise InvalidRequest(
                    f"{name} is {mine!r} in the query and {value!r} in the body", "say it once"
                )
        return replace(self, **{name: value for name, value in vars(other).items() if value is not None})


NO_OPTIONS = Options()


@dataclass(frozen=True, slots=True)
class Payload:
    """The encoded images in a body, in order; or an array of them; and the options beside them."""

    images: list[Part] = field(default_factory=list)
    options: Options = NO_OPTIONS
    array: str | None = None  # the media type of `body`
    body: bytes = b""


def one(content_type: str, body: bytes) -> Payload:
    """The payload of a request with one image.

    Raises EmptyBody, WrongContentType, MalformedForm, WrongFields or InvalidRequest.
    """
    if len(body) <= PLAIN_FORM_BYTES:
        image = _lone_file(content_type, body)
        if image is not None and image.startswith(_MAGIC):
            return Payload([image])
    kind = _kind(content_type, body)
    if kind in ARRAYS:
        raise _wrong_type(content_type, "an array goes to /predict/batch, an image here")
    payload = _read(kind, content_type, body, MAX_PARTS, ("model", "preprocess", "explain", "read"), "file")
    if len(payload.images) != 1:
        raise WrongFields(
            f"the form has {len(payload.images)} files", "send one image here; many go to /predict/batch"
        )
    return payload


def _lone_file(content_type: str, body: bytes) -> bytes | None:
    """The file of a form as most clients write it: one part, a file. As the parser finds it, only sooner."""
    boundary = _PLAIN_FORM.fullmatch(content_type)
    if boundary is None:
        return None
    parts = (b"\r\n" + body).split(b"\r\n--" + boundary[1].encode(), 3)
    if len(parts) != 3 or parts[0] or parts[2] not in (b"--", b"--\r\n"):
        return None
    headers = _PLAIN_FILE.match(parts[1])
    return parts[1][headers.end() :] if headers else None


def many(content_type: str, body: bytes) -> Payload:
    """The payload of a request with many images. Raises as `one`."""
    kind = _kind(content_type, body)
    if kind in ARRAYS:
        return Payload(array=kind, body=body)
    if kind.startswith("image/"):
        raise _wrong_type(content_type, f"send {FORM} with many fields 'files', or an array as {ARRAYS[0]}")
    return _read(kind, content_type, body, MAX_BATCH_PARTS, ("model", "preprocess", "read"), "files")


def unpacked(encoding: str, body: bytes, limit: int, formats: Mapping[str, int] = GZIP) -> bytes:
    """The body without its Content-Encoding, one of `formats`.

    Raises WrongContentType, BodyTooLarge or InvalidRequest.
    """
    if encoding in ("", "identity"):
        return body
    if encoding not in formats:
        raise WrongContentType(f"the content encoding is {encoding[:100]}", "send it plain, or as gzip")
    unpacking = zlib.decompressobj(formats[encoding])
    try:
        found = unpacking.decompress(body, limit + 1)
    except zlib.error as error:
        raise InvalidRequest(f"the body is not the {encoding} that it says it is", "send it plain") from error
    if len(found) > limit:
        raise BodyTooLarge(f"unpacked, the body has more than {limit:,} bytes", "send a smaller one")
    if not unpacking.eof:
        raise InvalidRequest(f"the {encoding} ends before its end", "send the whole body")
    return found


def _kind(content_type: str, body: bytes) -> str:
    """The media type; where a client has none of its own to say, by the first bytes."""
    kind = media_type(content_type)
    if kind not in _DEFAULTS:
        return kind
    if body.startswith(_MAGIC):
        return "image/*"
    for magic, array in _MAGIC_ARRAYS:
        if body.startswith(magic):
            return array
    if body[:64].lstrip()[:1] == b"{":
        return JSON
    return "image/*" if kind.endswith("octet-stream") else kind


def _read(kind: str, content_type: str, body: bytes, most: int, options: tuple[str, ...], name: str) -> Payload:
    if kind != FORM and kind != JSON and not kind.startswith("image/"):
        raise _wrong_type(
            content_type,
            f"send {FORM} with a field '{name}' (curl -F {name}=@digit.png), the image as the body with one of "
            f"{', '.join(IMAGES)}, or {JSON} with 'image' as base64",
        )
    if not body:
        raise EmptyBody("the body has no bytes", f"send an image as the body, or a form with a field '{name}'")
    if kind not in (FORM, JSON):
        return Payload([body])
    parts = form_parts(content_type, body, most) if kind == FORM else _members(body)
    return _sorted(parts, options, name)


def _sorted(parts: Iterator[tuple[bytes, Part]], options: tuple[str, ...], name: str) -> Payload:
    """Files and options apart; anything else is refused."""
    images: list[Part] = []
    said: dict[str, str] = {}
    for raw, content in parts:
        key = raw.decode("utf-8", "replace")
        if not key:
            raise MalformedForm("a part of the form has no name", "let your HTTP client build the form")
        if key in FILES:
            images.append(image_file(content))
        elif key not in options:
            raise _unknown_field(key, (*FILES, *options))
        elif key in said:
            raise WrongFields(f"the field {key!r} comes twice", "send it once")
        elif len(content) > MAX_OPTION_BYTES:
            raise WrongFields(f"the field {key!r} has {len(content):,} bytes", "send a short text")
        else:
            said[key] = bytes(content).decode("utf-8", "replace")
    if not images:
        raise WrongFields(f"the form has no field {name!r}", f"name the field {name!r}")
    return Payload(images, _options(said))


def _unknown_field(name: str, known: Sequence[str]) -> WrongFields:
    detail, hint = unknown("field", name, known)
    return WrongFields(
        f"{detail} with a picture", f"{hint}; for the row of a table, name its model: ?model=NAME"
    )


def _options(said: Mapping[str, str]) -> Options:
    if not said:
        return NO_OPTIONS
    mode, explain = said.get("preprocess") or None, said.get("explain", "").lower() or None
    if mode is not None and mode not in get_args(PreprocessMode):
        raise InvalidRequest(f"preprocess is {mode!r}", "choose one of auto, none")
    if explain not in (None, "true", "false", "1", "0", "on", "off", "yes", "no"):
        raise InvalidRequest(f"explain is {explain!r}", "choose true or false")
    read = said.get("read") or None
    if read is not None and read not in get_args(Reading):
        raise InvalidRequest(f"read is {read!r}", "choose digit or number")
    return Options(
        said.get("model") or None,
        cast("PreprocessMode | None", mode),
        None if explain is None else explain in ("true", "1", "on", "yes"),
        cast("Reading | None", read),
    )


def image_file(content: Part) -> Part:
    """The image file in a field: its bytes, or what its text says in base64. Raises InvalidRequest."""
    head = bytes(content[:64])
    if head[:5].lower() == b"data:":
        start = bytes(content[:1024]).find(b",")
        if start < 0 or b";base64" not in bytes(content[:start]).lower():
            raise InvalidRequest("the data URL has no base64", "write it as data:image/png;base64,..")
        return _decoded(content[start + 1 :])
    if head.startswith(_MAGIC) or _BASE64.fullmatch(head) is None:
        return content
    return _decoded(content)


def _decoded(text: Part) -> bytes:
    """Base64, in either alphabet, with or without padding and line breaks."""
    plain = bytes(text).translate(bytes.maketrans(b"-_", b"+/"), b"\r\n\t =")
    if len(plain) % 4 == 1:
        raise _not_base64()
    plain += b"=" * (-len(plain) % 4)
    try:
        steps = range(0, len(plain), _STEP)
        return b"".join(binascii.a2b_base64(plain[at : at + _STEP], strict_mode=True) for at in steps)
    except binascii.Error as error:
        raise _not_base64() from error


def _not_base64() -> InvalidRequest:
    return InvalidRequest("the image is not base64", "encode the file, as `base64 digit.png` does")


def _members(body: bytes) -> Iterator[tuple[bytes, Part]]:
    """Names and texts of a JSON object's members; nothing nested, so that there is nothing to build."""
    at = len(body) - len(body.lstrip())
    if body[at : at + 1] != b"{":
        raise _not_json()
    at += 1
    for _ in range(MAX_MEMBERS):
        member = _MEMBER.match(body, at)
        if member is None:
            raise _not_json()
        at = member.end()
        value, at = _text(body, at + 1) if body[at : at + 1] == b'"' else _scalar(body, at)
        if value is not None:
            yield member[1], value
        end = _NEXT.match(body, at)
        if end is None:
            raise _not_json()
        at = end.end()
        if end[1] == b"}":
            if at != len(body):
                raise _not_json()
            return
    raise InvalidRequest(f"the object has more than {MAX_MEMBERS} members", "send an image and its options")


def _text(body: bytes, start: int) -> tuple[Part, int]:
    """A JSON string from behind its quotation mark, and where it ends."""
    end = body.find(b'"', start)
    if end < 0:
        raise _not_json()
    text = body[start:end]
    if b"\\" not in text:
        return text, end + 1
    for escaped, plain in _ESCAPED:
        text = text.replace(escaped, plain)
    if b"\\" in text:
        raise _not_json()
    return text, end + 1


def _scalar(body: bytes, at: int) -> tuple[Part | None, int]:
    """True, false or a number as text; null is None."""
    found = _SCALAR.match(body, at)
    if found is None:
        raise _not_json()
    return None if found[0] == b"null" else found[0], found.end()


def _not_json() -> InvalidRequest:
    return InvalidRequest(
        "the body is not a JSON object with texts",
        'send {"image": "<base64 or data URL>"}, and options beside it',
    )


def _wrong_type(content_type: str, hint: str) -> WrongContentType:
    return WrongContentType(f"the content type is {media_type(content_type) or 'not given'}", hint)
