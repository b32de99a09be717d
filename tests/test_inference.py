"""The form of a model that serves says what the classifier says."""

import subprocess
import sys
from typing import Literal

import pytest
import torch
from torch import nn

from models.architectures import ARCHITECTURES, build
from models.card import Card, Input
from models.classifier import Classifier
from models.inference import RELATIVE, TOLERANCE, InferenceModel
from models.networks import Digits, FusedDigits
from tests.conftest import ROOT, SHIPPED, WEIGHTS


def classifier_of(
    model: nn.Module, cpu: torch.device, architecture: str = "any", channels: Literal[1, 3] = 1
) -> Classifier:
    card = Card(
        name="any",
        architecture=architecture,
        input=Input(
            channels=channels,
            height=28,
            width=28,
            mean=(0.3, 0.4, 0.5)[:channels],
            std=(0.2, 0.3, 0.4)[:channels],
            preprocessing="picture",
        ),
        classes=tuple("0123456789"),
    )
    return Classifier(model.eval().requires_grad_(False), card, cpu)


def images(count: int, channels: int = 1) -> torch.Tensor:
    return torch.randint(
        0, 256, (count, channels, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
    )


@pytest.mark.parametrize("name", SHIPPED)
@pytest.mark.parametrize("count", [1, 3, 300])
def test_every_shipped_model_gives_the_same_probabilities(name: str, count: int, cpu: torch.device) -> None:
    classifier = Classifier.load(WEIGHTS / f"{name}.pth", cpu)
    form = InferenceModel(classifier)
    expected = classifier.answers(images(count))  # and the logit of a background
    for _ in range(2):
        found = form(images(count))
        assert found.dtype == torch.float64
        assert torch.allclose(found, expected, rtol=RELATIVE, atol=TOLERANCE)
        form.freeze()


@pytest.mark.parametrize("name", [name for name in ARCHITECTURES if name != "efficientnet-lite0"])
def test_every_architecture_is_folded(name: str, cpu: torch.device) -> None:
    classifier = classifier_of(build(name), cpu, name)
    before = {key: value.clone() for key, value in classifier.model.state_dict().items()}
    form = InferenceModel(classifier)
    form.freeze()
    assert torch.allclose(form(images(5)), classifier.probabilities(images(5)), rtol=0, atol=TOLERANCE)
    after = classifier.model.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)  # the classifier's own are unchanged


@pytest.mark.parametrize("name", [name for name in ARCHITECTURES if name != "efficientnet-lite0"])
def test_the_serving_form_is_a_copy_on_the_same_weights(name: str) -> None:
    module = build(name).eval()
    form = ARCHITECTURES[name].serving_form(module)
    x = images(3).float() / 255
    torch.testing.assert_close(form(x), module(x), rtol=0, atol=1e-5)
    assert {id(tensor) for tensor in form.parameters()} == {id(tensor) for tensor in module.parameters()}
    assert not set(form.modules()) & set(module.modules())


@pytest.mark.parametrize("sign", [1, -1])
def test_digits_are_fused_where_normalisation_may_come_before_the_maximum(sign: int) -> None:
    digits = Digits(background=True).eval()
    for norm in (digits.norm1, digits.norm2, digits.norm3, digits.norm4):
        assert norm.running_mean is not None
        nn.init.normal_(norm.running_mean)
        nn.init.uniform_(norm.weight, 0.5, 2)
    with torch.no_grad():
        digits.norm2.weight[0] *= sign
    form = ARCHITECTURES["digits"].serving_form(digits)
    assert isinstance(form, FusedDigits if sign > 0 else Digits)
    x = images(3).float() / 255
    torch.testing.assert_close(form(x), digits(x), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(form.judge(x), digits.judge(x), rtol=1e-4, atol=1e-5)


def test_a_padded_convolution_is_not_folded_but_served(cpu: torch.device) -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.Flatten(), nn.Linear(2 * 28 * 28, 10))
    classifier = classifier_of(model, cpu)
    form = InferenceModel(classifier)
    form.freeze()
    assert torch.allclose(form(images(5)), classifier.probabilities(images(5)), rtol=0, atol=TOLERANCE)


def test_a_model_without_a_bias_is_folded_too(cpu: torch.device) -> None:
    classifier = classifier_of(nn.Sequential(nn.Flatten(), nn.Linear(784, 10, bias=False)), cpu)
    found = InferenceModel(classifier)(images(5))
    assert torch.allclose(found, classifier.probabilities(images(5)), rtol=0, atol=TOLERANCE)


def test_serving_does_without_torchs_compiler() -> None:
    """To import torch._dynamo takes seconds and 100 MB, and little on the "meta" device does not."""
    script = f"""
import sys
from pathlib import Path
import torch
from models.verification import load_verified
for path in sorted(Path({str(WEIGHTS)!r}).glob("*.pth")):
    classifier, form = load_verified(path, torch.device("cpu"))
    form.freeze()
    print(path.stem, not {{"torch._dynamo", "sympy"}} & sys.modules.keys())
"""
    command = [sys.executable, "-c", script]
    lines = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    assert lines
    assert all(line.endswith("True") for line in lines), lines


@pytest.mark.parametrize("padding", [0, 1])
def test_colours_are_normalised_by_channel(padding: int, cpu: torch.device) -> None:
    layers = nn.Conv2d(3, 2, 3, padding=padding), nn.Flatten(), nn.Linear(2 * (26 + 2 * padding) ** 2, 10)
    classifier = classifier_of(nn.Sequential(*layers), cpu, channels=3)
    form = InferenceModel(classifier)
    found = form(images(5, 3))
    expected = classifier.probabilities(images(5, 3))
    assert torch.allclose(found, expected, rtol=0, atol=TOLERANCE)
    by_hand = (images(5, 3).float() / 255 - torch.tensor([0.3, 0.4, 0.5]).view(3, 1, 1)) / torch.tensor(
        [0.2, 0.3, 0.4]
    ).view(3, 1, 1)
    torch.testing.assert_close(classifier.logits(images(5, 3)), classifier.model(by_hand), rtol=1e-4, atol=1e-4)
