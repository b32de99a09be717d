"""The Open Inference Protocol over gRPC: keys, limits, errors and hostile messages, asked with grpc alone.

Triton's own client is in tests.test_v2_clients.
"""

import base64
import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from app.cli import serve
from app.main import create_app
from app.settings import Settings
from app.web.v2.grpc_requests import MAX_CONTENTS
from app.web.v2.messages import SERVICE, messages
from tests.conftest import ADMIN, ADMIN_KEY
from tests.people import ROW, serve_tables
from tests.processes import free_port
from tests.samples import PNG

Ask = Callable[..., Any]
KEY = (("authorization", f"Bearer {ADMIN_KEY}"),)


def asking(port: int) -> Ask:
    """`ask(method, message, metadata)`: the answer; raises RpcError."""
    channel = grpc.insecure_channel(f"127.0.0.1:{port}", [("grpc.max_receive_message_length", -1)])

    def ask(name: str, message: Any, metadata: Any = None) -> Any:
        method = channel.unary_unary(
            f"/{SERVICE}/{name}",
            lambda sent: sent if isinstance(sent, bytes) else sent.SerializeToString(),
            messages()[f"{name}Response"].FromString,
        )
        return method(message, timeout=30, metadata=metadata)

    return ask


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[TestClient, Ask]]:
    port = free_port()
    settings = serve_tables(tmp_path_factory.mktemp("grpc"), grpc_port=port, max_upload_bytes=1_000_000)
    with TestClient(create_app(settings)) as client:
        client.app_state["services"].registry.refresh()
        yield client, asking(port)


def pixels(label: int) -> np.ndarray:
    path = Path(__file__).parent.parent / "examples" / f"{label}.png"
    return np.asarray(Image.open(path).convert("L"))


def request(model: str = "minist", /, **inputs: tuple[str, list[int], bytes]) -> Any:
    """A ModelInferRequest with raw tensors."""
    tensor = messages()["InferInputTensor"]
    return messages()["ModelInferRequest"](
        model_name=model,
        inputs=[tensor(name=name, datatype=kind, shape=shape) for name, (kind, shape, _) in inputs.items()],
        raw_input_contents=[raw for *_, raw in inputs.values()],
    )


def refused(code: grpc.StatusCode, words: str, ask: Callable[[], Any]) -> None:
    with pytest.raises(grpc.RpcError) as found:
        ask()
    assert found.value.code() == code, found.value
    assert words in found.value.details()


def test_it_is_off_unless_a_port_is_set(settings: Settings) -> None:
    assert Settings().grpc_port is None
    assert settings.grpc_port is None


def test_the_server_and_its_models(asked: tuple[TestClient, Ask]) -> None:
    client, ask = asked
    kinds = messages()
    assert ask("ServerLive", kinds["ServerLiveRequest"]()).live
    assert ask("ServerReady", kinds["ServerReadyRequest"]()).ready
    assert ask("ServerMetadata", kinds["ServerMetadataRequest"]()).name == "minist"
    assert ask("ModelReady", kinds["ModelReadyRequest"](name="minist", version="1")).ready
    assert not ask("ModelReady", kinds["ModelReadyRequest"](name="none")).ready
    found = ask("ModelMetadata", kinds["ModelMetadataRequest"](name="people"))
    said = client.get("/v2/models/people").json()
    assert [(one.name, one.datatype, list(one.shape)) for one in found.inputs] == [
        (one["name"], one["datatype"], one["shape"]) for one in said["inputs"]
    ]
    assert (list(found.versions), found.platform) == (said["versions"], said["platform"])


def test_answers_are_those_of_predict(asked: tuple[TestClient, Ask], digits: dict[str, bytes]) -> None:
    client, ask = asked
    expected = client.post("/predict?model=minist", content=digits["3"], headers=PNG).json()
    image = pixels(3)
    floats = (image / 255).astype("<f4")
    contents = request(input=("UINT8", [1, 784], b""))
    del contents.raw_input_contents[:]
    contents.inputs[0].contents.uint_contents.extend(image.ravel().tolist())
    file = digits["3"]
    for sent in (
        request(input=("UINT8", [1, 1, 28, 28], image.tobytes())),
        request(input=("FP32", [1, 28, 28], floats.tobytes())),
        request(image=("BYTES", [1], len(file).to_bytes(4, "little") + file)),
        contents,
    ):
        sent.id = "7"
        found = ask("ModelInfer", sent)
        assert (found.model_name, found.model_version, found.id) == ("minist", "1", "7")
        assert [one.name for one in found.outputs] == ["probabilities", "label"]
        probabilities = np.frombuffer(found.raw_output_contents[0], "<f4")
        np.testing.assert_allclose(probabilities, list(expected["probabilities"].values()), atol=2e-6)
        assert found.raw_output_contents[1] == b"\1\0\0\0003"


def test_rows_and_classification(asked: tuple[TestClient, Ask]) -> None:
    client, ask = asked
    expected = client.post("/predict?model=people", json=ROW).json()
    days = (np.datetime64("1999-12-31") - np.datetime64("1970-01-01")).astype(int)
    row = np.array([[39, 72.5, 1, 0, days]] * 300, "<f4")
    sent = request("people", features=("FP32", [300, 5], row.tobytes()))
    output = sent.outputs.add(name="probabilities")
    output.parameters.add(key="classification").value.int64_param = 1
    (found,) = ask("ModelInfer", sent).raw_output_contents
    assert found.count(f":{expected['index']}:{expected['label']}".encode()) == 300


