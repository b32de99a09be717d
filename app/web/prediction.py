"""From the body of a request with one image to its answer, for the fast path and the documented route.

Which version answers (`find_routed`) is decided here for every protocol.
"""

import asyncio
import secrets
import time
from collections.abc import Callable, Sequence

from anyio import CapacityLimiter, to_thread
from starlette.types import Receive

from app.serving.batching import Held
from app.serving.decoding.announced import announced_pixels
from app.serving.decoding.forms import MAX_HEADER_BYTES
from app.serving.decoding.tensors import Head
from app.serving.decoding.wire import Decoded, Encoded, Result, Task
from app.serving.encoding import with_id, with_more
from app.serving.registry import ServedModel
from app.web import numbers, payloads
from app.web.auth import Headers, presented_key
from app.web.cancellation import Deadline, unless_gone
from app.web.dependencies import Services
from app.web.payloads import Options, Part, Payload, unpacked
from app.web.schemas import explanation_fields, to_json
from app.web.uploads import read_body
from models.classifier import Classifier
from models.numbers import Candidates, Reading
from models.preprocessing.pictures import from_planes
from models.preprocessing.preprocess import InputInfo, PreprocessMode

TRAFFIC_KEY = b"x-traffic-key"
PLAIN_BYTES = 4_096  # of a file: a larger one is not decoded in the event loop
INLINE_BYTES = 64 * 1024  # of a body: a larger one is not even cut in the event loop
MAX_BATCH_PIXELS = 400_000_000  # of the files of one request, plain ones apart
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
            payload = await read_payload(payloads.one, limit, headers, body, held)
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
    """As `find_served`, or the version whose turn it is where requests are shared (`PUT .../traffic`).

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


async def read_payload(
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
        task = decoder_task(classifier, mode, encoded, options.read or "digit")
        results = await decode(services, [task], receive)
        decoded = decoded_picture(results.pop())  # an error in a variable here would hold this frame
        pixels, done, candidates = decoded.pixels, decoded.info, decoded.candidates
    services.counters.seconds["decode"].observe(time.perf_counter() - begun)
    return pixels, done, candidates


def decoder_task(classifier: Classifier, mode: PreprocessMode, encoded: Part, reading: Reading) -> Task:
    return Task(classifier.card.picture, mode, encoded, b"", announced_pixels(encoded), reading)


async def decode(services: Services, tasks: Sequence[Task], receive: Receive) -> list[Result]:
    """The decoders' results. Raises ClientDisconnect when the client has gone."""
    return await unless_gone(asyncio.ensure_future(services.decoders.decode(tasks)), receive)


def decoded_picture(result: Result) -> Decoded:
    """A picture that was decoded; for another, its error is raised."""
    if isinstance(result, Decoded):
        return result
    assert not isinstance(result, Encoded | Head)
    try:
        raise result
    finally:
        del result  # else the error would keep itself, and the body, alive until the garbage is collected
