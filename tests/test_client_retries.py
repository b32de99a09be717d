"""The client where the network, a proxy or the service fails."""

import inspect
import io
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any

import pytest

from minist_client import (
    AsyncClient,
    Client,
    EpochEvent,
    JobEvent,
    NoteEvent,
    NotReachable,
    Problem,
    Retries,
    ServiceError,
    StatusEvent,
    StepEvent,
    TimedOut,
    UnexpectedAnswer,
    UnusableInput,
)
from minist_client.progress import display
from minist_client.waiting import retry_after
from tests.both_clients import KINDS, client_of
from tests.flaky import Flaky, Reply, flaky_server
from tests.processes import free_port

PREDICTION = {
    "model": "m",
    "version": 1,
    "label": "7",
    "index": 0,
    "probability": 0.9,
    "probabilities": {"7": 0.9},
}
JOB = {"id": "a1", "status": "queued", "model": "mine", "of_a_newer_service": 1}
BUSY = {"type": "urn:minist:overloaded", "title": "Overloaded", "detail": "much waits", "hint": "come later"}


@pytest.fixture
def server() -> Iterator[Flaky]:
    with flaky_server() as found:
        yield found


@pytest.fixture(params=KINDS)
def client(request: pytest.FixtureRequest, server: Flaky) -> Iterator[Any]:
    with client_of(request.param, server.url, api_key="a-key") as found:
        yield found


def test_both_clients_have_the_same_methods() -> None:
    def methods(kind: type) -> dict[str, inspect.Signature]:
        public = inspect.getmembers(kind, inspect.isfunction)
        return {name: inspect.signature(found) for name, found in public if not name.startswith("_")}

    waits, awaited = methods(Client), methods(AsyncClient)
    assert waits.keys() == awaited.keys()
    for name in waits.keys() - {"follow"}:
        assert waits[name] == awaited[name], name
        assert getattr(Client, name).__doc__ == getattr(AsyncClient, name).__doc__
    assert list(waits["predict"].parameters) == ["self", "image", "model", "preprocess", "explain"]


@pytest.mark.parametrize("status", [429, 503])
def test_a_refusal_for_now_is_waited_for_as_long_as_it_says(server: Flaky, client: Any, status: int) -> None:
    server.replies = [Reply(status, BUSY, {"retry-after": "1"}), Reply(body=PREDICTION)]
    assert client.predict(b"pixels").label == "7"
    first, second = server.asked
    assert second.at - first.at >= 1
    assert first.body == second.body == b"pixels"


def test_no_longer_than_the_time_that_there_is(server: Flaky) -> None:
    server.replies = [Reply(503, BUSY, {"retry-after": "100"})]
    with (
        Client(server.url) as client,
        pytest.raises(ServiceError, match=r"Overloaded: much waits\. Come later") as found,
    ):
        client.models()
    assert found.value.retry_after == 100
    assert len(server.asked) == 1


def test_an_answer_that_breaks_off_is_asked_for_again(server: Flaky, client: Any) -> None:
    server.replies = [Reply(body=PREDICTION, cut=20), Reply(body=PREDICTION, cut=0), Reply(body=PREDICTION)]
    assert client.predict(b"pixels").probability == 0.9
    assert len(server.asked) == 3


def test_a_job_that_is_asked_for_again_has_the_same_key(server: Flaky, client: Any) -> None:
    server.replies = [Reply(202, JOB, cut=5), Reply(202, JOB)]
    job = client.train("mine", "mlp", epochs=3, lr=None)
    assert (job.id, job.ended) == ("a1", False)
    first, second = server.asked
    assert first.headers["idempotency-key"] == second.headers["idempotency-key"]
    assert b'"lr"' not in first.body
    client.train("mine", "mlp")
    assert server.asked[2].headers["idempotency-key"] != first.headers["idempotency-key"]


