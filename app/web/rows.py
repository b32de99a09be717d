"""Rows of tables in, probabilities out: as `app.web.prediction` does it for pictures.

A row becomes float32 here where its body is small, else in a decoder; from then on it is to the batcher what
pixels are.
"""

import asyncio
import csv
import io
import time
from collections.abc import Callable, Sequence

import torch
from anyio import CapacityLimiter, to_thread
from starlette.types import Receive

from app.errors import InvalidRequest, WrongRow, WrongTable
from app.serving.batching import Held, Rows
from app.serving.decoding.forms import MAX_HEADER_BYTES
from app.serving.decoding.tables import JSON, is_plain, one_row
from app.serving.decoding.wire import Encoded, Result, TableTask
from app.serving.encoding import most_probable
from app.serving.registry import ServedModel
from app.web import problems
from app.web.auth import Headers
from app.web.cancellation import Deadline, unless_gone
from app.web.dependencies import Services
from app.web.payloads import Options, unpacked
from app.web.prediction import find_routed, finished
from app.web.schemas import to_json
from app.web.uploads import read_body
from models.attribution import contributions
from models.tables import decode_row

INLINE_BYTES = 16 * 1024  # of a row: a larger one is read in a decoder
MAX_PROBABILITIES = 2_000_000  # of one request
_EXPLAINED_AT_ONCE = CapacityLimiter(2)
_BATCHES_AT_ONCE = CapacityLimiter(2)  # in threads: to write answers
_UNPACKED_AT_ONCE = CapacityLimiter(2)


async def predict_row(
    services: Services, options: Options, headers: Headers, receive: Receive, request_id: bytes
) -> bytes:
    """The PredictionBody of the one row that a request carries. Raises a RequestError, or ClientDisconnect."""
    limit, batcher = services.settings.max_upload_bytes, services.batcher
    served = await find_routed(services, options.model, headers, request_id)
    _check(options)
    held = Held(batcher)
    async with Deadline(services.settings.request_timeout):
        try:
            body = await _body(headers, receive, limit, held)
            begun = time.perf_counter()
            kind = headers.get(b"content-type", b"")[:MAX_HEADER_BYTES].decode("latin-1")
            if len(body) <= INLINE_BYTES and is_plain(kind, body):
                values = one_row(served.rows, kind, body).values.tobytes()
            else:
                values = (await _encoded(services, served, headers, body, receive, True)).values
            services.counters.seconds["decode"].observe(time.perf_counter() - begun)
            answer = batcher.submit(served, values, 1)
            row = (await (unless_gone(answer, receive) if batcher.backlogged else answer))[0]
            more = await _explanation(served, values, most_probable(row)) if options.explain else None
        finally:
            held.release()
    return finished(services, served, row, values, None, more, headers, request_id)


async def predict_rows(
    services: Services, options: Options, headers: Headers, receive: Receive
) -> tuple[bytes, str]:
    """An answer for each row, in order, and its media type: JSON, or CSV where that is asked for.

    In JSON a list with a PredictionBody, or the Problem with it, for each. Raises as `predict_row`.
    """
    limit, batcher = services.settings.max_batch_upload_bytes, services.batcher
    served = await find_routed(services, options.model, headers)
    _check(options)
    held = Held(batcher)
    async with Deadline(services.settings.request_timeout):
        try:
            body = await _body(headers, receive, limit, held)
            begun = time.perf_counter()
            found = await _encoded(services, served, headers, body, receive, False)
            held.add(len(found.values))
            del body
            services.counters.seconds["decode"].observe(time.perf_counter() - begun)
            count = found.count - len(found.problems)
            classes = served.classes
            if count * classes > MAX_PROBABILITIES:
                raise WrongTable(
                    f"{count:,} rows of {classes:,} classes have more than {MAX_PROBABILITIES:,} probabilities",
                    "send fewer rows at a time",
                )
            rows = await unless_gone(batcher.submit(served, found.values, count), receive) if count else []
            if served.name in services.registry.shadows:
                services.shadow.offer_all(served, found.values, rows)
            as_csv = _wants_csv(headers)
            encode: Callable[[ServedModel, Rows, Encoded], bytes] = _csv if as_csv else _json
            return await to_thread.run_sync(
                encode, served, rows, found, limiter=_BATCHES_AT_ONCE
            ), "text/csv" if as_csv else JSON
        finally:
            held.release()


