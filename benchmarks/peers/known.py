"""The peers: what is installed for each, how it is started and asked. One worker, batches of up to 32."""

import base64
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.peers import environments
from benchmarks.servers import ROOT, Server, free_port, started
from benchmarks.upload import Way, best, upload

Words = Callable[[Path, int, Path], list[str]]  # of the environment's bin, a port, an empty directory


@dataclass(frozen=True)
class Peer:
    name: str
    requirements: tuple[str, ...]  # its own package first
    words: Words
    way: Way
    warm_up: float = 5  # seconds

    @property
    def title(self) -> str:
        return self.name.partition(",")[0]

    @property
    def package(self) -> str:
        return self.requirements[0].partition("==")[0]

    def folder(self, cache: Path) -> Path:
        return cache / self.package

    def version(self, cache: Path) -> str:
        return environments.version(self.folder(cache), self.package)

    @contextmanager
    def started(self, cache: Path, directory: Path) -> Iterator[Server]:
        """Raises Unavailable or NoAnswer."""
        home = directory / self.name.replace(",", "").replace(" ", "-")
        home.mkdir()
        port = free_port()
        words = self.words(environments.environment(self.folder(cache), self.requirements), port, home)
        with started(words, port, self.way, directory / f"{port}.log", _variables(home), home) as server:
            yield server


def _variables(home: Path) -> Mapping[str, str]:
    """Nothing is written outside `home`, no telemetry is sent."""
    places = {name: str(home) for name in ("TMPDIR", "TEMP", "BENTOML_HOME")}
    return {"PYTHONPATH": str(ROOT), "BENTOML_DO_NOT_TRACK": "True", "CUDA_VISIBLE_DEVICES": "", **places}


def _litserve(binaries: Path, port: int, home: Path) -> list[str]:
    return [str(binaries / "python"), "-m", "benchmarks.peers.litserve_api", str(port)]


def _bentoml(binaries: Path, port: int, home: Path) -> list[str]:
    service = "benchmarks.peers.bentoml_service:Digits"
    return [str(binaries / "bentoml"), "serve", service, "--host", "127.0.0.1", "--port", str(port)]


def _mlserver(binaries: Path, port: int, home: Path) -> list[str]:
    settings = {
        "host": "127.0.0.1",
        "http_port": port,
        "grpc_port": free_port(),
        "metrics_port": free_port(),
        "parallel_workers": 0,  # in the server's own process
        "debug": False,
    }
    model = {
        "name": "digits",
        "implementation": "benchmarks.peers.mlserver_runtime.Digits",
        "max_batch_size": 32,
        "max_batch_time": 0.005,
    }
    (home / "settings.json").write_text(json.dumps(settings))
    (home / "model-settings.json").write_text(json.dumps(model))
    return [str(binaries / "mlserver"), "start", str(home)]


def _mlserver_body(image: bytes) -> bytes:
    pixels = {
        "name": "images",
        "shape": [1, 1],
        "datatype": "BYTES",
        "data": [base64.b64encode(image).decode()],
        "parameters": {"content_type": "base64"},
    }
    return json.dumps({"inputs": [pixels]}).encode()


def _torchserve(binaries: Path, port: int, home: Path, workers: int = 1) -> list[str]:
    java = Path(os.environ["JAVA_HOME"], "bin", "java") if os.environ.get("JAVA_HOME") else "java"
    if shutil.which(java) is None:
        raise environments.Unavailable("it needs Java (Debian: apt-get install openjdk-17-jre-headless)")
    handler = ROOT / "benchmarks" / "peers" / "torchserve_handler.py"
    store = home / "store"  # a name that is also found in the working directory would win over it
    store.mkdir()
    archiver = [str(binaries / "torch-model-archiver"), "--model-name", "digits", "--version", "1"]
    archiver += ["--handler", str(handler), "--archive-format", "no-archive", "--export-path", str(store)]
    environments.run(archiver)
    model = {"defaultVersion": True, "marName": "digits", "minWorkers": workers, "maxWorkers": workers}
    model |= {"batchSize": 32, "maxBatchDelay": 5, "responseTimeout": 60}
    properties = {
        "inference_address": f"http://127.0.0.1:{port}",
        "management_address": f"http://127.0.0.1:{free_port()}",
        "metrics_address": f"http://127.0.0.1:{free_port()}",
        "grpc_inference_port": free_port(),
        "grpc_management_port": free_port(),
        "model_store": store,
        "load_models": "digits",
        "async_logging": "true",
        "disable_token_authorization": "true",
        "models": json.dumps({"digits": {"1": model}}),
    }
    config = home / "config.properties"
    config.write_text("".join(f"{key}={value}\n" for key, value in properties.items()))
    words = [str(binaries / "torchserve"), "--start", "--foreground", "--ts-config", str(config)]
    return [*words, "--disable-token-auth", "--no-config-snapshots"]


_LITSERVE = ("litserve==0.2.19", "python-multipart")
_TORCHSERVE = ("torchserve==0.12.0", "torch-model-archiver==0.12.0", "pyyaml")
_PREDICTIONS = upload("/predictions/digits", best)

PEERS = [
    Peer("LitServe", _LITSERVE, _litserve, upload("/predict", lambda answer: best(answer["probabilities"]))),
    Peer("BentoML", ("bentoml==1.4.39",), _bentoml, upload("/predict", lambda answer: best(answer[0]))),
    Peer(
        "MLServer",
        ("mlserver==1.7.1",),
        _mlserver,
        Way(
            "/v2/models/digits/infer",
            "application/json",
            _mlserver_body,
            lambda answer: best(answer["outputs"][0]["data"]),
        ),
    ),
    Peer("TorchServe", _TORCHSERVE, _torchserve, _PREDICTIONS, warm_up=30),
    Peer("TorchServe, 2 workers", _TORCHSERVE, partial(_torchserve, workers=2), _PREDICTIONS, warm_up=30),
]
