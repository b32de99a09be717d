"""From the body of a request in the protocol V2 to the bytes of its answer.

body -> the request: here where it is small, else in a decoder (`app.serving.decoding.tensors`)
     -> pixels of the model's size, files for the decoders, or rows -> the batcher -> outputs
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

from anyio import CapacityLimiter, to_thread
from starlette.types import Receive

from app.errors import InvalidRequest, WrongTable, WrongTensor
from app.serving.batching import Held, Rows
from app.serving.decoding import tensor_rows, tensors
from app.serving.decoding.instances import READERS
from app.serving.decoding.tensors import Head, Mode, Tensor
from app.serving.decoding.wire import Result, TensorTask
from app.serving.encoding import most_probable
from app.serving.registry import ServedModel
from app.telemetry.counters import Times
from app.web.auth import Headers
from app.web.batch_prediction import decode_many, plain_or_task
from app.web.cancellation import Deadline, unless_gone
from app.web.dependencies import Services
from app.web.payloads import GZIP, Part, Payload, image_file, unpacked
from app.web.prediction import find_routed
from app.web.rows import MAX_PROBABILITIES
from app.web.uploads import read_body
from app.web.v2.answers import encoded
from app.web.v2.pixels import pixels_of
from models.errors import ImageError

T = TypeVar("T")
INLINE_BYTES = 64 * 1024  # of JSON, or of tensors: more is not read in the event loop
INLINE_ROWS = 256  # of an answer
MAX_IMAGES = 100_000  # of a request
_READ_AT_ONCE = CapacityLimiter(2)
_WRITTEN_AT_ONCE = CapacityLimiter(2)
JSON_LENGTH = b"inference-header-content-length"
V2, V1 = b"v2", b"v1"
KNOWN_BYTES = 1024
FORMATS = {**GZIP, "deflate": 15}  # tritonclient has both


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer; where tensors follow its JSON, `json_bytes` is shorter than the body."""

    body: bytes
    json_bytes: int

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        if self.json_bytes == len(self.body):
            return [(b"content-type", b"application/json")]
        kind = (b"content-type", b"application/octet-stream")
        return [kind, (JSON_LENGTH, b"%d" % self.json_bytes)]


class Inference:
    """A request while it is answered; at the end it is counted, as one that has succeeded unless it raised."""

    __slots__ = ("begun", "numbers", "read", "times")

    def __init__(self, services: Services, served: ServedModel) -> None:
        self.numbers = services.counters.inferences[served.name, served.version]
        self.begun = time.perf_counter_ns()
        self.read = 0  # ns that reading its tensors took
        self.times = Times()

    def __enter__(self) -> "Inference":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        taken = time.perf_counter_ns() - self.begun
        if kind is None:
            self.numbers.succeeded(taken, self.read, self.times)
        else:
            self.numbers.failed(taken)


async def infer(services: Services, model: str, headers: Headers, receive: Receive) -> Reply:
    """Raises a RequestError, an ImageError, or ClientDisconnect."""
    served = await find_routed(services, model, headers)
    head, rows = await predicted(services, served, headers, receive, V2)
    begun = time.perf_counter_ns()
    if len(rows) <= INLINE_ROWS:
        reply = Reply(*encoded(served, head.id, head.outputs, rows))
    else:
        reply = Reply(
            *await to_thread.run_sync(encoded, served, head.id, head.outputs, rows, limiter=_WRITTEN_AT_ONCE)
        )
    services.counters.inferences[served.name, served.version].written(time.perf_counter_ns() - begun)
    return reply


async def predicted(
    services: Services, served: ServedModel, headers: Headers, receive: Receive, kind: bytes
) -> tuple[Head, Rows]:
    """What was asked, and the probabilities; they are counted. Raises as `infer`."""
    held = Held(services.batcher)
    with Inference(services, served) as inference:
        try:
            async with Deadline(services.settings.request_timeout):
                body, json_bytes = await _body(services, headers, receive, held)
                came = time.perf_counter_ns()
                head, given = await _request(
                    services, served, TensorTask(b"", body, json_bytes, kind), receive, held
                )
                inference.read += time.perf_counter_ns() - came
                del body
                rows = await answer(services, served, given, head.preprocess, receive, held, inference)
        finally:
            held.release()
    return head, rows


async def answer(
    services: Services,
    served: ServedModel,
    given: Sequence[Tensor],
    mode: Mode | None,
    receive: Receive,
    held: Held,
    inference: Inference,
) -> Rows:
    """Probabilities for each image or row of these tensors, which are counted. Raises as `infer`."""
    begun = time.perf_counter_ns()
    values, count = await _values(services, served, given, mode, receive, held)
    if count * served.classes > MAX_PROBABILITIES:
        raise WrongTable(
            f"the answer would have more than {MAX_PROBABILITIES:,} probabilities",
            f"there are {served.classes:,} classes: send fewer at a time",
        )
    read = time.perf_counter_ns()
    services.counters.seconds["decode"].observe((read - begun) / 1e9)
    inference.read += read - begun
    batcher = services.batcher
    waiting = batcher.submit(served, values, count, inference.times)
    rows = await (unless_gone(waiting, receive) if batcher.backlogged else waiting)
    rows = served.probabilities(rows)
    for row in rows:
        index = most_probable(row)
        served.counted.count(index, row[index])
    if served.name in services.registry.shadows:
        services.shadow.offer_all(served, values, rows)
    return rows


