"""From the body of a request to the bytes of its answer. The fast path and the documented routes ask here."""

import asyncio
import time
from collections.abc import Mapping, Sequence

from anyio import CapacityLimiter, to_thread
from fastapi.concurrency import run_in_threadpool
from PIL import Image
from starlette.requests import ClientDisconnect
from starlette.types import Receive

from app import problems
from app.answers import most_probable, with_id
from app.batching import Rows
from app.bodies import ARRAYS, FORM, form_files, images_array, media_type, one_image, read_body
from app.registry import Served
from app.schemas import to_json
from app.state import State
from models.classifier import Classifier
from models.errors import ImageError
from models.fit import Fit, Input
from models.images import Grey, open_image

LARGE = 256 * 256  # pixels; decoding more would keep other requests waiting
_LARGE_AT_ONCE = CapacityLimiter(2)  # a photograph may take 200 MB while it is read
Headers = Mapping[bytes, bytes]


async def answer_one(
    state: State, served: Served, fit: Fit, headers: Headers, receive: Receive, request_id: bytes
) -> bytes:
    """The PredictionBody of the one image that a request carries.

    Raises a RequestError, an ImageError, or ClientDisconnect.
    """
    with state["deadlines"].watch():
        body = await read_body(headers.get(b"content-length", b""), receive, state["settings"].max_upload_bytes)
        batcher = state["batcher"]
        batcher.hold(len(body))
        try:
            encoded = one_image(headers.get(b"content-type", b"").decode("latin-1"), body)
            pixels, done = await _decode_one(state, served, fit, encoded)
            answer = batcher.submit(served, pixels, 1)
            row = (await (_unless_gone(answer, receive) if batcher.crowded else answer))[0]
        finally:
            batcher.release(len(body))
    index = most_probable(row)
    served.predicted[index] += 1
    encoded = served.answers.encode(row, index, done)
    memory = state["memory"]
    if memory is None:
        return encoded
    return with_id(encoded, memory.remember(served, index, pixels, headers, request_id))


async def _decode_one(state: State, served: Served, fit: Fit, encoded: bytes) -> tuple[bytes, Input | None]:
    """Pixels, and with `auto` what was done for them."""
    begun = time.perf_counter()
    classifier = served.classifier
    done = classifier.untouched if fit == "auto" else None
    pixels = classifier.glance(encoded, fit)
    if pixels is None:
        grey, done = await read_image(classifier, open_image(encoded), fit)
        pixels = grey.tobytes()
    state["counts"].seconds["decode"].observe(time.perf_counter() - begun)
    return pixels, done


async def read_image(classifier: Classifier, image: Image.Image, fit: Fit) -> tuple[Grey, Input | None]:
    """As `Classifier.read`; a large image is read in a thread."""
    if image.width * image.height > LARGE:
        return await to_thread.run_sync(classifier.read, image, fit, limiter=_LARGE_AT_ONCE)
    return classifier.read(image, fit)


async def answer_many(state: State, served: Served, fit: Fit, headers: Headers, receive: Receive) -> bytes:
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
            pixels, read = await run_in_threadpool(_decode_many, served, fit, content_type, body)
            state["counts"].seconds["decode"].observe(time.perf_counter() - begun)
            count = sum(not isinstance(one, ImageError) for one in read)
            rows = await _unless_gone(batcher.submit(served, pixels, count), receive) if count else []
            return await run_in_threadpool(_encode_many, served, rows, read)
        finally:
            batcher.release(len(body))


def _decode_many(
    served: Served, fit: Fit, content_type: str, body: bytes
) -> tuple[bytes | memoryview, Sequence[Input | ImageError | None]]:
    """The pixels of the images that can be read, and for each image what was done for that, or why not."""
    kind = media_type(content_type)
    if kind in ARRAYS:
        pixels, count = images_array(content_type, body, served.input_shape[1:])
        return pixels, [None] * count
    if kind != FORM:
        raise problems.WrongContentType(
            f"the content type is {kind or 'not given'}",
            f"send {FORM} with many fields 'files', or an array as {' or '.join(ARRAYS)}",
        )
    classifier = served.classifier
    untouched = classifier.untouched if fit == "auto" else None
    found: list[bytes] = []
    read: list[Input | ImageError | None] = []
    for encoded in form_files(content_type, body, "files"):
        plain = classifier.glance(encoded, fit)
        if plain is not None:
            found.append(plain)
            read.append(untouched)
            continue
        try:
            grey, done = classifier.read(open_image(encoded), fit)
            found.append(grey.tobytes())
            read.append(done)
        except ImageError as error:
            read.append(error)
    return b"".join(found), read


def _encode_many(served: Served, rows: Rows, read: Sequence[Input | ImageError | None]) -> bytes:
    left = iter(rows)
    answers = []
    for one in read:
        if isinstance(one, ImageError):
            answers.append(to_json(problems.problem_of(one)))
        else:
            row = next(left)
            index = most_probable(row)
            served.predicted[index] += 1
            answers.append(served.answers.encode(row, index, one))
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
