"""Metrics, request ids and the log."""

import asyncio
import io
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
import torch
from prometheus_client.parser import text_string_to_metric_families
from pydantic import ValidationError
from starlette.testclient import TestClient

from app.cpus import cpu_quota, memory, threads_per_worker, workers_for
from app.main import create_app
from app.settings import Settings
from app.telemetry.counters import Counters
from app.telemetry.log_writer import LogWriter
from app.telemetry.logs import RequestLog
from app.telemetry.metrics import Processes, exposition
from app.web.access_log import RequestObserver, RequestObserverMiddleware
from tests.conftest import ROOT
from tests.processes import service, wait_for, workers_of
from tests.samples import PNG


def samples(page: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }


def test_metrics_tell_of_requests_predictions_jobs_and_accuracy(
    client: TestClient, digits: dict[str, bytes]
) -> None:
    before = samples(client.get("/metrics").text)
    for _ in range(3):
        client.post("/predict", content=digits["7"], headers=PNG)
    client.post("/predict", content=b"junk", headers=PNG)
    client.get("/models/nope")
    response = client.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    after = samples(response.text)

    def grown(name: str, **labels: str) -> float:
        key = (name, tuple(sorted(labels.items())))
        return after[key] - before.get(key, 0)

    assert grown("minist_requests_total", route="/predict", status="200") == 3
    assert grown("minist_requests_total", route="/predict", status="422") == 1
    assert grown("minist_requests_total", route="/models/{name}", status="404") == 1
    assert grown("minist_predictions_total", model="digits", version="1", label="7") == 3
    assert grown("minist_seconds_count", stage="decode") == 3
    assert grown("minist_seconds_count", stage="queue") == 3
    assert grown("minist_seconds_sum", stage="forward") > 0
    assert grown("minist_batch_images_count") == 3
    assert after["minist_waiting_images", ()] == 0
    assert after["minist_jobs", (("status", "queued"),)] == 0
    assert after["minist_accuracy", (("model", "minist"), ("version", "1"))] > 0.98


def test_buckets_are_cumulative() -> None:
    counts = Counters()
    for value in (0.00005, 0.002, 0.002, 100.0):
        counts.seconds["queue"].observe(value)
    found = samples(exposition([counts.snapshot(0, 0)] * 2, {}, {}, [], 1).decode())
    bucket = {dict(key[1])["le"]: value for key, value in found.items() if dict(key[1]).get("stage") == "queue"
              and key[0] == "minist_seconds_bucket"}  # fmt: skip
    assert (bucket["0.0001"], bucket["0.0025"], bucket["10.0"], bucket["+Inf"]) == (2, 6, 6, 8)


def test_numbers_of_other_processes_are_added_and_outlive_them(tmp_path: Path) -> None:
    counts = Counters()
    counts.requests["/predict", 200] = 5
    ended = tmp_path / "ended.json"
    ended.write_text(json.dumps(counts.snapshot(7, 8)))
    os.utime(ended, (0, 0))  # it has not written for long
    processes = Processes(tmp_path, lambda: counts.snapshot(1, 2))
    processes.save()
    assert len(list(tmp_path.glob("*.json"))) == 2
    found = samples(exposition(processes.all(), {}, {}, [("digits", 3)], 1).decode())
    assert found["minist_requests_total", (("route", "/predict"), ("status", "200"))] == 10
    assert found["minist_waiting_images", ()] == 1


def test_a_counter_that_was_shown_never_falls(tmp_path: Path) -> None:
    """A process is killed right after it has shown its numbers, before its turn to save them."""
    counts = Counters()
    killed = Processes(tmp_path, lambda: counts.snapshot(0, 0))
    killed.save()
    counts.requests["/predict", 200] = 5
    key = ("minist_requests_total", (("route", "/predict"), ("status", "200")))
    shown = samples(exposition(killed.all(), {}, {}, [], 1).decode())[key]
    other = Processes(tmp_path, lambda: Counters().snapshot(0, 0))
    assert samples(exposition(other.all(), {}, {}, [], 1).decode())[key] == shown == 5