async def _body(services: Services, headers: Headers, receive: Receive, held: Held) -> tuple[bytes, int]:
    """The whole body, unpacked, and how much of it is JSON."""
    limit = services.settings.max_batch_upload_bytes
    body = await read_body(headers.get(b"content-length", b""), receive, limit, held)
    encoding = headers.get(b"content-encoding", b"").decode("latin-1").strip().lower()
    if encoding:
        body = await to_thread.run_sync(unpacked, encoding, body, limit, FORMATS, limiter=_READ_AT_ONCE)
        held.add(len(body))
    said = headers.get(JSON_LENGTH)
    if said is None:
        return body, len(body)
    if not said.isdigit() or len(said) > 10 or not 0 < int(said) <= len(body):
        raise WrongTensor(
            f"Inference-Header-Content-Length is not between 1 and the {len(body):,} bytes of the body",
            "send the length of the JSON, before it is compressed",
        )
    return body, int(said)


async def _request(
    services: Services, served: ServedModel, task: TensorTask, receive: Receive, held: Held
) -> tuple[Head, Sequence[Tensor]]:
    """What a body says. A small one is read here; rows that are many, and long JSON, in a decoder."""
    rest = memoryview(task.body)[task.json_bytes :]
    rows = served.takes_rows
    if len(task.body) <= INLINE_BYTES if rows else task.json_bytes <= INLINE_BYTES:
        text = memoryview(task.body)[: task.json_bytes]
        if rows and task.kind == V1:
            head = tensor_rows.encoded_instances(served.rows, text)
        elif rest and len(text) <= KNOWN_BYTES:
            head = _known(bytes(text))
        else:
            head = READERS[task.kind](text)
        return head, tensors.attach(head, rest)
    if rows:
        task = TensorTask(served.rows_json, task.body, task.json_bytes, task.kind)
    else:
        task = TensorTask(b"", memoryview(task.body)[: task.json_bytes], task.json_bytes, task.kind)
    results = await unless_gone(asyncio.ensure_future(services.decoders.decode([task])), receive)
    head = _head(results)
    held.add(sum(one.size for one in head.inputs if one.data is not None))
    return head, tensors.attach(head, memoryview(b"") if rows else rest)


@lru_cache(maxsize=256)
def _known(text: bytes) -> Head:
    """The head of a request whose tensors are raw: a client sends the same one again and again."""
    return tensors.read_head(text)


def _head(results: list[Result]) -> Head:
    """What a decoder found; its error is raised, without holding the frame that waited."""
    result = results.pop()
    if isinstance(result, Head):
        return result
    assert isinstance(result, Exception)
    try:
        raise result
    finally:
        del result


async def _values(
    services: Services,
    served: ServedModel,
    given: Sequence[Tensor],
    mode: Mode | None,
    receive: Receive,
    held: Held,
) -> tuple[bytes | memoryview, int]:
    """What the batcher takes, and of how many images or rows."""
    if served.takes_rows:
        if mode is not None:
            raise InvalidRequest("preprocess is said of rows", "leave it out: only pictures are preprocessed")
        if len(given) == 1 and given[0].name == tensor_rows.ROWS:
            return given[0].raw, given[0].shape[0]  # a decoder has read them
        rows = await _unless_small(given, tensor_rows.read_rows, served.rows, given)
        return rows.tobytes(), len(rows)
    if len(given) != 1 or given[0].name not in ("input", "image"):
        raise WrongTensor(
            f"the inputs are {', '.join(tensors.names_of(given))}",
            "send one: 'input', pixels of the model's size, or 'image', files (PNG, JPEG, ..) as BYTES",
        )
    if given[0].name == "image":
        return await _pictures(services, served, given[0], mode or "auto", receive, held)
    return await _unless_small(given, pixels_of, given[0], served.classifier.card.picture.shape)


async def _unless_small(given: Sequence[Tensor], work: Callable[..., T], *arguments: object) -> T:
    """In a thread, where the tensors are large."""
    if sum(len(tensor.raw) for tensor in given) <= INLINE_BYTES:
        return work(*arguments)
    return await to_thread.run_sync(work, *arguments, limiter=_READ_AT_ONCE)


async def _pictures(
    services: Services, served: ServedModel, tensor: Tensor, mode: Mode, receive: Receive, held: Held
) -> tuple[bytes | memoryview, int]:
    """The pixels of files, as `POST /predict/batch` reads them. Raises an ImageError for the first bad one."""
    if tensor.count > MAX_IMAGES:
        raise WrongTensor(f"there are more than {MAX_IMAGES:,} images", "send fewer at a time")
    files = await _unless_small([tensor], _files, tensor)
    found = await _unless_small([tensor], plain_or_task, served, mode, Payload(files))
    pixels, read = await decode_many(services, found, receive)
    held.add(len(pixels))
    for place, one in enumerate(read):
        if isinstance(one, ImageError):
            raise one if len(read) == 1 else type(one)(f"image {place + 1}: {one.detail}", one.hint)
    return pixels, len(read)


def _files(tensor: Tensor) -> list[Part]:
    return [image_file(text) for text in tensor.strings()]
