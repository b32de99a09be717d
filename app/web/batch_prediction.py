"""From the body of a request with many images to the bytes of its answers, one for each.

One image is answered by `app.web.prediction`; images in requests of v2 are decoded here, too.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

from anyio import CapacityLimiter, to_thread
from starlette.types import Receive

from app import errors
from app.serving.batching import Held, Rows
from app.serving.decoding.wire import Decoded, Task
from app.serving.registry import ServedModel
from app.store.recent_predictions import RecentPredictions
from app.web import numbers, payloads, problems
from app.web.auth import Headers
from app.web.cancellation import Deadline, unless_gone
from app.web.dependencies import Services
from app.web.payloads import Options, Payload
from app.web.prediction import (
    MAX_BATCH_PIXELS,
    PLAIN_BYTES,
    decode,
    decoded_picture,
    decoder_task,
    find_routed,
    read_payload,
)
from app.web.schemas import to_json
from app.web.uploads import images_array, read_body
from models.errors import ImageError, ImageTooLarge
from models.numbers import Reading
from models.preprocessing.preprocess import InputInfo, PreprocessMode

T = TypeVar("T")
MAX_PICTURES_AT_ONCE = 128  # of a batch: each may have 512 candidates of 28x28 pixels
_BATCHES_AT_ONCE = CapacityLimiter(2)  # in threads: to cut forms, and to write answers


@dataclass(frozen=True, slots=True)
class Plain:
    """The pixels of so many images that need nothing done, one after the other."""

    pixels: bytes | memoryview
    info: InputInfo | None
    count: int = 1


async def predict_batch(services: Services, options: Options, headers: Headers, receive: Receive) -> bytes:
    """A list with a PredictionBody, or the Problem with it, for each image that a request carries, in order.

    Raises a RequestError or ClientDisconnect.
    """
    limit, batcher = services.settings.max_batch_upload_bytes, services.batcher
    held = Held(batcher)
    async with Deadline(services.settings.request_timeout):
        try:
            body = await read_body(headers.get(b"content-length", b""), receive, limit, held)
            begun = time.perf_counter()
            payload = await read_payload(payloads.many, limit, headers, body, held)
            options = options.merged(payload.options)
            served = await find_routed(services, options.model, headers)
            if options.read == "number":
                numbers.refuse(served, options)
            mode, reading = options.preprocess or "auto", options.read or "digit"
            found = await _in_thread(plain_or_task, served, mode, payload, reading)
            services.counters.seconds["decode"].observe(time.perf_counter() - begun)
            answers: list[bytes] = []
            for some in _some(found):
                answers += await _answer_some(services, served, some, receive, reading)
            return b"[%s]" % b",".join(answers)
        finally:
            held.release()


def _some(found: Sequence[Plain | Task | ImageError]) -> Iterator[Sequence[Plain | Task | ImageError]]:
    """In parts, each with so many pictures to decode that their candidates together do not take much memory."""
    start = tasks = 0
    for at, one in enumerate(found):
        tasks += isinstance(one, Task)
        if tasks == MAX_PICTURES_AT_ONCE:
            yield found[start : at + 1]
            start, tasks = at + 1, 0
    if start < len(found):
        yield found[start:]


async def _answer_some(
    services: Services,
    served: ServedModel,
    some: Sequence[Plain | Task | ImageError],
    receive: Receive,
    reading: Reading,
) -> list[bytes]:
    """The answers for some pictures of a batch, in order."""
    begun = time.perf_counter()
    read = await _decode_each(services, some, receive)
    services.counters.seconds["decode"].observe(time.perf_counter() - begun)
    parts, count = _inputs(read)
    rows = await unless_gone(services.batcher.submit(served, parts, count), receive) if count else []
    if reading == "digit" and served.name in services.registry.shadows:
        services.shadow.offer_all(served, parts, rows)
    return await _in_thread(_encode_many, served, rows, read, reading, services.recent_predictions)


def _inputs(read: Sequence[Plain | Decoded | ImageError]) -> tuple[bytes | memoryview, int]:
    """What the model takes, and of how many images."""
    parts: list[bytes | memoryview] = []
    count = 0
    for one in read:
        if isinstance(one, ImageError):
            continue
        parts.append(one.pixels)
        count += one.count if isinstance(one, Plain) else bool(one.pixels)
        if isinstance(one, Decoded) and one.candidates is not None:
            parts.append(one.candidates.pixels)
            count += len(one.candidates)
    return parts[0] if len(parts) == 1 else b"".join(parts), count


def plain_or_task(
    served: ServedModel, mode: PreprocessMode, payload: Payload, reading: Reading = "digit"
) -> list[Plain | Task | ImageError]:
    """Of each image its pixels, or a decoder's task, or why it is refused."""
    if served.takes_rows:
        raise served.not_pictures
    if payload.array is not None:
        if reading == "number":
            raise errors.InvalidRequest("an array has one digit in each image", "send files, or leave read out")
        pixels, count = images_array(payload.array, payload.body, served.classifier.card.picture.shape)
        return [Plain(pixels, None, count)]
    classifier = served.classifier
    identity = classifier.identity if mode == "auto" else None
    found: list[Plain | Task | ImageError] = []
    left = MAX_BATCH_PIXELS
    for encoded in payload.images:
        if len(encoded) <= PLAIN_BYTES and reading == "digit":
            plain = classifier.decode_plain_png(bytes(encoded), mode)
            if plain is not None:
                found.append(Plain(plain, identity))
                continue
        task = decoder_task(classifier, mode, encoded, reading)
        left -= task.pixels
        found.append(task if left >= 0 else _too_many_pixels())
    return found


