"""Clients that people have: Node's fetch, Java's HttpClient, curl, a page of another origin."""

import json
import shutil
import subprocess
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2
import pytest
from playwright.sync_api import Browser

from tests.browser import address, chromium, run_to_its_end  # noqa: F401 (a fixture)
from tests.conftest import ADMIN_KEY, ROOT
from tests.processes import service

ONE = ROOT / "examples" / "1.png"
LIMIT = 1_000_000  # bytes of a body

NODE = """
const { readFileSync } = require("node:fs");
const [url, file] = process.argv.slice(1);
const ask = async (path, options) => {
  const answer = await fetch(url + path, { method: "POST", ...options });
  console.log(JSON.stringify([answer.status, await answer.json()]));
};
(async () => {
  const image = readFileSync(file);
  const form = new FormData();
  form.append("file", new Blob([image], { type: "image/png" }), "1.png");
  await ask("/predict", { body: form });
  await ask("/predict/", { body: image, headers: { "content-type": "image/png" } });
  await ask("/predict", { body: image });
  const large = new FormData();
  large.append("file", new Blob([new Uint8Array(20_000_000)]), "large.png");
  await ask("/predict", { body: large });
  await ask("/predict", { body: new Uint8Array(20_000_000), headers: { "content-type": "image/png" } });
  const [stream, duplex] = [new Blob([new Uint8Array(20_000_000)]).stream(), "half"];
  await ask("/predict", { body: stream, duplex, headers: { "content-type": "image/png" } });
})();
"""

JAVA = """
import java.net.URI;
import java.net.http.*;
import java.nio.file.*;

public class Ask {
    public static void main(String[] words) throws Exception {
        var client = HttpClient.newHttpClient(); // wishes for HTTP/2 with every request
        for (var file : new String[] {words[1], words[2], words[1]}) {
            var request = HttpRequest.newBuilder(URI.create(words[0] + "/predict"))
                .header("Content-Type", "image/png")
                .POST(HttpRequest.BodyPublishers.ofFile(Path.of(file)))
                .build();
            var answer = client.send(request, HttpResponse.BodyHandlers.ofString());
            System.out.println("[" + answer.statusCode() + ", " + answer.body() + "]");
        }
    }
}
"""

PAGE = """<!doctype html><meta charset="utf-8"><script>
async function ask(path, options = {}) {
  const answer = await fetch(API + path, { method: "POST", ...options });
  const body = await answer.json();
  return [answer.status, body.label ?? body.title, answer.headers.get("x-request-id") !== null];
}
async function all(API_, bytes, key, job) {
  globalThis.API = API_;
  const image = new Blob([new Uint8Array(bytes)], { type: "image/png" });
  const form = new FormData();
  form.append("file", image, "1.png");
  const headers = { "authorization": `Bearer ${key}`, "content-type": "application/json" };
  const events = await new Promise((done) => {
    const [source, seen] = [new EventSource(`${API}/train/${job}/events`), []];
    source.addEventListener("epoch", () => seen.push("epoch"));
    source.onerror = () => { source.close(); done(seen); };
  });
  return {
    form: await ask("/predict", { body: form }),
    raw: await ask("/predict", { body: image }),
    none: await ask("/predict?model=nobody", { body: image }),
    broken: await ask("/predict", { body: new Blob(["no image"], { type: "image/png" }) }),
    large: await ask("/predict", { body: new Uint8Array(3_000_000), headers: { "content-type": "image/png" } }),
    refused: await ask("/train", { body: "{}", headers: { ...headers, authorization: "Bearer another" } }),
    invalid: await ask("/train", { body: '{"recipe": "no"}', headers }),
    events,
  };
}
</script>"""


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx2.Client]:
    home = tmp_path_factory.mktemp("clients")
    with service(home, MINIST_MAX_UPLOAD_BYTES=str(LIMIT), MINIST_CORS_ORIGINS="*") as (_, client):
        yield client


def output(*command: str, **options: Any) -> list[Any]:
    """Status and body of each answer."""
    found = subprocess.run(command, capture_output=True, text=True, timeout=120, **options)
    assert found.returncode == 0, found.stderr
    return [json.loads(line) for line in found.stdout.splitlines()]


def test_nodes_fetch(api: httpx2.Client) -> None:
    """It sends a whole body before it reads: the 413 must be there when it has."""
    if shutil.which("node") is None:
        pytest.skip("there is no node")
    answers = output("node", "-e", NODE, address(api), str(ONE))
    assert [body["label"] for _, body in answers[:3]] == ["1"] * 3
    assert [(status, body["title"]) for status, body in answers[3:]] == [(413, "Body too large")] * 3


def test_javas_http_client(api: httpx2.Client, tmp_path: Path) -> None:
    """It asks for h2c with each request, and the body comes in a segment of its own."""
    if shutil.which("javac") is None:
        pytest.skip("there is no JDK")
    (tmp_path / "Ask.java").write_text(JAVA)
    (tmp_path / "large").write_bytes(bytes(3_000_000))
    answers = output("java", "Ask.java", address(api), str(ONE), str(tmp_path / "large"), cwd=tmp_path)
    assert [answers[0][1]["label"], answers[2][1]["label"]] == ["1", "1"]
    assert (answers[1][0], answers[1][1]["title"]) == (413, "Body too large")


def test_curl_that_wishes_for_http_2(api: httpx2.Client) -> None:
    if shutil.which("curl") is None:
        pytest.skip("there is no curl")
    (answer,) = output("curl", "-sS", "--http2", "-F", f"file=@{ONE}", f"{address(api)}/predict/")
    assert answer["label"] == "1"


@pytest.fixture
def other_origin(tmp_path: Path) -> Iterator[str]:
    """The page, from another port."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    (tmp_path / "index.html").write_text(PAGE)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/"
    server.shutdown()
    server.server_close()


def test_a_page_of_another_origin(chromium: Browser, api: httpx2.Client, other_origin: str) -> None:  # noqa: F811
    """Forms, raw bodies, events, and errors of every kind can be read there."""
    job = run_to_its_end(api, "elsewhere")["id"]
    page = chromium.new_page()
    page.goto(other_origin)
    arguments = [address(api), list(ONE.read_bytes()), ADMIN_KEY, job]
    found = page.evaluate("(given) => all(...given)", arguments)
    page.close()
    assert found["form"] == found["raw"] == [200, "1", True]
    assert found["none"] == [404, "Unknown model", True]
    assert found["broken"] == [422, "Not an image", True]
    assert found["large"] == [413, "Body too large", True]
    assert found["refused"] == [401, "Unauthorized", True]
    assert found["invalid"] == [422, "Invalid request", True]
    assert found["events"].count("epoch") == 3