def test_what_is_wrong_is_said(asked: tuple[TestClient, Ask]) -> None:
    _, ask = asked
    good = ("UINT8", [1, 1, 28, 28], pixels(1).tobytes())
    invalid = grpc.StatusCode.INVALID_ARGUMENT
    refused(
        grpc.StatusCode.NOT_FOUND, "no model 'none'", lambda: ask("ModelInfer", request("none", input=good))
    )
    refused(invalid, "no ModelInferRequest", lambda: ask("ModelInfer", b"\xff\xff\xff"))
    refused(invalid, "no inputs", lambda: ask("ModelInfer", request()))
    for name, (kind, shape, raw), words in (
        ("input", ("UINT8", [1, 1, 28, 28], b"x"), "has 1 bytes"),
        ("input", ("UINT8", [-1, 784], b"x"), "above 0"),
        ("input", ("UINT8", [2**40] * 8, b"x"), "above 0"),
        ("input", ("UINT8", [1] * 50, b"x"), "list of 1 to 8"),
        ("input", ("FP8", [1], b"x"), "no datatype"),
        ("image", ("BYTES", [1], b"\xff\xff\xff\xff"), "behind its length"),
        ("other", good, "send one"),
    ):
        wrong = request("minist", **{name: (kind, shape, raw)})
        refused(invalid, words, partial(ask, "ModelInfer", wrong))
    surplus = request(input=good)
    surplus.raw_input_contents.append(b"x")
    refused(invalid, "raw_input_contents for 1", lambda: ask("ModelInfer", surplus))
    many = request(input=("BOOL", [1, 1], b""))
    del many.raw_input_contents[:]
    many.inputs[0].contents.bool_contents.extend([True] * (MAX_CONTENTS + 1))
    refused(invalid, "send raw_input_contents", lambda: ask("ModelInfer", many))
    large = request(input=("UINT8", [1, 2_000_000], bytes(2_000_000)))
    refused(grpc.StatusCode.RESOURCE_EXHAUSTED, "larger than max", lambda: ask("ModelInfer", large))


def test_unloaded_models_keys_rates_metrics(settings: Settings, tmp_path: Path) -> None:
    port = free_port()
    closed = settings.model_copy(
        update={"grpc_port": port, "open_predict": False, "rate_limit": "12/minute", "home": tmp_path}
    )
    with TestClient(create_app(closed)) as client:
        ask = asking(port)
        sent = request(input=("UINT8", [1, 784], pixels(1).tobytes()))
        refused(grpc.StatusCode.UNAUTHENTICATED, "needs an API key", lambda: ask("ModelInfer", sent))
        for key in (KEY, (("x-api-key", ADMIN_KEY),)):
            assert ask("ModelInfer", sent, key).outputs
        assert client.post("/v2/repository/models/minist/unload", headers=ADMIN).status_code == 200
        precondition = grpc.StatusCode.FAILED_PRECONDITION
        refused(precondition, "out of service", lambda: ask("ModelInfer", sent, KEY))
        page = client.get("/metrics", headers=ADMIN).text
        assert f'minist_requests_total{{route="/{SERVICE}/ModelInfer",status="200"}} 2.0' in page
        exhausted = grpc.StatusCode.RESOURCE_EXHAUSTED
        for _ in range(12):  # the windows are those of HTTP
            client.get("/models", headers=ADMIN)
        refused(exhausted, "12 per 1 minute", lambda: ask("ModelInfer", sent, KEY))
        assert ask("ServerLive", messages()["ServerLiveRequest"]()).live


def test_a_stream_answers_one_after_the_other(asked: tuple[TestClient, Ask]) -> None:
    client, _ = asked
    port = client.app_state["services"].settings.grpc_port
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        method = channel.stream_stream(
            f"/{SERVICE}/ModelStreamInfer",
            lambda sent: sent.SerializeToString(),
            messages()["ModelStreamInferResponse"].FromString,
        )
        good = [request(input=("UINT8", [1, 784], pixels(label).tobytes())) for label in range(5)]
        found = list(method(iter([*good, request("none", input=("UINT8", [1], b"x"))]), timeout=30))
    assert [one.infer_response.raw_output_contents[1][4:] for one in found[:5]] == [
        b"0",
        b"1",
        b"2",
        b"3",
        b"4",
    ]
    assert "no model 'none'" in found[5].error_message


def test_base64_is_taken_as_over_http(asked: tuple[TestClient, Ask], digits: dict[str, bytes]) -> None:
    _, ask = asked
    text = base64.b64encode(digits["6"])
    sent = request(image=("BYTES", [1], len(text).to_bytes(4, "little") + text))
    assert json.loads(ask("ModelInfer", sent).raw_output_contents[1][4:]) == 6


def test_statistics_are_those_of_http(asked: tuple[TestClient, Ask]) -> None:
    client, ask = asked
    ask("ModelInfer", request("minist", input=("UINT8", [1, 784], bytes(784))))
    wanted = messages()["ModelStatisticsRequest"]
    (one,) = ask("ModelStatistics", wanted(name="minist")).model_stats
    (over_http,) = client.get("/v2/models/minist/stats").json()["model_stats"]
    assert (one.name, one.version) == ("minist", over_http["version"])
    for part, told in over_http["inference_stats"].items():
        found = getattr(one.inference_stats, part)
        assert (found.count, found.ns) == (told["count"], told["ns"])
    assert one.inference_stats.queue.count == one.inference_stats.success.count > 0
    assert len(ask("ModelStatistics", wanted()).model_stats) > 2
    refused(grpc.StatusCode.NOT_FOUND, "no model", lambda: ask("ModelStatistics", wanted(name="none")))


def test_a_missing_extra_is_said_with_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(serve, "find_spec", lambda name: None)
    with pytest.raises(SystemExit, match=r"pip install 'minist\[grpc\]', or .* EXTRAS=grpc"):
        serve._check_grpc(Settings(home=tmp_path, grpc_port=free_port()))
