"""The layers, under the keys that people's files have."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from models.architectures import ARCHITECTURES, build, identify
from models.errors import UnknownArchitecture
from training.recipes import RECIPES, Recipe

LINEARS = [f"linear{i}" for i in range(1, 6)]
KEYS = {
    "softmax": ["linear"],
    "softmax-mnist": ["fc1"],
    "mlp": LINEARS,
    "mlp-256": ["linear1", "linear2"],
    "mlp-adam": [f"fc_layers.{i}" for i in (0, 2, 4, 6, 8)],
    "cnn": ["conv1", "conv2", "fc"],
}
BARE = {"softmax-scratch": ["W", "b"], "mlp-scratch": ["W1", "b1", "W2", "b2"]}
OURS = {"digits": 147_546, "garments": 1_350_122}  # parameters of the layers that are no tutorial's
PARAMETERS = {
    "softmax-scratch": 7850,
    "softmax": 7850,
    "mlp-scratch": 203_530,
    "softmax-mnist": 7850,
    "mlp": 575_050,
    "mlp-adam": 575_050,
    "cnn": 8490,
    "mlp-256": 203_530,
    **OURS,
}


@pytest.mark.parametrize("name", KEYS)
def test_state_dict_keys_are_the_tutorials(name: str) -> None:
    keys = BARE.get(name) or [f"{layer}.{kind}" for layer in KEYS[name] for kind in ("weight", "bias")]
    assert list(build(name).state_dict()) == keys


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_forward_returns_one_row_of_logits_per_image(name: str) -> None:
    logits = build(name, classes=7)(torch.randn(3, 1, 28, 28))
    assert logits.shape == (3, 7)
    assert not torch.allclose(logits.softmax(1), logits)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_parameter_counts(name: str) -> None:
    assert sum(p.numel() for p in build(name).parameters()) == PARAMETERS[name]


@settings(deadline=None)
@given(name=st.sampled_from(sorted(ARCHITECTURES)), classes=st.integers(1, 40))
def test_a_state_dict_tells_its_architecture(name: str, classes: int) -> None:
    found, arguments = identify(build(name, classes=classes).state_dict())
    assert found == name
    assert arguments["classes"] == classes
    build(found, **arguments).load_state_dict(build(name, classes=classes).state_dict())


def test_input_shape_is_an_argument_where_it_makes_sense() -> None:
    assert build("mlp", input_shape=(1, 8, 8))(torch.zeros(2, 1, 8, 8)).shape == (2, 10)
    with pytest.raises(UnknownArchitecture, match="input_shape"):
        build("cnn", input_shape=(1, 8, 8))


def test_unknown_names_and_keys_are_told_with_the_known_ones() -> None:
    with pytest.raises(UnknownArchitecture, match="softmax-mnist"):
        build("resnet")
    with pytest.raises(UnknownArchitecture, match=r"layer4\.weight"):
        identify(nn.ModuleDict({"layer4": nn.Linear(2, 2)}).state_dict())


def test_softmax_starts_at_small_normal_weights_and_zero_bias() -> None:
    """As its source does: N(0, 0.01) and 0."""
    torch.manual_seed(0)
    weights = build("softmax").state_dict()
    assert weights["linear.weight"].std().item() == pytest.approx(0.01, rel=0.05)
    assert not weights["linear.bias"].any()


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=lambda recipe: recipe.name)
def test_every_recipe_names_an_architecture(recipe: Recipe) -> None:
    assert recipe.config().architecture in ARCHITECTURES
