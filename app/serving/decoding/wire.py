"""What goes through the pipes: tasks to a decoder, results back. Little-endian, lengths in front.

A decoder may have been taken over by what it decoded, so a result is believed no further than its form.
"""

import json
import struct
from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Literal

from app import errors
from app.errors import RequestError
from app.serving.decoding import tensors
from app.serving.decoding.tensors import Head
from models import errors as model_errors
from models.errors import ImageError
from models.numbers import Candidate, Candidates, Reading
from models.preprocessing.pictures import Resize
from models.preprocessing.preprocess import InputInfo, InputSpec, PreprocessMode

if TYPE_CHECKING:
    from asyncio import StreamReader  # a decoder does without

_TASK = struct.Struct(
    "<BHHHQHI"
)  # channels, height, width, flags, announced pixels, bytes of the content type, of the body
_LENGTH = struct.Struct("<I")
_RESULT = struct.Struct("<BI")  # kind, bytes that follow
_INFO = struct.Struct("<IIB4i")  # size, inverted, box
_SEVERAL = struct.Struct("<IHHB")  # bytes of the pixels, lines, candidates, whether there is more
_PIECES = struct.Struct("<H")  # of a line; a float64 for each follows
_CANDIDATE = struct.Struct("<HHH4id")  # line, start, end, box, cost
_ROWS = struct.Struct("<IIII")  # rows, those with problems, problems that are described, bytes of those
_DARK, _DIGIT, _NONE, _PICTURE, _PAD = 1, 2, 4, 8, 16  # flags: polarity, preprocessing, mode, resize
_TABLE, _ONE, _TENSORS = (
    32,
    64,
    128,
)  # flags of a task with rows: what its first fields say is not used, `pixels` is bytes of the spec
_NUMBER = 256  # a flag: all digits are read
READY, PIXELS, EXPLAINED, REFUSED, FAILED, ROWS, TENSORS, SEVERAL = range(8)
MAX_RESULT_BYTES = 1024 * 1024
MAX_ROWS_BYTES = 48 * 1024 * 1024  # of the result of a table: 10 million cells
MAX_TENSORS_BYTES = 96 * 1024 * 1024  # of the result of tensors
MAX_ERROR_CHARACTERS = 1_000
MAX_WORDS = 1_100  # problems of rows that are described


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
    reading: Reading = "digit"


@dataclass(frozen=True, slots=True)
class TableTask:
    """A body with rows of a table; `spec` is the model's TableInput as JSON, `width` the float32 of a row."""

    spec: bytes
    width: int
    content_type: bytes
    body: bytes | memoryview
    one: bool = False  # whether it must be a single row

    @property
    def pixels(self) -> int:
        """What it costs, as of a picture with so many."""
        return len(self.body)


@dataclass(frozen=True, slots=True)
class TensorTask:
    """A request of the Open Inference Protocol: `json_bytes` of JSON, then raw tensors.

    With `spec`, the TableInput of a model as JSON, its rows are encoded too. `kind` says how the JSON is read.
    """

    spec: bytes
    body: bytes | memoryview
    json_bytes: int
    kind: bytes = b"v2"

    @property
    def pixels(self) -> int:
        """What it costs, as of a picture with so many."""
        return len(self.body)


