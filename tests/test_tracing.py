"""OpenTelemetry, where it is asked for; nothing of it where it is not."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from starlette.testclient import TestClient

from app.main import create_app
from app.settings import Settings
from tests.conftest import ROOT
from tests.processes import service
from tests.samples import PNG

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}


def served(exporter: InMemorySpanExporter) -> list[ReadableSpan]:
    """The spans of requests, without those of what happens inside of them."""
    return [span for span in exporter.get_finished_spans() if span.kind.name == "SERVER"]


def test_a_prediction_is_a_span_of_the_callers_trace(settings: Settings, digits: dict[str, bytes]) -> None:
    """What would be answered by the fast path, too; and the answer is the same."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with TestClient(create_app(settings)) as plain, TestClient(create_app(settings, provider)) as traced:
        answers = [
            client.post("/predict", content=digits["7"], headers={**PNG, **PARENT})
            for client in (traced, plain)
        ]
        assert answers[0].content == answers[1].content
        assert traced.post("/predict", content=b"junk", headers=PNG).status_code == 422
        traced.get("/models/minist")
    spans = served(exporter)
    assert [span.name for span in spans] == ["POST /predict", "POST /predict", "GET /models/{name}"]
    told = [dict(span.attributes or {}) for span in spans]
    assert [each["http.response.status_code"] for each in told] == [200, 422, 200]
    assert f"{spans[0].context.trace_id:032x}" == TRACE


def test_no_span_holds_an_image_or_a_key(settings: Settings, digits: dict[str, bytes]) -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with TestClient(create_app(settings, provider)) as client:
        client.post("/predict", content=digits["7"], headers={**PNG, "x-api-key": "a-secret"})
    text = "".join(span.to_json() for span in exporter.get_finished_spans())
    assert "/predict" in text
    assert "a-secret" not in text
    assert "IHDR" not in text


def test_without_tracing_there_is_no_hook(settings: Settings) -> None:
    assert not create_app(settings)._native_telemetry.enabled()


def test_the_fast_path_makes_the_span_that_the_documented_route_makes(
    settings: Settings, digits: dict[str, bytes]
) -> None:
    """Only the query, which keeps a request from the fast path, may differ."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with TestClient(create_app(settings, provider)) as client:
        for query in ("", "?preprocess=auto"):
            assert client.post(f"/predict{query}", content=digits["7"], headers=PNG).status_code == 200
    fast, documented = served(exporter)
    assert fast.name == documented.name == "POST /predict"
    attributes = [dict(span.attributes or {}) for span in (fast, documented)]
    assert attributes[1].pop("url.query") == "preprocess=auto"
    assert attributes[0] == attributes[1]


@pytest.fixture
def collector() -> Iterator[tuple[str, list[tuple[str, bytes]]]]:
    """An address that takes what OpenTelemetry exports, and what came: path and body."""
    came: list[tuple[str, bytes]] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            came.append((self.path, self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Collector)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", came
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_service_sends_its_spans(
    collector: tuple[str, list[tuple[str, bytes]]], tmp_path: Path, digits: dict[str, bytes]
) -> None:
    address, came = collector
    with service(tmp_path, "api", MINIST_TRACING="true", OTEL_EXPORTER_OTLP_ENDPOINT=address) as (
        process,
        client,
    ):
        assert client.post("/predict", content=digits["7"], headers=PNG).json()["label"] == "7"
        process.terminate()  # what has not been sent is sent at the end
        assert process.wait(30) == 0
    assert {path for path, _ in came} == {"/v1/traces"}
    body = b"".join(body for _, body in came)
    assert b"POST /predict" in body
    assert b"minist" in body


def test_tracing_to_nowhere_is_told_at_the_start(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "app"],
        cwd=ROOT,
        env={"PATH": "", "MINIST_HOME": str(tmp_path), "MINIST_TRACING": "true"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: MINIST_TRACING: set OTEL_EXPORTER_OTLP_ENDPOINT")
