"""GET /recipes tells what POST /train accepts."""

from starlette.testclient import TestClient

from tests.conftest import ADMIN
from training.recipes import RECIPES


def test_every_recipe_is_listed_with_its_settings(client: TestClient) -> None:
    recipes = {recipe["name"]: recipe for recipe in client.get("/recipes").json()}
    assert list(recipes) == list(RECIPES)
    assert recipes["cnn"]["summary"] == RECIPES["cnn"].summary
    for name, recipe in recipes.items():
        config = RECIPES[name].config().model_dump()
        assert recipe["trainable"]
        assert recipe["dataset"] == config["dataset"]
        assert recipe["settings"] == {field["name"]: config[field["name"]] for field in recipe["fields"]}
        assert [field["default"] for field in recipe["fields"]] == list(recipe["settings"].values())


def test_fields_tell_type_bounds_choices_and_meaning(client: TestClient) -> None:
    cnn, scratch = (
        next(recipe for recipe in client.get("/recipes").json() if recipe["name"] == name)
        for name in ("cnn", "mlp-scratch")
    )
    fields = {field["name"]: field for field in cnn["fields"]}
    assert fields["epochs"] == {
        "name": "epochs",
        "type": "integer",
        "default": 10,
        "minimum": 1,
        "maximum": 1000,
        "exclusive": [],
        "choices": None,
        "description": "passes over the training images; null: by the data set",
    }
    assert (fields["lr"]["minimum"], fields["lr"]["maximum"], fields["lr"]["exclusive"]) == (
        0,
        100,
        ["minimum"],
    )
    assert "learning rate" in fields["lr"]["description"]
    assert fields["schedule"]["choices"] == ["constant", "cosine", "one-cycle"]
    assert "from-scratch" not in fields["optimizer"]["choices"]
    optimizer = next(field for field in scratch["fields"] if field["name"] == "optimizer")
    assert "from-scratch" in optimizer["choices"]


def test_what_is_listed_is_accepted(client: TestClient) -> None:
    """A form that sends back every default starts a job; nothing is listed that the deployment decides."""
    for recipe in client.get("/recipes").json():
        assert not {"start", "threads", "architecture"} & set(recipe["settings"])
        body = {"model": "mine", "recipe": recipe["name"], **recipe["settings"]}
        response = client.post("/train", json=body, headers=ADMIN)
        if recipe["name"] == "fine-tune":  # learns corrections, which this service does not keep
            assert response.json()["title"] == "Feedback is off"
            continue
        assert response.status_code == 202, response.text
        client.delete(f"/train/{response.json()['id']}", headers=ADMIN)
