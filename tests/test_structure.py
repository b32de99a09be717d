"""The layers of models: shapes as they come out, and every parameter once."""

import torch
from starlette.testclient import TestClient

from models.classifier import Classifier
from tests import people
from tests.conftest import SHIPPED
from tests.samples import is_problem


def test_the_layers_of_a_shipped_model_have_all_its_parameters(client: TestClient) -> None:
    for name in SHIPPED:
        found = client.get(f"/models/{name}@1/layers").json()
        card = client.get(f"/models/{name}").json()
        assert sum(layer["parameters"] for layer in found) == card["parameters"], name
        asked = [layer for layer in found if layer["output"] is not None]
        assert asked[-1]["output"] == [len(card["classes"])], name


def test_shapes_are_those_of_one_input(client: TestClient) -> None:
    """A convolution of 5x5 makes 24x24 of 28x28; the background of `digits` is not asked with the classes."""
    assert client.get("/models/cnn/layers").json() == [
        {"name": "conv1", "type": "Conv2d", "output": [10, 24, 24], "parameters": 260},
        {"name": "conv2", "type": "Conv2d", "output": [20, 8, 8], "parameters": 5020},
        {"name": "fc", "type": "Linear", "output": [10], "parameters": 3210},
    ]
    background = client.get("/models/digits/layers").json()[-1]
    assert background == {"name": "background.2", "type": "Linear", "output": None, "parameters": 65}
    is_problem(client.get("/models/nobody/layers"), 404, "Unknown model")


def test_what_serves_is_not_touched() -> None:
    """No hook stays on the model that answers others meanwhile; a network of a table has layers, too."""
    model, card = people.trained()
    classifier = Classifier(model.eval(), card, torch.device("cpu"))
    found = classifier.layers()
    assert sum(layer.parameters for layer in found) == sum(each.numel() for each in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())