def test_what_may_have_happened_is_not_done_twice(server: Flaky, client: Any) -> None:
    server.replies = [Reply(body={}, cut=0)]
    for name in ("rollback", "cancel", "delete_dataset"):
        with pytest.raises(NotReachable, match="was lost"):
            getattr(client, name)("m")
    assert len(server.asked) == 3


def test_a_rollback_that_was_refused_by_a_rate_limit_is_asked_for_again(server: Flaky, client: Any) -> None:
    alias = {"model": "m", "alias": "production", "version": 1}
    server.replies = [Reply(429, BUSY, {"retry-after": "0"}), Reply(body=alias)]
    assert client.rollback("m").version == 1


def test_an_error_is_not_repeated_and_says_what_to_do(server: Flaky, client: Any) -> None:
    server.replies = [Reply(422, {**BUSY, "title": "Not an image", "status": 422})]
    with pytest.raises(ServiceError) as found:
        client.predict(b"x")
    assert (found.value.status, found.value.title, found.value.hint) == (422, "Not an image", "come later")
    assert len(server.asked) == 1


def test_what_a_proxy_says_is_told(server: Flaky) -> None:
    server.replies = [Reply(502, b"<html>bad gateway</html>", {"content-type": "text/html"})]
    with (
        Client(server.url, retries=1) as client,
        pytest.raises(ServiceError, match="HTTP 502: <html>bad gateway"),
    ):
        client.models()
    assert len(server.asked) == 2


def test_a_place_that_moved_is_named(server: Flaky, client: Any) -> None:
    server.replies = [Reply(308, {}, {"location": "https://example.org/"})]
    with pytest.raises(ServiceError, match=r"the service is at https://example\.org/"):
        client.models()


def test_something_else_that_answers_is_recognised(server: Flaky, client: Any) -> None:
    for body in (b"<html>", {"hello": 1}, [{"hello": 1}]):
        server.replies = [Reply(body=body)]
        with pytest.raises(UnexpectedAnswer, match="address of a minist service"):
            client.predict(b"x")


def test_a_service_that_does_not_run_is_told_how_to_start() -> None:
    with (
        Client(f"http://127.0.0.1:{free_port()}", retries=1) as client,
        pytest.raises(NotReachable, match=r"start it \(minist serve\)"),
    ):
        client.models()


def test_an_answer_that_takes_too_long_is_given_up(server: Flaky) -> None:
    server.replies = [Reply(body=[], late=0.5)]
    with Client(server.url, timeout=0.1) as client, pytest.raises(TimedOut, match=r"within 0.1 s"):
        client.models()
    assert len(server.asked) == 1


def test_address_prefix_and_key(server: Flaky, monkeypatch: pytest.MonkeyPatch) -> None:
    server.replies = [Reply(body=[])]
    monkeypatch.setenv("MINIST_URL", f"{server.url}/tools/minist/")
    monkeypatch.setenv("MINIST_API_KEY", "from-the-environment\n")
    with Client() as client:
        client.versions("a/b@3")
    with Client(server.url.removeprefix("http://"), api_key="said") as client:
        client.models()
    first, second = server.asked
    assert first.path == "/tools/minist/models/a%2Fb%403/versions"
    assert first.headers["authorization"] == "Bearer from-the-environment"
    assert second.headers["authorization"] == "Bearer said"
    for wrong in ("ftp://x", "http://", "http://x/?a=1"):
        with pytest.raises(UnusableInput, match="no address"):
            Client(wrong)


def sse(*events: tuple[int, str, str]) -> bytes:
    return "".join(f"event: {kind}\ndata: {data}\nid: {id}\n\n" for id, kind, data in events).encode()


STREAM = {"content-type": "text/event-stream"}


