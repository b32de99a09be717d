"""Clients that people have, as they are: Triton's (HTTP, asyncio, gRPC) and KServe's.

They need other versions of packages than the service, so each runs in an environment of its own.
"""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from benchmarks.peers.environments import WANTED, Unavailable
from tests.browser import address
from tests.client_environments import FOLDER, python_of
from tests.conftest import ADMIN_KEY, ROOT
from tests.processes import free_port, service

pytestmark = [pytest.mark.clients, pytest.mark.timeout(600)]

GRPC_PORT = free_port()
START = """
import json, sys
from pathlib import Path
import numpy as np
from PIL import Image
url, key, examples = sys.argv[1:4]
files = [(Path(examples) / f"{label}.png").read_bytes() for label in range(10)]
pixels = np.stack([np.asarray(Image.open(Path(examples) / f"{label}.png").convert("L")) for label in range(10)])
pixels = pixels[:, None]
headers = {"Authorization": "Bearer " + key}
def say(**found):
    print("FOUND " + json.dumps(found))
"""

TRITON = """
import asyncio
import tritonclient.http as http
import tritonclient.http.aio as aio
from tritonclient.utils import InferenceServerException

def inputs(module, binary):
    floats = module.InferInput("input", [10, 1, 28, 28], "FP32")
    floats.set_data_from_numpy((pixels / 255).astype(np.float32), binary_data=binary)
    whole = module.InferInput("input", [10, 1, 28, 28], "UINT8")
    whole.set_data_from_numpy(pixels, binary_data=binary)
    return floats, whole

client = http.InferenceServerClient(url, concurrency=5)
say(live=client.is_server_live(), ready=client.is_server_ready(), model=client.is_model_ready("minist", "1"),
    none=client.is_model_ready("none"), server=client.get_server_metadata()["name"],
    metadata=client.get_model_metadata("minist"))
labels = []
for binary in (False, True):
    for given in inputs(http, binary):
        for packed in (None, "gzip", "deflate"):
            found = client.infer("minist", [given], request_id="7", request_compression_algorithm=packed,
                                 response_compression_algorithm=packed)
            assert found.get_response()["id"] == "7"
            assert np.allclose(found.as_numpy("probabilities").sum(1), 1, atol=1e-5)
            labels.append([one.decode() if isinstance(one, bytes) else one for one in found.as_numpy("label")])
image = http.InferInput("image", [10], "BYTES")
image.set_data_from_numpy(np.array(files, dtype=object))
wanted = [http.InferRequestedOutput("label", binary_data=False),
          http.InferRequestedOutput("probabilities", binary_data=True, class_count=2)]
found = client.infer("minist", [image], outputs=wanted, model_version="1")
labels.append(list(found.as_numpy("label")))
say(labels=labels, classes=[[one.decode() for one in row] for row in found.as_numpy("probabilities")])

pending = [client.async_infer("minist", [inputs(http, True)[0]]) for _ in range(5)]
say(greenlets=[len(one.get_result().as_numpy("label")) for one in pending])

async def asynchronous():
    async with aio.InferenceServerClient(url) as client:
        given = inputs(aio, True)[1]
        answers = await asyncio.gather(*(client.infer("minist", [given]) for _ in range(20)))
        return [[one.decode() for one in found.as_numpy("label")] for found in answers]
say(asynchronous=asyncio.run(asynchronous()))

errors = []
wrong = http.InferInput("input", [1, 5], "FP32")
wrong.set_data_from_numpy(np.zeros((1, 5), np.float32))
for ask in (lambda: client.infer("none", [wrong]), lambda: client.infer("minist", [wrong]),
            lambda: client.unload_model("cnn")):
    try:
        ask()
    except InferenceServerException as error:
        errors.append([error.status(), error.message()])
say(errors=errors)

client.unload_model("cnn", headers=headers)
states = [client.is_model_ready("cnn")]
say(index=client.get_model_repository_index())
client.load_model("cnn", headers=headers)
say(states=[*states, client.is_model_ready("cnn")], stats=client.get_inference_statistics("minist"),
    all=len(client.get_inference_statistics()["model_stats"]))
"""

TRITON_GRPC = """
import queue
import tritonclient.grpc as grpc
from tritonclient.utils import InferenceServerException

client = grpc.InferenceServerClient(url)
say(live=client.is_server_live(), ready=client.is_server_ready(), model=client.is_model_ready("minist"),
    none=client.is_model_ready("none"), metadata=client.get_model_metadata("minist", as_json=True))
def given(datatype):
    found = grpc.InferInput("input", [10, 1, 28, 28], datatype)
    found.set_data_from_numpy(pixels if datatype == "UINT8" else (pixels / 255).astype(np.float32))
    return found
image = grpc.InferInput("image", [10], "BYTES")
image.set_data_from_numpy(np.array(files, dtype=object))
answers = [client.infer("minist", [one], request_id="7", headers={"authorization": headers["Authorization"]})
           for one in (given("UINT8"), given("FP32"), image)]
assert all(np.allclose(one.as_numpy("probabilities").sum(1), 1, atol=1e-5) for one in answers)
say(labels=[[label.decode() for label in one.as_numpy("label")] for one in answers],
    classes=client.infer("minist", [image], outputs=[grpc.InferRequestedOutput("probabilities", class_count=2)])
        .as_numpy("probabilities")[7][0].decode())
try:
    client.infer("none", [image])
except InferenceServerException as error:
    say(error=[error.status(), error.message()])
found = queue.Queue()
client.start_stream(lambda result, error: found.put((result, error)))
for _ in range(5):
    client.async_stream_infer("minist", [given("UINT8")])
streamed = [found.get(timeout=30) for _ in range(5)]
client.stop_stream()
say(streamed=[[label.decode() for label in result.as_numpy("label")] for result, error in streamed],
    stats=client.get_inference_statistics("minist", as_json=True))
"""