@dataclass(frozen=True, slots=True)
class Encoded:
    """Rows as float32 [N, width]; of the `count` rows that were sent, those in `problems` are not among them.

    A problem is detail and hint.
    """

    values: bytes
    count: int
    problems: dict[int, tuple[str, str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Decoded:
    """The pixels of a model's input, one channel after the other, and with `auto` what was done for them.

    Where there may be several digits, the candidates too; where a number is read, they alone.
    """

    pixels: bytes
    info: InputInfo | None
    candidates: Candidates | None = None


Result = Decoded | Encoded | Head | ImageError | RequestError | DecodingFailed
AnyTask = Task | TableTask | TensorTask


def pack_task(task: AnyTask) -> bytes:
    """All of a task but its body, which follows."""
    if isinstance(task, TableTask):
        flags = _TABLE | _ONE * task.one
        head = _TASK.pack(0, 0, 0, flags, len(task.spec), len(task.content_type), len(task.body))
        return head + task.spec + task.content_type
    if isinstance(task, TensorTask):
        sizes = task.json_bytes, len(task.kind), len(task.body)
        return _TASK.pack(0, 0, 0, _TENSORS, *sizes) + _LENGTH.pack(len(task.spec)) + task.spec + task.kind
    spec = task.spec
    flags = _DARK * (spec.polarity == "dark-on-light") | _DIGIT * (spec.preprocessing == "digit")
    flags |= _PICTURE * (spec.preprocessing == "picture") | _PAD * (spec.resize == "pad")
    flags |= _NONE * (task.mode == "none") | _NUMBER * (task.reading == "number")
    sizes = task.pixels, len(task.content_type), len(task.body)
    return _TASK.pack(*spec.shape, flags, *sizes) + task.content_type


def read_task(stream: IO[bytes]) -> AnyTask | None:
    """The next task, waited for; None at the end of the stream."""
    head = stream.read(_TASK.size)
    if len(head) < _TASK.size:
        return None
    channels, height, width, flags, pixels, type_size, size = _TASK.unpack(head)
    table = stream.read(pixels) if flags & _TABLE else b""
    if flags & _TENSORS:
        table = stream.read(_LENGTH.unpack(stream.read(_LENGTH.size))[0])
    content_type, body = stream.read(type_size), stream.read(size)
    if len(body) < size:
        return None
    if flags & _TABLE:
        return TableTask(table, 0, content_type, body, bool(flags & _ONE))
    if flags & _TENSORS:
        return TensorTask(table, body, pixels, content_type)
    shape, resize = (channels, height, width), _resize(flags)
    if flags & _PICTURE:
        spec = Spec(shape, None, "picture", resize)
    else:
        polarity: Literal["dark-on-light", "light-on-dark"] = (
            "dark-on-light" if flags & _DARK else "light-on-dark"
        )
        spec = Spec(shape, polarity, "digit" if flags & _DIGIT else "size", resize)
    mode: PreprocessMode = "none" if flags & _NONE else "auto"
    return Task(spec, mode, body, content_type, pixels, "number" if flags & _NUMBER else "digit")


def _resize(flags: int) -> Resize:
    return "pad" if flags & _PAD else "stretch"


def pack_result(result: Result | None) -> bytes:
    """A result; None says that the decoder is ready."""
    match result:
        case None:
            kind, content = READY, b""
        case Decoded(pixels, None):
            kind, content = PIXELS, pixels
        case Decoded(pixels, InputInfo() as info, None):
            kind, content = EXPLAINED, _pack_info(info) + pixels
        case Decoded(pixels, InputInfo() as info, Candidates() as candidates):
            kind, content = SEVERAL, _pack_info(info) + _pack_candidates(candidates, pixels)
        case Encoded(values, count, problems):
            kind, content = ROWS, _pack_problems(count, problems) + values
        case Head():
            said, raw = tensors.pack(result)
            kind, content = TENSORS, _LENGTH.pack(len(said)) + said + raw
        case DecodingFailed():
            kind, content = FAILED, b""
        case ImageError() | RequestError():
            words = type(result).__name__, result.detail, result.hint
            kind, content = REFUSED, json.dumps([word[:MAX_ERROR_CHARACTERS] for word in words]).encode()
    return _RESULT.pack(kind, len(content)) + content


def _pack_info(info: InputInfo) -> bytes:
    return _INFO.pack(*info.size, info.inverted, *info.box)


def _pack_candidates(candidates: Candidates, pixels: bytes) -> bytes:
    """Of each line the costs of leaving pieces out, each candidate, the pixels, those of the candidates."""
    head = _SEVERAL.pack(len(pixels), len(candidates.skips), len(candidates), candidates.more)
    lines = b"".join(struct.pack(f"<H{len(line)}d", len(line), *line) for line in candidates.skips)
    found = b"".join(
        _CANDIDATE.pack(one.line, one.start, one.end, *one.box, one.cost) for one in candidates.found
    )
    return head + lines + found + pixels + candidates.pixels


def _pack_problems(count: int, problems: Mapping[int, tuple[str, str]]) -> bytes:
    """Those that are said of more than one row, once."""
    words = list(dict.fromkeys(problems.values()))
    places = {said: place for place, said in enumerate(words)}
    texts = json.dumps([[word[:MAX_ERROR_CHARACTERS] for word in said] for said in words]).encode()
    pairs = array("I", [number for row, said in problems.items() for number in (row, places[said])])
    return _ROWS.pack(count, len(problems), len(words), len(texts)) + texts + pairs.tobytes()


async def read_result(stream: "StreamReader", expected: int, width: int = 0) -> Result | None:
    """The next result; `expected` are the bytes of pixels that the model takes, or `width` those of a row.

    Raises EOFError at the end of the stream, and for anything that is not a result.
    """
    kind, size = _RESULT.unpack(await stream.readexactly(_RESULT.size))
    if size > (MAX_ROWS_BYTES if width else MAX_RESULT_BYTES):
        raise EOFError("a result that is too long")
    content = await stream.readexactly(size)
    try:
        if kind == ROWS and width:
            return _unpacked_rows(content, width)
        return _unpacked(kind, content, expected)
    except (ValueError, KeyError, TypeError, struct.error) as error:
        raise EOFError("not a result") from error


async def read_tensors(stream: "StreamReader") -> Result | None:
    """The next result, of a TensorTask. Raises EOFError as `read_result`."""
    kind, size = _RESULT.unpack(await stream.readexactly(_RESULT.size))
    if size > (MAX_TENSORS_BYTES if kind == TENSORS else MAX_RESULT_BYTES):
        raise EOFError("a result that is too long")
    content = memoryview(await stream.readexactly(size))
    try:
        if kind != TENSORS:
            return _unpacked(kind, bytes(content), -1)
        at = _LENGTH.size + _LENGTH.unpack_from(content)[0]
        return tensors.unpack(content[_LENGTH.size : at], content[at:])
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
    if kind in (EXPLAINED, SEVERAL):
        width, height, inverted, *box = _INFO.unpack_from(content)
        info = InputInfo((width, height), bool(inverted), (box[0], box[1], box[2], box[3]))
        content = content[_INFO.size :]
    if kind == SEVERAL:
        pixels, candidates = _unpacked_candidates(content, expected)
        return Decoded(pixels, info, candidates)
    if len(content) != expected:
        raise ValueError("pixels of another size")
    return Decoded(content, info)


def _unpacked_candidates(content: bytes, expected: int) -> tuple[bytes, Candidates]:
    """The pixels, which a number has not, and the candidates. Raises ValueError or struct.error."""
    size, lines, count, more = _SEVERAL.unpack_from(content)
    at = _SEVERAL.size
    skips = []
    for _ in range(lines):
        (pieces,) = _PIECES.unpack_from(content, at)
        skips.append(struct.unpack_from(f"<{pieces}d", content, at + _PIECES.size))
        at += _PIECES.size + 8 * pieces
    end = at + count * _CANDIDATE.size
    found = tuple(
        Candidate(line, start, stop, (left, top, right, bottom), cost)
        for line, start, stop, left, top, right, bottom, cost in _CANDIDATE.iter_unpack(content[at:end])
    )
    pixels, those = content[end : end + size], content[end + size :]
    if size not in (0, expected) or len(found) != count or len(those) != count * expected:
        raise ValueError("pixels of another size")
    return pixels, Candidates(those, found, tuple(skips), bool(more)).checked()


def _unpacked_rows(content: bytes, width: int) -> Encoded:
    count, bad, words, size = _ROWS.unpack_from(content)
    if words > MAX_WORDS or size > MAX_RESULT_BYTES * 4:
        raise ValueError("more problems than are described")
    at = _ROWS.size + size
    said = [(str(detail), str(hint)) for detail, hint in json.loads(content[_ROWS.size : at])]
    pairs = array("I")
    pairs.frombytes(content[at : at + 2 * bad * pairs.itemsize])
    problems = {row: said[word] for row, word in zip(pairs[::2], pairs[1::2], strict=True)}
    values = content[at + 2 * bad * pairs.itemsize :]
    if len(problems) != bad or max(problems, default=-1) >= count or len(values) != (count - bad) * width * 4:
        raise ValueError("rows of another number")
    return Encoded(values, count, problems)


_ERRORS = {
    kind.__name__: kind
    for module in (errors, model_errors)
    for kind in vars(module).values()
    if isinstance(kind, type) and issubclass(kind, ImageError | RequestError)
}