def test_events_go_on_where_the_connection_broke_off(server: Flaky, client: Any) -> None:
    first = sse((1, "status", '{"status": "failed", "error": "x"}'), (2, "status", '{"status": "queued"}'))
    second = sse((2, "status", '{"status": "queued"}'), (3, "epoch", '{"epoch": 1, "loss": 0.5, "new": 1}'))
    third = sse((4, "later", "{}"), (5, "status", '{"status": "succeeded"}'))
    server.replies = [
        Reply(body=first + b"event: epo", headers=STREAM, cut=len(first) + 5),
        Reply(503, BUSY, {"retry-after": "0"}),
        Reply(body=second, headers=STREAM),
        Reply(body=third, headers=STREAM),
        Reply(204),
    ]
    assert list(client.follow("a1")) == [
        StatusEvent(1, "failed", "x"),
        StatusEvent(2, "queued"),
        EpochEvent(3, epoch=1, loss=0.5),
        JobEvent(4),
        StatusEvent(5, "succeeded"),
    ]
    assert [asked.headers["last-event-id"] for asked in server.asked] == ["0", "2", "2", "3", "5"]


def test_a_stream_that_brings_nothing_is_given_up(server: Flaky) -> None:
    server.replies = [Reply(body=b": keep-alive\n\n", headers=STREAM)]
    with (
        Client(server.url, retries=Retries(4, 1.0)) as client,
        pytest.raises(NotReachable, match="again and again"),
    ):
        list(client.follow("a1"))
    assert 2 <= len(server.asked) <= 5


def test_no_stream_of_an_unknown_job(server: Flaky, client: Any) -> None:
    server.replies = [Reply(404, {**BUSY, "title": "Unknown job"})]
    with pytest.raises(ServiceError, match="Unknown job"):
        list(client.follow("a1"))
    server.replies = [Reply(body=[])]
    with pytest.raises(UnexpectedAnswer, match="not a stream"):
        list(client.follow("a1"))


def test_a_batch_that_is_too_large_is_sent_in_halves(server: Flaky, client: Any) -> None:
    large = Reply(413, {**BUSY, "title": "Body too large"})
    answers = [{**PREDICTION, "label": str(number)} for number in range(4)]
    pixels = {**BUSY, "type": "urn:minist:image-too-large", "title": "Image too large", "status": 422}
    server.replies = [large, Reply(body=[*answers[:1], pixels]), Reply(body=answers[1:2]), large]
    server.replies += [Reply(body=answers[2:3]), large]
    found = client.predict_batch([b"a", b"b", b"c", b"d"])
    assert [getattr(one, "label", None) for one in found] == ["0", "1", "2", None]
    assert isinstance(found[3], Problem)
    assert found[3].title == "Body too large"
    assert [asked.body.count(b'name="files"') for asked in server.asked] == [4, 2, 1, 2, 1, 1]


def test_retry_after_as_seconds_or_date() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    later = format_datetime(now.replace(second=30), usegmt=True)
    assert retry_after(later, now.timestamp()) == 30
    assert retry_after(later, now.timestamp() + 60) == 0
    assert retry_after(" 7 ") == 7
    assert [retry_after(text) for text in ("", "soon", "-1", "9" * 20)] == [None] * 4


def test_waits_grow_and_end() -> None:
    waits = [Retries(times=5).wait(number, 0, None) for number in range(1, 7)]
    assert waits[5] is None
    for number, wait in enumerate(waits[:5]):
        assert wait is not None
        assert 0.125 * 2**number <= wait <= 0.25 * 2**number
    assert Retries(seconds=10).wait(1, 9.99, None) is None


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_shows_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("TERM", "xterm")
    with display(True) as shown:
        shown.show(StatusEvent(1, "running"))
        shown.show(NoteEvent(2, "it mirrors [pictures]"))
        shown.show(StepEvent(3, epoch=1, epochs=2, step=1, steps=2, loss=0.5, accuracy=0.75, eta_seconds=61.2))
        shown.show(EpochEvent(4, epoch=1, epochs=2, loss=0.25, accuracy=0.9, split="test"))
        shown.show(JobEvent(5))
    text = terminal.getvalue()
    for part in ("it mirrors [pictures]", "epoch 1 of 2", "50%", "loss 0.2500 accuracy 0.9000"):
        assert part in text, part