def test_counts_of_a_killed_worker_are_kept(tmp_path: Path, digits: dict[str, bytes]) -> None:
    key = ("minist_requests_total", (("route", "/predict"), ("status", "200")))
    fresh = {"connection": "close"}
    with service(tmp_path, "api", "--workers", "2") as (process, client):
        for _ in range(40):
            client.post("/predict", content=digits["7"], headers={**PNG, **fresh}).raise_for_status()
        time.sleep(2.5)  # each has written its numbers
        (victim, *_) = wait_for(lambda: found if len(found := workers_of(process)) == 2 else None)
        os.kill(victim, signal.SIGKILL)
        wait_for(lambda: len(found := workers_of(process)) == 2 and victim not in found)
        totals = {samples(client.get("/metrics", headers=fresh).text)[key] for _ in range(8)}
        process.terminate()
        assert process.wait(20) == 0
        assert totals == {40}


def test_probes_and_metrics_wait_for_no_writer(tmp_path: Path) -> None:
    """`/readyz` took 19 s while 45 writers waited for the database."""
    with service(tmp_path, "api") as (_, client), closing(sqlite3.connect(tmp_path / "minist.db")) as locker:
        locker.execute("BEGIN IMMEDIATE")
        with ThreadPoolExecutor(60) as senders:
            job = {"model": "minist", "recipe": "mlp"}
            writers = [senders.submit(client.post, "/train", json=job) for _ in range(60)]
            time.sleep(1)
            for path in ("/livez", "/readyz", "/metrics"):
                assert client.get(path).status_code == 200
            assert not any(writer.done() for writer in writers)
            locker.rollback()
            assert {writer.result().status_code for writer in writers} <= {202, 429, 503}


def test_metrics_of_two_workers_are_one(tmp_path: Path, digits: dict[str, bytes]) -> None:
    key = ("minist_requests_total", (("route", "/predict"), ("status", "200")))
    with service(tmp_path, "api", "--workers", "2") as (process, client):
        for _ in range(40):
            answer = client.post("/predict", content=digits["7"], headers={**PNG, "connection": "close"})
            assert answer.status_code == 200
        time.sleep(2.5)  # each writes its numbers once a second
        totals = {samples(client.get("/metrics", headers={"connection": "close"}).text)[key] for _ in range(8)}
        process.terminate()  # a killed parent would leave its workers behind
        assert process.wait(20) == 0
        assert totals == {40}


