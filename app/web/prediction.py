"""From the body of a request to the bytes of its answer: for the fast path and the documented routes."""

import asyncio
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from types import TracebackType
from typing import TypeVar

from anyio import CapacityLimiter, to_thread
from starlette.requests import ClientDisconnect
from starlette.types import Receive

from app import errors
from app.serving.batching import Held, Rows
from app.serving.decoding.announced import announced_pixels
from app.serving.decoding.forms import MAX_HEADER_BYTES
from app.serving.decoding.tensors import Head
from app.serving.decoding.wire import Decoded, Encoded, Result, Task
from app.serving.encoding import with_id, with_more
from app.serving.registry import ServedModel
from app.store.recent_predictions import RecentPredictions
from app.web import numbers, payloads, problems
from app.web.auth import Headers, presented_key
from app.web.dependencies import Services
from app.web.payloads import Options, Part, Payload, unpacked
from app.web.schemas import explanation_fields, to_json
from app.web.uploads import images_array, read_body
from models.classifier import Classifier
from models.errors import ImageError, ImageTooLarge
from models.numbers import Candidates, Reading
from models.preprocessing.pictures import from_planes
from models.preprocessing.preprocess import InputInfo, PreprocessMode

T = TypeVar("T")
TRAFFIC_KEY = b"x-traffic-key"
PLAIN_BYTES = 4_096  # of a file: a larger one is not decoded in the event loop
INLINE_BYTES = 64 * 1024  # of a body: a larger one is not even cut in the event loop
MAX_PICTURES_AT_ONCE = 128  # of a batch: each may have 512 candidates of 28x28 pixels
MAX_BATCH_PIXELS = 400_000_000  # of the files of one request, plain ones apart
_BATCHES_AT_ONCE = CapacityLimiter(2)  # in threads: to cut forms, and to write answers
_CUT_AT_ONCE = CapacityLimiter(2)
_EXPLAINED_AT_ONCE = CapacityLimiter(2)


async def predict_one(
    services: Services, options: Options, headers: Headers, receive: Receive, request_id: bytes
) -> bytes:
    """The PredictionBody of the one image that a request carries.

    Raises a RequestError, an ImageError, or ClientDisconnect.
    """
    limit, batcher = services.settings.max_upload_bytes, services.batcher
    held = Held(batcher)
    async with Deadline(services.settings.request_timeout):
        try:
            body = await read_body(headers.get(b"content-length", b""), receive, limit, held)
            payload = await _payload(payloads.one, limit, headers, body, held)
            options = options.merged(payload.options)
            served = await find_routed(services, options.model, headers, request_id)
            if options.read == "number":
                numbers.refuse(served, options)
            pixels, done, candidates = await _decode_one(services, served, options, payload.images[0], receive)
            if candidates is None:
                answer = batcher.submit(served, pixels, 1)
            else:
                answer = batcher.submit(served, pixels + candidates.pixels, bool(pixels) + len(candidates))
            rows = await (unless_gone(answer, receive) if batcher.backlogged else answer)
            more = await _explanation(served, pixels) if options.explain else None
        finally:
            held.release()
    warning = None
    if candidates is not None:
        if options.read == "number":
            return numbers.encode(served, candidates, rows, done, services.recent_predictions)
        warning = numbers.warning(served, candidates, rows[1:])
    return finished(services, served, rows[0], pixels, done, more, headers, request_id, warning)


def finished(
    services: Services,
    served: ServedModel,
    row: list[float],
    values: bytes,
    done: InputInfo | None,
    more: bytes | None,
    headers: Headers,
    request_id: bytes,
    warning: bytes | None = None,
) -> bytes:
    """The PredictionBody of one answer, which is counted and, where it can be corrected, remembered."""
    index = served.most_probable(row)
    probability, label = row[index], served.classifier.card.classes[index]
    served.counted.count(index, probability)
    services.counters.latest_answers.append((request_id, served.name, served.version, label, probability))
    if served.name in services.registry.shadows:
        services.shadow.offer(served, values, index, probability)
    encoded = served.answers.encode(row, index, done, warning)
    if more is not None:
        encoded = with_more(encoded, more)
    if (memory := services.recent_predictions) is None:
        return encoded
    name = secrets.token_hex(12) if b"x-request-id" in headers else request_id.decode()  # never the client's
    memory.remember(name, served.name, served.version, label, values)
    return with_id(encoded, name)


async def find_routed(
    services: Services, name: str | None, headers: Headers, request_id: bytes = b""
) -> ServedModel:
    """The same, or the version whose turn it is where requests for the model are shared (`PUT .../traffic`).

    The same for the same `X-Traffic-Key`, else API key; else every request is dealt by itself.
    """
    if services.registry.splits:
        key = headers.get(TRAFFIC_KEY) or (presented_key(headers) or "").encode("latin-1", "replace")
        served = services.registry.routed(name, key or request_id or secrets.token_bytes(8))
        if served is not None:
            return served
    return await find_served(services, name)


