"""From the body of a request to the bytes of its answer: for the fast path and the documented routes."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from anyio import CapacityLimiter, to_thread
from starlette.requests import ClientDisconnect
from starlette.types import Receive

from app import errors
from app.serving.batching import Rows
from app.serving.decoding.announced import announced_in_body, announced_pixels
from app.serving.decoding.forms import FORM, MAX_HEADER_BYTES, form_files, media_type, one_image
from app.serving.decoding.wire import Decoded, Result, Task
from app.serving.encoding import most_probable, with_id, with_more
from app.serving.registry import ServedModel
from app.web import problems
from app.web.auth import Headers
from app.web.dependencies import Services
from app.web.schemas import explanation_fields, to_json
from app.web.uploads import ARRAYS, images_array, read_body
from models.classifier import Classifier
from models.errors import ImageError, ImageTooLarge
from models.preprocessing.preprocess import InputInfo, PreprocessMode

T = TypeVar("T")
MAX_BATCH_PARTS = 100_000
PLAIN_BYTES = 4_096  # of a body, or of a file in one: what is larger is not parsed in the event loop
MAX_BATCH_PIXELS = 400_000_000  # of the files of one request, plain ones apart
_BATCHES_AT_ONCE = CapacityLimiter(2)  # in threads: to cut forms, and to write answers
_EXPLAINED_AT_ONCE = CapacityLimiter(2)


async def predict_one(
    services: Services,
    served: ServedModel,
    mode: PreprocessMode,
    headers: Headers,
    receive: Receive,
    request_id: bytes,
    explain: bool = False,
) -> bytes:
    """The PredictionBody of the one image that a request carries; with `explain`, what counted for it too.

    Raises a RequestError, an ImageError, or ClientDisconnect.
    """
    async with _deadline(services.settings.request_timeout):
        body = await read_body(headers.get(b"content-length", b""), receive, services.settings.max_upload_bytes)
        batcher = services.batcher
        batcher.admit(len(body))
        try:
            content_type = headers.get(b"content-type", b"")[:MAX_HEADER_BYTES]
            pixels, done = await _decode_one(services, served, mode, content_type, body, receive)
            answer = batcher.submit(served, pixels, 1)
            row = (await (_unless_gone(answer, receive) if batcher.backlogged else answer))[0]
            more = await _explanation(served.classifier, pixels) if explain else None
        finally:
            batcher.release(len(body))
    index = most_probable(row)
    served.predicted[index] += 1
    encoded = served.answers.encode(row, index, done)
    if more is not None:
        encoded = with_more(encoded, more)
    if (memory := services.recent_predictions) is None:
        return encoded
    name = secrets.token_hex(12) if b"x-request-id" in headers else request_id.decode()  # never the client's
    memory.remember(name, served.name, served.version, served.classifier.card.classes[index], pixels)
    return with_id(encoded, name)


async def _explanation(classifier: Classifier, pixels: bytes) -> bytes:
    """The fields that `explain` adds, as JSON; the gradient is computed in a thread."""
    grey = np.frombuffer(pixels, np.uint8).reshape(classifier.card.input_shape[1:])
    found = await to_thread.run_sync(classifier.explain, grey, limiter=_EXPLAINED_AT_ONCE)
    return to_json(explanation_fields(found))


async def _decode_one(
    services: Services,
    served: ServedModel,
    mode: PreprocessMode,
    content_type: bytes,
    body: bytes,
    receive: Receive,
) -> tuple[bytes, InputInfo | None]:
    """Pixels, and with `auto` what was done for them."""
    begun = time.perf_counter()
    classifier = served.classifier
    pixels = _plain_pixels(classifier, mode, content_type, body)
    done = classifier.identity if mode == "auto" else None
    if pixels is None:
        task = Task(classifier.card, mode, body, content_type, announced_in_body(content_type, body))
        (result,) = await _decoded(services, [task], receive)
        pixels, done = _pixels_and_info(result)
    services.counters.seconds["decode"].observe(time.perf_counter() - begun)
    return pixels, done


def _plain_pixels(
    classifier: Classifier, mode: PreprocessMode, content_type: bytes, body: bytes
) -> bytes | None:
    """Those of a plain PNG in a small body; None for whatever a decoder has to look at."""
    if len(body) > PLAIN_BYTES:
        return None
    return classifier.decode_plain_png(bytes(one_image(content_type.decode("latin-1"), body)), mode)


async def _decoded(services: Services, tasks: Sequence[Task], receive: Receive) -> list[Result]:
    """The decoders' results. Raises ClientDisconnect when the client has gone."""
    return await _unless_gone(asyncio.ensure_future(services.decoders.decode(tasks)), receive)


def _pixels_and_info(result: Result) -> tuple[bytes, InputInfo | None]:
    """Of a picture that was decoded; for another, its error is raised."""
    if isinstance(result, Decoded):
        return result.pixels, result.info
    try:
        raise result
    finally:
        del result  # else the error would keep itself, and the body, alive until the garbage is collected


