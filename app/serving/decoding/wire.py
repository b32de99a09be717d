"""What goes through the pipes: tasks to a decoder, results back. Little-endian, lengths in front.

A decoder may have been taken over by what it decoded, so a result is believed no further than its form.
"""

import json
import struct
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Literal

from app import errors
from app.errors import RequestError
from models import errors as model_errors
from models.errors import ImageError
from models.preprocessing.pictures import Resize
from models.preprocessing.preprocess import InputInfo, InputSpec, PreprocessMode

if TYPE_CHECKING:
    from asyncio import StreamReader  # a decoder does without

_TASK = struct.Struct(
    "<BHHBQHI"
)  # channels, height, width, flags, announced pixels, bytes of the content type, of the body
_RESULT = struct.Struct("<BI")  # kind, bytes that follow
_INFO = struct.Struct("<IIB4i")  # size, inverted, box
_DARK, _DIGIT, _NONE, _PICTURE, _PAD = 1, 2, 4, 8, 16  # flags: polarity, preprocessing, mode, resize
READY, PIXELS, EXPLAINED, REFUSED, FAILED = range(5)
MAX_RESULT_BYTES = 1024 * 1024
MAX_ERROR_CHARACTERS = 1_000


@dataclass(frozen=True, slots=True)
class Limits:
    """What a decoder may take for one picture."""

    cpu_seconds: int = 5  # 50 million pixels take two at most
    memory_bytes: int = 1_536 * 1024 * 1024  # of address space: 50 million pixels with alpha, several times
    wall_seconds: float = 20  # CPU seconds may come late on a busy machine


class DecodingFailed(Exception):
    """A decoder met an unexpected error; the log has its traceback."""


@dataclass(frozen=True, slots=True)
class Spec:
    """What a decoder must know of the model: an `InputSpec` without the rest of the card."""

    shape: tuple[int, int, int]
    polarity: Literal["light-on-dark", "dark-on-light"] | None
    preprocessing: Literal["digit", "size", "picture"]
    resize: Resize = "stretch"

    @property
    def ground(self) -> int:
        return 0 if self.polarity == "light-on-dark" else 255


@dataclass(frozen=True, slots=True)
class Task:
    """A picture, or with a `content_type` the body of a request that carries one."""

    spec: InputSpec
    mode: PreprocessMode
    body: bytes | memoryview
    content_type: bytes = b""
    pixels: int = 0  # that the file announces; one with more is refused


@dataclass(frozen=True, slots=True)
class Decoded:
    """The pixels of a model's input, one channel after the other, and with `auto` what was done for them."""

    pixels: bytes
    info: InputInfo | None


Result = Decoded | ImageError | RequestError | DecodingFailed


def pack_task(task: Task) -> bytes:
    """All of a task but its body, which follows."""
    spec = task.spec
    flags = _DARK * (spec.polarity == "dark-on-light") | _DIGIT * (spec.preprocessing == "digit")
    flags |= _PICTURE * (spec.preprocessing == "picture") | _PAD * (spec.resize == "pad")
    flags |= _NONE * (task.mode == "none")
    sizes = task.pixels, len(task.content_type), len(task.body)
    return _TASK.pack(*spec.shape, flags, *sizes) + task.content_type


def read_task(stream: IO[bytes]) -> Task | None:
    """The next task, waited for; None at the end of the stream."""
    head = stream.read(_TASK.size)
    if len(head) < _TASK.size:
        return None
    channels, height, width, flags, pixels, type_size, size = _TASK.unpack(head)
    content_type, body = stream.read(type_size), stream.read(size)
    if len(body) < size:
        return None
    shape, resize = (channels, height, width), _resize(flags)
    if flags & _PICTURE:
        spec = Spec(shape, None, "picture", resize)
    else:
        polarity: Literal["dark-on-light", "light-on-dark"] = (
            "dark-on-light" if flags & _DARK else "light-on-dark"
        )
        spec = Spec(shape, polarity, "digit" if flags & _DIGIT else "size", resize)
    return Task(spec, "none" if flags & _NONE else "auto", body, content_type, pixels)


def _resize(flags: int) -> Resize:
    return "pad" if flags & _PAD else "stretch"


def pack_result(result: Result | None) -> bytes:
    """A result; None says that the decoder is ready."""
    match result:
        case None:
            kind, content = READY, b""
        case Decoded(pixels, None):
            kind, content = PIXELS, pixels
        case Decoded(pixels, InputInfo(size, inverted, box)):
            kind, content = EXPLAINED, _INFO.pack(*size, inverted, *box) + pixels
        case DecodingFailed():
            kind, content = FAILED, b""
        case ImageError() | RequestError():
            words = type(result).__name__, result.detail, result.hint
            kind, content = REFUSED, json.dumps([word[:MAX_ERROR_CHARACTERS] for word in words]).encode()
    return _RESULT.pack(kind, len(content)) + content


async def read_result(stream: "StreamReader", expected: int) -> Result | None:
    """The next result; `expected` are the bytes of pixels that the model takes.

    Raises EOFError at the end of the stream, and for anything that is not a result.
    """
    kind, size = _RESULT.unpack(await stream.readexactly(_RESULT.size))
    if size > MAX_RESULT_BYTES:
        raise EOFError("a result that is too long")
    content = await stream.readexactly(size)
    try:
        return _unpacked(kind, content, expected)
    except (ValueError, KeyError, TypeError, struct.error) as error:
        raise EOFError("not a result") from error


def _unpacked(kind: int, content: bytes, expected: int) -> Result | None:
    if kind == READY:
        return None
    if kind == FAILED:
        return DecodingFailed("the decoder failed; its traceback is in the log")
    if kind == REFUSED:
        name, detail, hint = json.loads(content)
        return _ERRORS[name](str(detail), str(hint))
    info = None
    if kind == EXPLAINED:
        width, height, inverted, *box = _INFO.unpack_from(content)
        info = InputInfo((width, height), bool(inverted), (box[0], box[1], box[2], box[3]))
        content = content[_INFO.size :]
    if len(content) != expected:
        raise ValueError("pixels of another size")
    return Decoded(content, info)


_ERRORS = {
    kind.__name__: kind
    for module in (errors, model_errors)
    for kind in vars(module).values()
    if isinstance(kind, type) and issubclass(kind, ImageError | RequestError)
}