KSERVE = """
import asyncio
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig

async def ask():
    client = InferenceRESTClient(RESTConfig(protocol="v2", timeout=60))
    base = "http://" + url
    say(live=await client.is_server_live(base), ready=await client.is_server_ready(base),
        model=await client.is_model_ready(base, "minist"))
    labels = []
    for datatype, values in (("FP32", (pixels / 255).astype(np.float32)), ("UINT8", pixels)):
        for binary in (False, True):
            given = InferInput("input", list(values.shape), datatype)
            given.set_data_from_numpy(values, binary_data=binary)
            request = InferRequest(model_name="minist", infer_inputs=[given], request_id="a")
            if binary:
                request.parameters = {"binary_data_output": True}
            answer = await client.infer(base, request, model_name="minist")
            assert answer.id == "a", answer.id
            (label,) = [one for one in answer.outputs if one.name == "label"]
            labels.append([str(one) for one in label.as_numpy()])
    say(labels=labels)
    v1 = InferenceRESTClient(RESTConfig(protocol="v1"))
    answer = await v1.infer(base, {"instances": pixels.tolist()}, model_name="minist")
    say(predictions=[int(np.argmax(one)) for one in answer["predictions"]])
    say(v1=await v1.is_model_ready(base, "minist"))

asyncio.run(ask())
"""


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx2.Client]:
    home = tmp_path_factory.mktemp("clients")
    with service(home, "api", MINIST_GRPC_PORT=str(GRPC_PORT)) as (_, client):
        yield client


def run(python: Path, script: str, url: str) -> dict[str, Any]:
    """What a script says."""
    words = [str(python), "-c", START + script, url, ADMIN_KEY, str(ROOT / "examples")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = {}
    for line in done.stdout.splitlines():
        if line.startswith("FOUND "):
            found |= json.loads(line.removeprefix("FOUND "))
    return found


@pytest.fixture(scope="module")
def triton() -> Path:
    try:
        return python_of("tritonclient")
    except Unavailable as error:
        pytest.skip(f"tritonclient cannot be installed: {error}")


LABELS = [str(label) for label in range(10)]


def test_tritonclient_over_http(api: httpx2.Client, triton: Path) -> None:
    """JSON and binary, packed, by asyncio and greenlets; errors, repository, statistics."""
    found = run(triton, TRITON, address(api).removeprefix("http://"))
    assert (found["live"], found["ready"], found["model"], found["none"]) == (True, True, True, False)
    assert found["server"] == "minist"
    assert found["metadata"]["inputs"][0]["shape"] == [-1, 1, 28, 28]
    assert found["labels"] == [LABELS] * 13
    assert [row[0].split(":")[1:] for row in found["classes"]] == [[label, label] for label in LABELS]
    assert found["asynchronous"] == [LABELS] * 20
    assert found["greenlets"] == [10] * 5
    (none, wrong, closed) = found["errors"]
    assert none[0] == "404"
    assert "no model 'none'" in none[1]
    assert "takes [N, 1, 28, 28]" in wrong[1]
    assert closed[0] == "401"
    states = {one["name"]: one["state"] for one in found["index"]}
    assert (states["cnn"], states["minist"]) == ("UNAVAILABLE", "READY")
    assert found["states"] == [False, True]
    (stats,) = found["stats"]["model_stats"]
    times = stats["inference_stats"]
    assert times["success"]["count"] >= 38
    for part in ("queue", "compute_input", "compute_infer", "compute_output"):
        assert times[part]["count"] == times["success"]["count"]
        assert 0 < times[part]["ns"] < times["success"]["ns"]


def test_tritonclient_over_grpc(api: httpx2.Client, triton: Path) -> None:
    """Raw tensors, files, classification, errors, a stream."""
    found = run(triton, TRITON_GRPC, f"127.0.0.1:{GRPC_PORT}")
    assert (found["live"], found["ready"], found["model"], found["none"]) == (True, True, True, False)
    assert [one["name"] for one in found["metadata"]["inputs"]] == ["input", "image"]
    assert found["labels"] == [LABELS] * 3
    assert found["classes"].endswith(":7:7")
    assert found["error"][0] == "StatusCode.NOT_FOUND"
    assert found["streamed"] == [LABELS] * 5
    times = found["stats"]["model_stats"][0]["inference_stats"]
    assert int(times["queue"]["count"]) == int(times["compute_infer"]["count"]) >= 9
    assert 0 < int(times["queue"]["ns"]) < int(times["success"]["ns"])


def test_kserves_client(api: httpx2.Client) -> None:
    """InferenceRESTClient, both protocols."""
    if not (FOLDER / "kserve" / WANTED).is_file():
        pytest.skip("kserve is not installed (450 MB): python -m tests.client_environments")
    found = run(python_of("kserve"), KSERVE, address(api).removeprefix("http://"))
    assert (found["live"], found["ready"], found["model"]) == (True, True, True)
    assert found["labels"] == [LABELS] * 4
    assert found["v1"] is True
    assert found["predictions"] == list(range(10))