async def predict_batch(
    services: Services, served: ServedModel, mode: PreprocessMode, headers: Headers, receive: Receive
) -> bytes:
    """A list with a PredictionBody, or the Problem with it, for each image that a request carries, in order.

    Raises a RequestError or ClientDisconnect.
    """
    limit = services.settings.max_batch_upload_bytes
    async with _deadline(services.settings.request_timeout):
        body = await read_body(headers.get(b"content-length", b""), receive, limit)
        batcher = services.batcher
        batcher.admit(len(body))
        try:
            begun = time.perf_counter()
            content_type = headers.get(b"content-type", b"")[:MAX_HEADER_BYTES].decode("latin-1")
            found = await _in_thread(_split_batch, served, mode, content_type, body)
            pixels, read = await _decode_many(services, found, receive)
            services.counters.seconds["decode"].observe(time.perf_counter() - begun)
            count = sum(not isinstance(one, ImageError) for one in read)
            rows = await _unless_gone(batcher.submit(served, pixels, count), receive) if count else []
            return await _in_thread(_encode_many, served, rows, read)
        finally:
            batcher.release(len(body))


@dataclass(frozen=True, slots=True)
class _Plain:
    """The pixels of so many images that need nothing done, one after the other."""

    pixels: bytes | memoryview
    info: InputInfo | None
    count: int = 1


def _split_batch(
    served: ServedModel, mode: PreprocessMode, content_type: str, body: bytes
) -> list[_Plain | Task | ImageError]:
    """The images that a body carries: pixels, or a decoder's task, or why they are refused."""
    kind = media_type(content_type)
    if kind in ARRAYS:
        pixels, count = images_array(content_type, body, served.input_shape[1:])
        return [_Plain(pixels, None, count)]
    if kind != FORM:
        raise errors.WrongContentType(
            f"the content type is {kind or 'not given'}",
            f"send {FORM} with many fields 'files', or an array as {' or '.join(ARRAYS)}",
        )
    classifier = served.classifier
    identity = classifier.identity if mode == "auto" else None
    found: list[_Plain | Task | ImageError] = []
    left = MAX_BATCH_PIXELS
    for encoded in form_files(content_type, body, "files", MAX_BATCH_PARTS):
        if len(encoded) <= PLAIN_BYTES:
            plain = classifier.decode_plain_png(bytes(encoded), mode)
            if plain is not None:
                found.append(_Plain(plain, identity))
                continue
        task = Task(classifier.card, mode, encoded, pixels=announced_pixels(encoded))
        left -= task.pixels
        found.append(task if left >= 0 else _too_many_pixels())
    return found


def _too_many_pixels() -> ImageTooLarge:
    return ImageTooLarge(
        f"the images before this one and it have more than {MAX_BATCH_PIXELS:,} pixels together",
        "send fewer images at a time, or scale them down first",
    )


async def _decode_many(
    services: Services, found: Sequence[_Plain | Task | ImageError], receive: Receive
) -> tuple[bytes | memoryview, Sequence[InputInfo | ImageError | None]]:
    """The pixels of the images that can be read, and for each image what was done for that, or why not."""
    tasks = [one for one in found if isinstance(one, Task)]
    results = iter(await _decoded(services, tasks, receive) if tasks else ())
    pixels: list[bytes | memoryview] = []
    read: list[InputInfo | ImageError | None] = []
    for one in found:
        if isinstance(one, _Plain):
            pixels.append(one.pixels)
            read += [one.info] * one.count
            continue
        result = next(results) if isinstance(one, Task) else one
        if isinstance(result, ImageError):
            read.append(result)
        else:
            grey, info = _pixels_and_info(result)
            pixels.append(grey)
            read.append(info)
    return pixels[0] if len(pixels) == 1 else b"".join(pixels), read


def _encode_many(served: ServedModel, rows: Rows, read: Sequence[InputInfo | ImageError | None]) -> bytes:
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


async def _in_thread(work: Callable[..., T], *arguments: object) -> T:
    return await to_thread.run_sync(work, *arguments, limiter=_BATCHES_AT_ONCE)


@asynccontextmanager
async def _deadline(seconds: float) -> AsyncIterator[None]:
    """A time limit for what runs inside. Raises DeadlineExceeded."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as error:
        raise errors.DeadlineExceeded(
            f"no answer could be given within {seconds:g} s",
            "try again later, send the body faster, or fewer images at a time",
        ) from error


async def _unless_gone(answer: asyncio.Future[T], receive: Receive) -> T:
    """The answer, once it is there. Raises ClientDisconnect when the client has gone.

    An answer that is given up is waited for until what it holds is free.
    """
    gone = asyncio.ensure_future(_gone(receive))
    try:
        await asyncio.wait((answer, gone), return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            raise ClientDisconnect
        return answer.result()
    finally:
        gone.cancel()
        if answer.cancel():  # takes what still waits out of the queue
            await asyncio.wait((answer,))


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