def _check(options: Options) -> None:
    if options.preprocess is not None:
        raise InvalidRequest("preprocess is said of a row", "leave it out: only pictures are preprocessed")


async def _body(headers: Headers, receive: Receive, limit: int, held: Held) -> bytes:
    """The whole body, unpacked."""
    body = await read_body(headers.get(b"content-length", b""), receive, limit, held)
    encoding = headers.get(b"content-encoding", b"").decode("latin-1").strip().lower()
    if encoding:
        body = await to_thread.run_sync(unpacked, encoding, body, limit, limiter=_UNPACKED_AT_ONCE)
        held.add(len(body))
    return body


async def _encoded(
    services: Services, served: ServedModel, headers: Headers, body: bytes, receive: Receive, one: bool
) -> Encoded:
    """What a decoder makes of a body."""
    content_type = headers.get(b"content-type", b"")[:MAX_HEADER_BYTES]
    task = TableTask(served.rows_json, served.rows.width, content_type, body, one)
    results = await unless_gone(asyncio.ensure_future(services.decoders.decode([task])), receive)
    return _rows(results.pop())  # an error in a variable here would hold this frame


def _rows(result: Result) -> Encoded:
    if isinstance(result, Encoded):
        return result
    assert isinstance(result, Exception)
    try:
        raise result
    finally:
        del result  # else the error would keep itself, and the body, alive until the garbage is collected


async def _explanation(served: ServedModel, values: bytes, index: int) -> bytes:
    """The fields that `explain` adds, as JSON; they are computed in a thread."""
    return await to_thread.run_sync(_explained, served, values, index, limiter=_EXPLAINED_AT_ONCE)


def _explained(served: ServedModel, values: bytes, index: int) -> bytes:
    row = torch.frombuffer(bytearray(values), dtype=torch.float32).to(served.classifier.device)
    found = contributions(served.classifier.model, served.rows, row, index)
    return to_json({"contributions": found.columns, "typical": decode_row(served.rows, found.typical.numpy())})


def _json(served: ServedModel, rows: Rows, found: Encoded) -> bytes:
    left, answers = iter(rows), []
    told: dict[tuple[str, str], bytes] = {}
    for number in range(found.count):
        if (said := found.problems.get(number)) is not None:
            if said not in told:
                told[said] = to_json(problems.problem_of(WrongRow(*said)))
            answers.append(told[said])
        else:
            row = next(left)
            index = most_probable(row)
            served.counted.count(index, row[index])
            answers.append(served.answers.encode(row, index))
    return b"[%s]" % b",".join(answers)


def _csv(served: ServedModel, rows: Rows, found: Encoded) -> bytes:
    """A line for each row: label, its probability, that of each class, and what was wrong with the row."""
    classes = served.classifier.card.classes
    lines, left = [_line(["label", "probability", *classes, "problem"])], iter(rows)
    form = ",".join(["%.9g"] * (len(classes) + 1)) + ",\r\n"
    labels = [_line([label])[:-2] + "," for label in classes]
    for number in range(found.count):
        if (said := found.problems.get(number)) is not None:
            lines.append(_line(["", "", *[""] * len(classes), ". ".join(said)]))
        else:
            row = next(left)
            index = most_probable(row)
            served.counted.count(index, row[index])
            lines.append(labels[index] + form % (row[index], *row))
    return "".join(lines).encode("utf-8", "replace")


def _line(cells: Sequence[str]) -> str:
    stream = io.StringIO(newline="")
    csv.writer(stream).writerow(cells)
    return stream.getvalue()


def _wants_csv(headers: Headers) -> bool:
    """Whether CSV comes before JSON among what the client accepts."""
    for kind in headers.get(b"accept", b"").decode("latin-1").lower().split(","):
        name = kind.partition(";")[0].strip()
        if name in ("text/csv", JSON):
            return name != JSON
    return False
