"""What a request carries: its body within a limit, an array of images."""

import io
from collections.abc import Callable

import numpy as np
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

from app.errors import BodyTooLarge, EmptyBody, WrongArray, WrongContentType
from app.serving.batching import SMALL_BYTES, Held
from app.web.paths import path_of
from app.web.problems import response_of
from models.idx import idx_header

PIECE_BYTES = 1024 * 1024  # of a body that comes in many chunks


async def read_body(announced: bytes, receive: Receive, limit: int, held: Held) -> bytes:
    """The whole body, of which `announced` is the Content-Length, if there is one; it is `held` as it comes.

    Raises BodyTooLarge as soon as more than `limit` bytes are announced or have come, Overloaded as soon as
    there is no room for them.
    """
    if announced.isdigit():
        size = int(announced)
        if size > limit:
            raise _too_large(limit)
        if size > SMALL_BYTES:
            held.expect(size)
    first, pieces = b"", list[bytearray]()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunk = message.get("body", b"")
        held.add(len(chunk))
        if held.size > limit:
            raise _too_large(limit)
        if not first:
            first = chunk
        elif pieces and len(pieces[-1]) < PIECE_BYTES:  # of a body in drops, their objects would be most
            pieces[-1] += chunk
        else:
            pieces.append(bytearray(chunk))
        if not message.get("more_body", False):
            return b"".join((first, *pieces)) if pieces else first


def _too_large(limit: int) -> BodyTooLarge:
    return BodyTooLarge(
        f"the body has more than the {limit:,} bytes that are allowed here",
        "send a smaller one, or fewer images at a time",
    )


_WRONG_ENCODING = WrongContentType("the body has a content encoding", "send it as it is")


class ContentLengthLimit:
    """ASGI in front of ASGI: what announces too large a body, or a packed one, is refused; not where a path is
    `free`.

    `FastAPI(max_body_size=..)` counts the bytes that arrive, but answers an announced size in plain text.
    """

    def __init__(self, app: ASGIApp, limit: int, free: Callable[[str], bool]) -> None:
        self.app = app
        self.limit = limit
        self.free = free

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = self.app
        if scope["type"] == "http" and not self.free(path_of(scope)):
            headers = dict(scope["headers"])
            announced = headers.get(b"content-length", b"")
            if announced.isdigit() and int(announced) > self.limit:
                answer = response_of(_too_large(self.limit))
            elif headers.get(b"content-encoding", b"identity") != b"identity":
                answer = response_of(_WRONG_ENCODING)
        await answer(scope, receive, send)


def images_array(kind: str, body: bytes, shape: tuple[int, int, int]) -> tuple[bytes | memoryview, int]:
    """The pixels in a body in the npy or idx format, and N; `shape` is (channels, height, width).

    Grey: uint8 [N, height, width]; colour: uint8 [N, height, width, 3].

    Raises EmptyBody or WrongArray; nothing is allocated for a header that promises more than came.
    """
    channels, height, width = shape
    wanted = (height, width) if channels == 1 else (height, width, channels)
    form = f"uint8 [N, {', '.join(map(str, wanted))}]"
    if not body:
        raise EmptyBody("the body has no bytes", f"send {form} as npy or idx")
    npy = kind == "application/x-npy"
    found, dtype, offset, fortran = _npy_header(body) if npy else _idx_header(body)
    if dtype != "uint8" or found[1:] != wanted or not found or found[0] == 0 or fortran:
        order = " in Fortran order" if fortran else ""
        raise WrongArray(
            f"the array is {dtype} {list(found)}{order}",
            f"send {form} in C order, 0 for black, as many as fit into one body",
        )
    expected = found[0] * channels * height * width
    if len(body) - offset != expected:
        raise WrongArray(
            f"the header promises {expected:,} bytes of pixels, {len(body) - offset:,} came",
            "send the whole array",
        )
    pixels = memoryview(body)[offset:]
    if channels == 1:
        return pixels, found[0]
    planes = np.frombuffer(pixels, np.uint8).reshape(found).transpose(0, 3, 1, 2)
    return planes.tobytes(), found[0]


_Header = tuple[tuple[int, ...], str, int, bool]  # shape, dtype, offset of the data, Fortran order


def _npy_header(body: bytes) -> _Header:
    stream = io.BytesIO(body)
    try:
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(stream)
    except Exception as error:  # numpy evaluates the header: ValueError, SyntaxError, TypeError, EOFError
        raise WrongArray(f"the body is not an npy file ({error})", "write it with numpy.save") from error
    return shape, str(dtype), stream.tell(), fortran


def _idx_header(body: bytes) -> _Header:
    try:
        shape, start = idx_header(body)
    except ValueError as error:
        raise WrongArray(f"the body is not an idx file ({error})", "send an idx3-ubyte file") from error
    return shape, "uint8", start, False