def lines_of(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_per_request() -> None:
    stream = io.StringIO()
    log = RequestLog(LogWriter(stream))
    observer = RequestObserver(Counters(), log)

    async def application(scope: object, receive: object, send: object) -> None:
        await send({"type": "http.response.start", "status": 204, "headers": []})  # type: ignore[operator]

    async def send(message: object) -> None:
        pass

    async def receive() -> dict[str, object]:
        return {}

    scope = {
        "type": "http",
        "method": "GET",
        "path": '/a"b\n',
        "client": ("10.0.0.1", 5),
        "headers": [
            (b"x-request-id", b"mine"),
            (b"traceparent", b'00-"'),
            (b"authorization", b"Bearer secret"),
        ],
    }
    asyncio.run(RequestObserverMiddleware(application, observer)(scope, receive, send))
    log.flush()
    assert log.writer.flush()
    (line,) = lines_of(stream)
    assert line["event"] == "request"
    assert (line["method"], line["path"], line["status"]) == ("GET", '/a"b\n', 204)
    assert (line["request_id"], line["client"], line["traceparent"]) == ("mine", "10.0.0.1", '00-"')
    assert float(str(line["ms"])) >= 0
    assert "secret" not in stream.getvalue()


def test_a_bare_terminal_gets_readable_lines() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stream = Terminal()
    log = RequestLog(LogWriter(stream))
    log.add({"method": "POST", "path": "/predict", "client": None}, 200, 0.001, "id", None)
    log.flush()
    assert log.writer.flush()
    assert "POST /predict" in stream.getvalue()
    with pytest.raises(json.JSONDecodeError):
        json.loads(stream.getvalue())


def test_the_service_logs_json_lines(tmp_path: Path, digits: dict[str, bytes]) -> None:
    """All lines but the greeting, with ids that the client saw; no key among them."""
    with service(tmp_path, "api", MINIST_LOG_REQUESTS="true") as (process, client):
        ids = {
            client.post("/predict", content=digits["7"], headers=PNG).headers["x-request-id"],
            client.get("/models").headers["x-request-id"],
        }
        process.terminate()
        assert process.wait(20) == 0
    output = (tmp_path / "service.log").read_text()
    lines = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    assert ids <= {line.get("request_id") for line in lines}
    assert all(line["level"] and line["event"] and line["timestamp"] for line in lines)
    assert next(line for line in output.splitlines() if not line.startswith("{")).startswith("minist is at")
    assert client.headers["authorization"].removeprefix("Bearer ") not in output


def test_structlog_writes_what_the_standard_library_logs() -> None:
    script = (
        "import logging, logging.config; from app.telemetry import logs;"
        "logging.config.dictConfig(logs.config('info'));"
        "logging.getLogger('minist').info('hello %s', 'you')\n"
        "try: 1 / 0\nexcept ZeroDivisionError: logging.getLogger('minist').exception('oh')"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    hello, oh = (json.loads(line) for line in done.stdout.splitlines())
    assert (hello["event"], hello["level"], hello["logger"]) == ("hello you", "info", "minist")
    assert "ZeroDivisionError" in oh["exception"]


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"cpu.max": "50000 100000"}, 0.5),
        ({"cpu.max": "max 100000"}, None),
        ({"cpu/cpu.cfs_quota_us": "75000", "cpu/cpu.cfs_period_us": "100000"}, 0.75),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
        ({"cpu,cpuacct/cpu.cfs_quota_us": "25000", "cpu,cpuacct/cpu.cfs_period_us": "100000"}, 0.25),
        ({"cpu.max": "100000000 100000"}, None),
        ({}, None),
    ],
)
def test_the_containers_quota_counts(files: dict[str, str], expected: float | None, tmp_path: Path) -> None:
    """None: whatever this process may run on."""
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text + "\n")
    assert cpu_quota(tmp_path) == (len(os.sched_getaffinity(0)) if expected is None else expected)


def test_threads_are_split_among_workers() -> None:
    assert [threads_per_worker(quota, 2) for quota in (0.5, 1, 2, 4, 5.5)] == [1, 1, 1, 2, 2]


@pytest.mark.parametrize(
    ("quota", "gibibytes", "workers"),
    [(0.5, 16, 1), (1.9, 16, 1), (2, 16, 2), (2, 1, 1), (2, 0.5, 1), (8, 2, 3), (200, 200, 64), (2, None, 1)],
)
def test_workers_are_as_many_as_cpus_and_memory_allow(
    quota: float, gibibytes: float | None, workers: int
) -> None:
    assert workers_for(quota, None if gibibytes is None else int(gibibytes * 1024**3)) == workers


def test_auto_is_a_number_of_workers() -> None:
    assert Settings.model_validate({"workers": "auto"}).workers == workers_for(cpu_quota(), memory())
    with pytest.raises(ValidationError, match="workers"):
        Settings.model_validate({"workers": "many"})


def test_more_threads_than_the_quota_are_not_started(settings: Settings) -> None:
    before = torch.get_num_threads()
    try:
        with TestClient(create_app(settings.model_copy(update={"threads": 256}))) as client:
            info = client.get("/info").json()
        assert info["cpu_quota"] == cpu_quota()
        assert info["threads"] == threads_per_worker(cpu_quota(), 1)
    finally:
        torch.set_num_threads(before)


def test_the_dashboard_asks_for_metrics_that_exist(client: TestClient) -> None:
    families = {family.name for family in text_string_to_metric_families(client.get("/metrics").text)}
    dashboard = json.loads((ROOT / "deploy" / "grafana.json").read_text())
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            for name in re.findall(r"minist_\w+", target["expr"]):
                assert re.sub("_(total|bucket|sum|count)$", "", name) in families, name
