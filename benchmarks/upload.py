"""How a server is asked for one image, and what its answer says."""

import http.client
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

BOUNDARY = "boundary-of-the-benchmark"
FORM = f"multipart/form-data; boundary={BOUNDARY}"


@dataclass(frozen=True)
class Way:
    """The client that checks and wrk, which loads, send the same."""

    path: str
    kind: str  # content type
    body: Callable[[bytes], bytes]  # of an image file
    label: Callable[[Any], str]  # in the decoded answer
    json_bytes: int = 0  # where raw tensors follow the JSON: its length

    @property
    def headers(self) -> dict[str, str]:
        length = {"inference-header-content-length": str(self.json_bytes)} if self.json_bytes else {}
        return {"content-type": self.kind, **length}


def form(field: str, images: list[bytes]) -> bytes:
    parts = [
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{field}"; filename="{i}.png"\r\n'
        f"Content-Type: image/png\r\n\r\n".encode()
        + image
        + b"\r\n"
        for i, image in enumerate(images)
    ]
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()


def upload(path: str, label: Callable[[Any], str] = lambda answer: str(answer["label"])) -> Way:
    """One file of a form."""
    return Way(path, FORM, lambda image: form("file", [image]), label)


_INPUT = {"name": "input", "shape": [1, 1, 28, 28], "datatype": "FP32"}
_OUTPUTS = [{"name": "probabilities"}]


def raw_tensor(path: str) -> Way:
    """The protocol V2: pixels as raw FP32 behind the JSON, probabilities as JSON."""
    given = {**_INPUT, "parameters": {"binary_data_size": 4 * 784}}
    head = json.dumps({"inputs": [given], "outputs": _OUTPUTS}).encode()
    kind = "application/octet-stream"
    return Way(path, kind, lambda image: head + _pixels(image).tobytes(), _best_output, len(head))


def json_tensor(path: str) -> Way:
    """The same with the pixels as JSON."""

    def body(image: bytes) -> bytes:
        given = {**_INPUT, "data": _pixels(image).ravel().round(4).tolist()}
        return json.dumps({"inputs": [given], "outputs": _OUTPUTS}).encode()

    return Way(path, "application/json", body, _best_output)


def _pixels(image: bytes) -> NDArray[np.float32]:
    return np.asarray(Image.open(io.BytesIO(image)).convert("L"), np.float32) / np.float32(255)


def _best_output(answer: Any) -> str:
    return best(answer["outputs"][0]["data"])


def best(probabilities: list[float]) -> str:
    """The label of a bare list of ten."""
    if len(probabilities) != 10:
        raise ValueError(f"not ten probabilities: {probabilities}")
    return str(probabilities.index(max(probabilities)))


def label_of(port: int, way: Way, image: bytes) -> str:
    """Raises OSError, HTTPException or ValueError."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("POST", way.path, way.body(image), way.headers)
    response = connection.getresponse()
    answer = response.read()
    connection.close()
    if response.status != 200:
        raise ValueError(answer)
    try:
        length = response.getheader("inference-header-content-length")
        return way.label(json.loads(answer[: int(length)] if length else answer))
    except (LookupError, TypeError) as error:
        raise ValueError(answer) from error
