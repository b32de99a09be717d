"""From the body of a request to the bytes of its answer: for the fast path and the documented routes."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import numpy as np
from anyio import CapacityLimiter, to_thread
from PIL import Image
from starlette.requests import ClientDisconnect
from starlette.types import Receive

from app import errors
from app.serving.batching import Rows
from app.serving.encoding import most_probable, with_id, with_more
from app.serving.registry import ServedModel
from app.web import problems
from app.web.auth import Headers
from app.web.dependencies import Services
from app.web.schemas import explanation_fields, to_json
from app.web.uploads import ARRAYS, FORM, form_files, images_array, media_type, one_image, read_body
from models.classifier import Classifier
from models.errors import ImageError
from models.preprocessing.decode import Grey, open_image
from models.preprocessing.preprocess import InputInfo, PreprocessMode

LARGE = 256 * 256  # pixels; decoding more would keep other requests waiting
_LARGE_AT_ONCE = CapacityLimiter(2)  # a photograph may take 200 MB while it is read
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
            encoded = one_image(headers.get(b"content-type", b"").decode("latin-1"), body)
            pixels, done = await _decode_one(services, served, mode, encoded)
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
    services: Services, served: ServedModel, mode: PreprocessMode, encoded: bytes
) -> tuple[bytes, InputInfo | None]:
    """Pixels, and with `auto` what was done for them."""
    begun = time.perf_counter()
    classifier = served.classifier
    done = classifier.identity if mode == "auto" else None
    pixels = classifier.decode_plain_png(encoded, mode)
    if pixels is None:
        grey, done = await read_image(classifier, open_image(encoded), mode)
        pixels = grey.tobytes()
    services.counters.seconds["decode"].observe(time.perf_counter() - begun)
    return pixels, done


async def read_image(
    classifier: Classifier, image: Image.Image, mode: PreprocessMode
) -> tuple[Grey, InputInfo | None]:
    """As `Classifier.read`; a large image is read in a thread."""
    if image.width * image.height > LARGE:
        return await to_thread.run_sync(classifier.read, image, mode, limiter=_LARGE_AT_ONCE)
    return classifier.read(image, mode)


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
            content_type = headers.get(b"content-type", b"").decode("latin-1")
            pixels, read = await to_thread.run_sync(_decode_many, served, mode, content_type, body)
            services.counters.seconds["decode"].observe(time.perf_counter() - begun)
            count = sum(not isinstance(one, ImageError) for one in read)
            rows = await _unless_gone(batcher.submit(served, pixels, count), receive) if count else []
            return await to_thread.run_sync(_encode_many, served, rows, read)
        finally:
            batcher.release(len(body))


def _decode_many(
    served: ServedModel, mode: PreprocessMode, content_type: str, body: bytes
) -> tuple[bytes | memoryview, Sequence[InputInfo | ImageError | None]]:
    """The pixels of the images that can be read, and for each image what was done for that, or why not."""
    kind = media_type(content_type)
    if kind in ARRAYS:
        pixels, count = images_array(content_type, body, served.input_shape[1:])
        return pixels, [None] * count
    if kind != FORM:
        raise errors.WrongContentType(
            f"the content type is {kind or 'not given'}",
            f"send {FORM} with many fields 'files', or an array as {' or '.join(ARRAYS)}",
        )
    classifier = served.classifier
    identity = classifier.identity if mode == "auto" else None
    found: list[bytes] = []
    read: list[InputInfo | ImageError | None] = []
    for encoded in form_files(content_type, body, "files"):
        plain = classifier.decode_plain_png(encoded, mode)
        if plain is not None:
            found.append(plain)
            read.append(identity)
            continue
        try:
            grey, done = classifier.read(open_image(encoded), mode)
            found.append(grey.tobytes())
            read.append(done)
        except ImageError as error:
            read.append(error)
    return b"".join(found), read


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


@asynccontextmanager
async def _deadline(seconds: float) -> AsyncIterator[None]:
    """Around what may take so long and no longer. Raises DeadlineExceeded."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as error:
        raise errors.DeadlineExceeded(
            f"no answer could be given within {seconds:g} s",
            "try again later, send the body faster, or fewer images at a time",
        ) from error


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