def _too_many_pixels() -> ImageTooLarge:
    return ImageTooLarge(
        f"the images before this one and it have more than {MAX_BATCH_PIXELS:,} pixels together",
        "send fewer images at a time, or scale them down first",
    )


async def decode_many(
    services: Services, found: Sequence[Plain | Task | ImageError], receive: Receive
) -> tuple[bytes | memoryview, Sequence[InputInfo | ImageError | None]]:
    """The pixels of the images that can be read, and for each image what was done for that, or why not."""
    pixels: list[bytes | memoryview] = []
    read: list[InputInfo | ImageError | None] = []
    for one in await _decode_each(services, found, receive):
        if isinstance(one, ImageError):
            read.append(one)
        else:
            pixels.append(one.pixels)
            read += [one.info] * (one.count if isinstance(one, Plain) else 1)
    return pixels[0] if len(pixels) == 1 else b"".join(pixels), read


async def _decode_each(
    services: Services, found: Sequence[Plain | Task | ImageError], receive: Receive
) -> list[Plain | Decoded | ImageError]:
    """The same with the decoders' results in place of their tasks."""
    tasks = [one for one in found if isinstance(one, Task)]
    results = iter(await decode(services, tasks, receive) if tasks else ())
    read: list[Plain | Decoded | ImageError] = []
    for one in found:
        result = next(results) if isinstance(one, Task) else one
        read.append(result if isinstance(result, Plain | ImageError) else decoded_picture(result))
    return read


def _encode_many(
    served: ServedModel,
    rows: Rows,
    read: Sequence[Plain | Decoded | ImageError],
    reading: Reading,
    memory: RecentPredictions | None,
) -> list[bytes]:
    left = iter(rows)
    answers: list[bytes] = []
    for one in read:
        if isinstance(one, ImageError):
            answers.append(to_json(problems.problem_of(one)))
        elif isinstance(one, Plain):
            answers += [_encoded(served, row, one.info) for row in islice(left, one.count)]
        elif one.candidates is None:
            answers.append(_encoded(served, next(left), one.info))
        elif reading == "number":
            answers.append(_number_or_problem(served, one, list(islice(left, len(one.candidates))), memory))
        else:
            row, others = next(left), list(islice(left, len(one.candidates)))
            warning = numbers.warning(served, one.candidates, others)
            answers.append(_encoded(served, row, one.info, warning))
    return answers


def _encoded(
    served: ServedModel, row: list[float], info: InputInfo | None, warning: bytes | None = None
) -> bytes:
    index = served.most_probable(row)
    served.counted.count(index, row[index])
    return served.answers.encode(row, index, info, warning)


def _number_or_problem(
    served: ServedModel, one: Decoded, rows: Rows, memory: RecentPredictions | None
) -> bytes:
    assert one.candidates is not None
    try:
        return numbers.encode(served, one.candidates, rows, one.info, memory)
    except ImageError as error:
        return to_json(problems.problem_of(error))


async def _in_thread(work: Callable[..., T], *arguments: object) -> T:
    return await to_thread.run_sync(work, *arguments, limiter=_BATCHES_AT_ONCE)
