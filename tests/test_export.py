"""Models as files for other programs: the same answers come out of them."""

import io
import json
import zipfile
from pathlib import Path

import httpx2
import numpy as np
import onnxruntime
import pytest
import torch
from safetensors.torch import load
from starlette.testclient import TestClient

from models.classifier import Classifier
from models.export import check, to_onnx
from tests.conftest import SHIPPED, WEIGHTS
from tests.samples import is_problem
from training.datasets import Dataset


def export(client: TestClient, name: str, kind: str) -> httpx2.Response:
    response: httpx2.Response = client.get(f"/models/{name}/export", params={"format": kind})
    assert response.status_code == 200, response.text
    return response


def probabilities(data: bytes, images: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"images": images})
    return np.asarray(found)


@pytest.mark.parametrize("name", SHIPPED)
def test_onnx_answers_as_the_service_does(name: str, cpu: torch.device, sample: Dataset) -> None:
    classifier = Classifier.load(WEIGHTS / f"{name}.pth", cpu)
    data = to_onnx(classifier)
    check(data, classifier)
    for count in (1, 7, 100):  # any number of pictures
        images = sample.test.images[:count]
        difference = probabilities(data, images.numpy()) - classifier.probabilities(images).numpy()
        assert np.abs(difference).max() < 1e-4


def test_the_service_exports_each_format(client: TestClient) -> None:
    plain = (WEIGHTS / "cnn.pth").read_bytes()
    assert export(client, "cnn", "pth").content == plain
    assert export(client, "cnn@1", "card").json()["classes"] == list("0123456789")
    tensors = load(export(client, "cnn", "safetensors").content)
    state = torch.load(io.BytesIO(plain), weights_only=True)
    assert all(torch.equal(tensors[name], state[name]) for name in state)
    archive = zipfile.ZipFile(io.BytesIO(export(client, "cnn", "zip").content))
    assert sorted(archive.namelist()) == ["cnn.json", "cnn.pth"]
    response = export(client, "cnn", "onnx")
    assert 'filename="cnn-1.onnx"' in response.headers["content-disposition"]
    session = onnxruntime.InferenceSession(response.content, providers=["CPUExecutionProvider"])
    facts = session.get_modelmeta().custom_metadata_map
    assert json.loads(facts["classes"]) == list("0123456789")
    assert json.loads(facts["card"])["name"] == "cnn"
    assert export(client, "cnn", "onnx").content == response.content


def test_what_is_not_there_or_not_known_is_told(client: TestClient) -> None:
    is_problem(client.get("/models/nobody/export"), 404, "Unknown model")
    is_problem(client.get("/models/cnn/export?format=tflite"), 422, "Invalid request")


def test_a_model_that_answers_otherwise_is_not_exported(cpu: torch.device, tmp_path: Path) -> None:
    classifier = Classifier.load(WEIGHTS / "cnn.pth", cpu)
    other = Classifier(classifier.model, classifier.card.model_copy(update={"temperature": 9.0}), cpu)
    with pytest.raises(Exception, match="otherwise"):
        check(to_onnx(classifier), other)