async def find_served(services: Services, name: str | None) -> ServedModel:
    """The model of that name, the default where it is None. Raises UnknownModel."""
    served = services.registry.get(name)
    return served if served is not None else await to_thread.run_sync(services.registry.find, name)


async def _payload(
    read: Callable[[str, bytes], Payload], limit: int, headers: Headers, body: bytes, held: Held
) -> Payload:
    """What a body carries; a large or packed one is cut in a thread."""
    content_type = headers.get(b"content-type", b"")[:MAX_HEADER_BYTES].decode("latin-1")
    encoding = headers.get(b"content-encoding", b"").decode("latin-1").strip().lower()
    if encoding:
        body = await to_thread.run_sync(unpacked, encoding, body, limit, limiter=_CUT_AT_ONCE)
        held.add(len(body))
    if len(body) <= INLINE_BYTES or content_type.startswith("image/"):
        return read(content_type, body)
    return await to_thread.run_sync(read, content_type, body, limiter=_CUT_AT_ONCE)


async def _explanation(served: ServedModel, pixels: bytes) -> bytes:
    """The fields that `explain` adds, as JSON; found in a thread."""
    classifier, coarse = served.classifier, served.heavy_seconds > 0
    seen = from_planes(pixels, classifier.card.picture.shape)
    found = await to_thread.run_sync(classifier.explain, seen, coarse, limiter=_EXPLAINED_AT_ONCE)
    return to_json(explanation_fields(found))


async def _decode_one(
    services: Services, served: ServedModel, options: Options, encoded: Part, receive: Receive
) -> tuple[bytes, InputInfo | None, Candidates | None]:
    """Pixels, with `auto` what was done for them, and the candidates where there may be several digits."""
    begun = time.perf_counter()
    if served.takes_rows:
        raise served.not_pictures
    classifier, mode = served.classifier, options.preprocess or "auto"
    plain = len(encoded) <= PLAIN_BYTES and options.read != "number"
    pixels = classifier.decode_plain_png(bytes(encoded), mode) if plain else None
    done, candidates = classifier.identity if mode == "auto" else None, None
    if pixels is None:
        task = _task(classifier, mode, encoded, options.read or "digit")
        results = await _decoded(services, [task], receive)
        decoded = _picture(results.pop())  # an error in a variable here would hold this frame
        pixels, done, candidates = decoded.pixels, decoded.info, decoded.candidates
    services.counters.seconds["decode"].observe(time.perf_counter() - begun)
    return pixels, done, candidates


def _task(classifier: Classifier, mode: PreprocessMode, encoded: Part, reading: Reading) -> Task:
    return Task(classifier.card.picture, mode, encoded, b"", announced_pixels(encoded), reading)


async def _decoded(services: Services, tasks: Sequence[Task], receive: Receive) -> list[Result]:
    """The decoders' results. Raises ClientDisconnect when the client has gone."""
    return await unless_gone(asyncio.ensure_future(services.decoders.decode(tasks)), receive)


def _picture(result: Result) -> Decoded:
    """A picture that was decoded; for another, its error is raised."""
    if isinstance(result, Decoded):
        return result
    assert not isinstance(result, Encoded | Head)
    try:
        raise result
    finally:
        del result  # else the error would keep itself, and the body, alive until the garbage is collected


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
            payload = await _payload(payloads.many, limit, headers, body, held)
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
        task = _task(classifier, mode, encoded, reading)
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
    results = iter(await _decoded(services, tasks, receive) if tasks else ())
    read: list[Plain | Decoded | ImageError] = []
    for one in found:
        result = next(results) if isinstance(one, Task) else one
        read.append(result if isinstance(result, Plain | ImageError) else _picture(result))
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


class Deadline:
    """`async with`: a time limit for what runs inside. Raises DeadlineExceeded.

    What `asyncio.timeout` does, in a third of its time: each prediction has one.
    """

    __slots__ = ("_cancelled_before", "_exceeded", "_seconds", "_task", "_timer")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._exceeded = False

    async def __aenter__(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._task, self._cancelled_before = task, task.cancelling()
        self._timer = asyncio.get_running_loop().call_later(self._seconds, self._cancel)

    def _cancel(self) -> None:
        self._exceeded = True
        self._task.cancel()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()
        if not self._exceeded:
            return
        if self._task.uncancel() <= self._cancelled_before and kind is asyncio.CancelledError:
            raise errors.DeadlineExceeded(
                f"no answer could be given within {self._seconds:g} s",
                "try again later, send the body faster, or fewer images at a time",
            ) from error


async def unless_gone(answer: asyncio.Future[T], receive: Receive) -> T:
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
