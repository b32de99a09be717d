"""From the body of a request to the bytes of its answer. The fast path and the documented routes ask here."""

import asyncio
import time
from collections.abc import Mapping, Sequence

from fastapi.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect
from starlette.types import Receive

from app import problems
from app.answers import most_probable, with_id
from app.batching import Rows
from app.bodies import ARRAYS, FORM, form_files, images_array, media_type, one_image, read_body
from app.registry import Served
from app.schemas import to_json
from app.state import State
from models.errors import ImageError

Headers = Mapping[bytes, bytes]


async def answer_one(
    state: State, served: Served, headers: Headers, receive: Receive, request_id: bytes
) -> bytes:
    """The PredictionBody of the one image that a request carries.

    Raises a RequestError, an ImageError, or ClientDisconnect.
    """
    with state["deadlines"].watch():
        body = await read_body(headers.get(b"content-length", b""), receive, state["settings"].max_upload_bytes)
        batcher = state["batcher"]
        batcher.hold(len(body))
        try:
            pixels = _decode_one(state, served, headers.get(b"content-type", b"").decode("latin-1"), body)
            answer = batcher.submit(served, pixels, 1)
            row = (await (_unless_gone(answer, receive) if batcher.crowded else answer))[0]
        finally:
            batcher.release(len(body))
    index = most_probable(row)
    served.predicted[index] += 1
    encoded = served.answers.encode(row, index)
    memory = state["memory"]
    if memory is None:
        return encoded
    return with_id(encoded, memory.remember(served, index, pixels, headers, request_id))


def _decode_one(state: State, served: Served, content_type: str, body: bytes) -> bytes:
    begun = time.perf_counter()
    pixels = served.classifier.pixels(one_image(content_type, body))
    state["counts"].seconds["decode"].observe(time.perf_counter() - begun)
    return pixels


async def answer_many(state: State, served: Served, headers: Headers, receive: Receive) -> bytes:
    """A list with a PredictionBody, or the Problem with it, for each image that a request carries, in order.

    Raises a RequestError or ClientDisconnect.
    """
    limit = state["settings"].max_batch_upload_bytes
    with state["deadlines"].watch():
        body = await read_body(headers.get(b"content-length", b""), receive, limit)
        batcher = state["batcher"]
        batcher.hold(len(body))
        try:
            begun = time.perf_counter()
            content_type = headers.get(b"content-type", b"").decode("latin-1")
            pixels, errors = await run_in_threadpool(_decode_many, served, content_type, body)
            state["counts"].seconds["decode"].observe(time.perf_counter() - begun)
            count = len(errors) - sum(error is not None for error in errors)
            rows = await _unless_gone(batcher.submit(served, pixels, count), receive) if count else []
            return await run_in_threadpool(_encode_many, served, rows, errors)
        finally:
            batcher.release(len(body))


def _decode_many(
    served: Served, content_type: str, body: bytes
) -> tuple[bytes | memoryview, Sequence[ImageError | None]]:
    """The pixels of the images that can be read, and for each image why not, or None."""
    kind = media_type(content_type)
    if kind in ARRAYS:
        pixels, count = images_array(content_type, body, served.input_shape[1:])
        return pixels, [None] * count
    if kind != FORM:
        raise problems.WrongContentType(
            f"the content type is {kind or 'not given'}",
            f"send {FORM} with many fields 'files', or an array as {' or '.join(ARRAYS)}",
        )
    found: list[bytes] = []
    errors: list[ImageError | None] = []
    for image in form_files(content_type, body, "files"):
        try:
            found.append(served.classifier.pixels(image))
            errors.append(None)
        except ImageError as error:
            errors.append(error)
    return b"".join(found), errors


def _encode_many(served: Served, rows: Rows, errors: Sequence[ImageError | None]) -> bytes:
    left = iter(rows)
    answers = []
    for error in errors:
        if error is None:
            row = next(left)
            index = most_probable(row)
            served.predicted[index] += 1
            answers.append(served.answers.encode(row, index))
        else:
            answers.append(to_json(problems.problem_of(error)))
    return b"[%s]" % b",".join(answers)


async def _unless_gone(answer: asyncio.Future[Rows], receive: Receive) -> Rows:
    """The rows, once they are there. Raises ClientDisconnect when nobody waits for them any more."""
    gone = asyncio.ensure_future(_gone(receive))
    try:
        await asyncio.wait((answer, gone), return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            raise ClientDisconnect
        return answer.result()
    finally:
        answer.cancel()  # takes what still waits out of the queue
        gone.cancel()


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
