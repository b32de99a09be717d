"""So many requests per key or address, and no more."""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import ValidationError
from starlette.testclient import TestClient

from app.main import create_app
from app.settings import Settings, rate_limits
from app.store.database import Database
from app.store.rates import SharedCounts
from app.telemetry.counters import Counters
from app.web.access_log import RequestObserver
from app.web.rate_limit import FREE, RateLimited, Rates, _network
from tests.conftest import ADMIN
from tests.postgres import Server
from tests.samples import PNG, is_problem


def limited(text: str) -> RateLimited:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError

    return RateLimited(application, text, RequestObserver(Counters(), None))


@dataclass
class Clock:
    """What `limits` takes for the time."""

    now: float

    def time(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock(1_000_000.0)
    for module in ("limits.storage.memory", "app.web.rate_limit"):
        monkeypatch.setattr(f"{module}.time", SimpleNamespace(time=found.time))
    return found


def refused_for(rates: RateLimited, caller: str) -> int | None:
    """The seconds of Retry-After; None where the request is let through."""
    refusal = rates.rates.refusal(caller)
    return None if refusal is None else refusal.retry_after


def test_a_caller_waits_for_the_end_of_the_window_and_others_do_not(clock: Clock) -> None:
    rates = limited("3/minute")
    assert [refused_for(rates, "a") for _ in range(5)] == [None, None, None, 60, 60]
    assert refused_for(rates, "b") is None
    clock.now += 45
    assert refused_for(rates, "a") == 15
    clock.now += 15
    assert [refused_for(rates, "a") for _ in range(4)] == [None, None, None, 60]


def test_every_limit_holds_and_what_is_refused_is_not_counted(clock: Clock) -> None:
    rates = limited("2/second;5/hour")
    answered = 0
    for _ in range(10):
        answered += [refused_for(rates, "a") for _ in range(4)].count(None)
        clock.now += 1
    assert answered == 5
    assert refused_for(rates, "a") == 3600 - 10


def test_callers_are_forgotten(clock: Clock) -> None:
    """However many addresses come, those of an ended window take no memory."""
    rates = limited("2/second")
    storage: Any = rates.rates.windows.storage
    for second in range(5):
        for caller in range(100):
            rates.rates.refusal(f"{second}/{caller}")
        clock.now += 2
        time.sleep(0.05)  # `limits` tidies up in a thread of its own, 10 ms after a request
    rates.rates.refusal("last")
    time.sleep(0.1)
    assert len(storage.storage) == len(storage.expirations) == 1
    assert not storage.events


@pytest.mark.parametrize("text", ["x", "5", "0/second", "1/second,,2/hour", "5/second nonsense"])
def test_what_is_no_limit_is_told_at_the_start(text: str) -> None:
    with pytest.raises(ValidationError, match="is not a rate limit; write one like 100/second"):
        Settings(rate_limit=text)


def test_limits_can_be_written_in_words() -> None:
    assert list(map(str, rate_limits("10 per 5 minutes, 100/day"))) == ["10 per 5 minute", "100 per 1 day"]


@pytest.mark.parametrize(
    ("address", "counted"),
    [("10.0.0.1", "10.0.0.1"), ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"), ("testclient", "testclient")],
)
def test_an_ipv6_network_counts_as_one(address: str, counted: str) -> None:
    assert _network(address) == counted


def ask_by(client: TestClient, digits: dict[str, bytes]) -> Callable[..., Any]:
    def ask(path: str = "/predict", **headers: str) -> Any:
        if path.startswith("/predict"):
            return client.post(path, content=digits["7"], headers={**PNG, **headers})
        return client.get(path, headers=headers)

    return ask


def test_who_asks_too_often_is_told_so_on_either_way(settings: Settings, digits: dict[str, bytes]) -> None:
    """The fast path and FastAPI's routes share the limit; probes, metrics and the page's files have none."""
    with TestClient(create_app(settings.model_copy(update={"rate_limit": "4/hour"}))) as client:
        ask = ask_by(client, digits)
        assert [ask(path).status_code for path in ("/predict", "/predict?model=cnn", "/models", "/nope")] == [
            200, 200, 200, 404,
        ]  # fmt: skip
        for path in ("/predict", "/models", "/nope"):
            response = ask(path)
            body = is_problem(response, 429, "Too many requests")
            assert body["detail"] == "no more than 4 per 1 hour are answered"
            assert 3590 <= int(response.headers["retry-after"]) <= 3600
            assert response.headers["x-request-id"]
        assert {ask(path).status_code for path in FREE} == {200}
        for path in ("/", "/docs", "/static/page/main.js"):
            assert {ask(path).status_code for _ in range(6)} == {200}, path
        assert 'minist_refused_total{reason="rate"} 3.0' in ask("/metrics").text


def test_a_good_key_has_a_limit_of_its_own_and_a_bad_one_none(
    settings: Settings, digits: dict[str, bytes]
) -> None:
    with TestClient(create_app(settings.model_copy(update={"rate_limit": "2/hour"}))) as client:
        ask = ask_by(client, digits)
        assert [ask(**{"x-api-key": f"invented{i}.secret"}).status_code for i in range(4)] == [
            200,
            200,
            429,
            429,
        ]
        assert [ask(**ADMIN).status_code for _ in range(3)] == [200, 200, 429]
        assert ask().status_code == 429


def test_without_a_limit_nothing_stands_in_front(settings: Settings) -> None:
    assert settings.rate_limit is None
    installed: list[Any] = [middleware.cls for middleware in create_app(settings).user_middleware]
    assert RateLimited not in installed


def test_every_limited_operation_says_so(client: TestClient) -> None:
    for path, operations in client.get("/openapi.json").json()["paths"].items():
        for operation in operations.values():
            assert ("429" in operation["responses"]) == (path not in FREE), path


# -- of several processes ------------------------------------------------------------------------------


@pytest.fixture
def processes(postgres: Server, template: str, tmp_path: Path) -> Iterator[list[Rates]]:
    """The limits of three processes on one Postgres."""
    url, found = postgres.database(template), []
    with ExitStack() as closed:
        for number in range(3):
            database = Database(tmp_path / str(number), url=url)
            closed.callback(database.close)
            found.append(Rates("100/minute"))
            found[-1].share(database)
        yield found


async def admitted(rates: Rates, requests: int) -> int:
    return [await rates.admit("somebody") for _ in range(requests)].count(None)


@pytest.mark.postgres
def test_processes_on_one_postgres_share_a_limit(processes: list[Rates]) -> None:
    """Together never more, whoever is asked; at most what idle ones hold is not used."""

    async def ask_all() -> list[int]:
        return await asyncio.gather(*(admitted(rates, 200) for rates in processes for _ in range(4)))

    wait_for_the_next_minute()
    assert sum(asyncio.run(ask_all())) == 100


@pytest.mark.postgres
def test_a_caller_of_one_process_has_most_of_the_limit(processes: list[Rates]) -> None:
    async def ask() -> tuple[int, int, int | None]:
        others = [await rates.admit("somebody") for rates in processes[1:]]
        mine = await admitted(processes[0], 200)
        refused = await processes[0].admit("somebody")
        assert refused is not None
        assert await processes[0].admit("another") is None
        return others.count(None), mine, refused.retry_after

    wait_for_the_next_minute()
    others, mine, retry_after = asyncio.run(ask())
    assert others == 2
    assert 80 <= mine <= 98
    assert retry_after is not None
    assert 1 <= retry_after <= 60


@pytest.mark.postgres
def test_most_requests_ask_nobody(processes: list[Rates], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    take = SharedCounts.take

    def counted(self: SharedCounts, wishes: Any) -> Any:
        asked.append(len(wishes))
        return take(self, wishes)

    monkeypatch.setattr(SharedCounts, "take", counted)
    wait_for_the_next_minute()
    assert asyncio.run(admitted(processes[0], 60)) == 60
    assert len(asked) < 12


@pytest.mark.postgres
def test_without_the_database_each_process_counts_alone(processes: list[Rates], postgres: Server) -> None:
    async def ask() -> int:
        await processes[0].admit("somebody")
        postgres.kill()
        return await admitted(processes[0], 200)

    try:
        assert 100 <= asyncio.run(ask()) <= 110
    finally:
        postgres.start()


def wait_for_the_next_minute() -> None:
    """Unless this one has some seconds left."""
    while time.time() % 60 > 50:
        time.sleep(0.5)
