"""The layers, under the keys that people's files have."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from models.architectures import ARCHITECTURES, TABLES, arguments_for, build, identify
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
OF_PICTURES = {"small-image": 339_642, "efficientnet-lite0": 3_383_818}
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
    **OF_PICTURES,
}


@pytest.mark.parametrize("name", KEYS)
def test_state_dict_keys_are_the_tutorials(name: str) -> None:
    keys = BARE.get(name) or [f"{layer}.{kind}" for layer in KEYS[name] for kind in ("weight", "bias")]
    assert list(build(name).state_dict()) == keys


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_forward_returns_one_row_of_logits_per_image(name: str) -> None:
    shape = (3, 64, 64) if name == "efficientnet-lite0" else (1, 28, 28)
    logits = build(name, classes=7)(torch.randn(3, *shape))
    assert logits.shape == (3, 7)
    assert not torch.allclose(logits.softmax(1), logits)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_parameter_counts(name: str) -> None:
    assert sum(p.numel() for p in build(name).parameters()) == PARAMETERS[name]


@settings(deadline=None)
@given(name=st.sampled_from(sorted(ARCHITECTURES.keys() - OF_PICTURES)), classes=st.integers(1, 40))
def test_a_state_dict_tells_its_architecture(name: str, classes: int) -> None:
    found, arguments = identify(build(name, classes=classes).state_dict())
    assert found == name
    assert arguments["classes"] == classes
    build(found, **arguments).load_state_dict(build(name, classes=classes).state_dict())


@pytest.mark.parametrize("name", OF_PICTURES)
def test_weights_for_pictures_of_any_size_need_their_card(name: str) -> None:
    with pytest.raises(UnknownArchitecture, match="card"):
        identify(build(name).state_dict())


def test_a_recipe_for_digits_says_that_it_takes_no_photographs() -> None:
    for name, shape in (("cnn", (1, 64, 64)), ("mlp", (3, 28, 28))):
        with pytest.raises(UnknownArchitecture, match="choose the recipe auto"):
            arguments_for(name, 10, shape)
    assert arguments_for("mlp", 3, (1, 8, 8)) == {"classes": 3, "input_shape": (1, 8, 8)}
    assert arguments_for("cnn", 26, (1, 28, 28)) == {"classes": 26}


@pytest.mark.parametrize("shape", [(1, 24, 24), (3, 32, 48), (3, 64, 64), (1, 96, 40)])
def test_small_image_takes_pictures_of_any_shape(shape: tuple[int, int, int]) -> None:
    assert build("small-image", classes=7, input_shape=shape)(torch.zeros(2, *shape)).shape == (2, 7)


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
    assert recipe.config().architecture in (*ARCHITECTURES, *TABLES, "auto", "fine-tune")


@pytest.mark.parametrize("name", [*ARCHITECTURES, *TABLES])
@pytest.mark.parametrize("classes", [-5, 10**30, "x", [1], {}])
def test_classes_that_no_layer_can_have_are_refused(name: str, classes: object) -> None:
    """As a foreign card may ask for them; without memory, as its weights are compared first."""
    with torch.device("meta"), pytest.raises(UnknownArchitecture, match="does not take these arguments"):
        build(name, classes=classes)
