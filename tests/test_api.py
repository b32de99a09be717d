"""The other endpoints, the OpenAPI document and the settings."""

import pytest
import torch
from starlette.testclient import TestClient

import app
from app.main import create_app
from app.settings import Settings
from app.web.examples import EXAMPLES
from app.web.problems import _TABLE
from models.card import Card
from models.errors import CheckpointError
from tests.conftest import ADMIN, SHIPPED
from tests.samples import is_problem


def test_models_are_listed(client: TestClient) -> None:
    models = {model["name"]: model for model in client.get("/models").json()}
    assert set(models) == set(SHIPPED)
    assert [name for name, model in models.items() if model["default"]] == ["digits"]
    assert models["minist"]["accuracy"] >= 0.98
    assert models["cnn"]["parameters"] == 8490
    assert models["fashion-cnn"]["classes"][9] == "ankle boot"


def test_a_models_card(client: TestClient) -> None:
    card = Card.model_validate(client.get("/models/minist").json())
    assert card.architecture == "mlp"
    assert len(card.sha256) == 64
    response = client.get("/models/nope")
    assert response.status_code == 404
    assert "minist" in response.json()["hint"]
    assert client.get("/models/digts").json()["hint"].startswith("did you mean 'digits'? Or ask for one of")


def test_probes(client: TestClient) -> None:
    assert client.get("/livez").json() == {"status": "ok"}
    assert client.get("/readyz").json() == {
        "status": "ok",
        "degraded": [],
        "training_workers": 0,
        "warnings": [],
    }


def test_info(client: TestClient) -> None:
    body = client.get("/info").json()
    assert body["version"] == app.__version__
    assert body["torch"] == torch.__version__
    assert body["device"] == "cpu"
    assert body["threads"] == 1
    assert body["max_dataset_bytes"] == 1024**3


def test_an_unknown_default_model_stops_the_start(settings: Settings) -> None:
    broken = settings.model_copy(update={"default_model": "nope"})
    with pytest.raises(CheckpointError, match="MINIST_DEFAULT_MODEL"), TestClient(create_app(broken)):
        pass


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINIST_PORT", "9000")
    monkeypatch.setenv("MINIST_MAX_UPLOAD_BYTES", "10")
    assert Settings().port == 9000
    with TestClient(create_app()) as small:
        assert small.post("/predict", files={"file": b"0123456789"}).status_code == 413


def test_every_route_is_described(client: TestClient) -> None:
    """A summary, a description, an example or schema of success, and each error's shape."""
    document = client.get("/openapi.json").json()
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            where = f"{method} {path}"
            assert operation["summary"], where
            assert operation["description"], where
            success = [response for status, response in operation["responses"].items() if status < "300"]
            assert success, where
            assert all(response["description"] for response in success), where
            for status, response in operation["responses"].items():
                if status >= "400":
                    theirs = path.startswith(("/v1/", "/v2"))  # protocols with errors of their own
                    kind, name = ("json", "ProtocolError") if theirs else ("problem+json", "Problem")
                    schema = response["content"][f"application/{kind}"]["schema"]
                    assert schema == {"$ref": f"#/components/schemas/{name}"}, where
                    assert response["description"], where


def test_every_error_has_examples_of_its_own(client: TestClient) -> None:
    for path, operations in client.get("/openapi.json").json()["paths"].items():
        for method, operation in operations.items():
            for status, response in operation["responses"].items():
                if status < "400":
                    continue
                (content,) = response["content"].values()
                shown = content["examples"].values()
                assert shown, (method, path, status)
                if not path.startswith(("/v1/", "/v2")):
                    assert {str(one["value"]["status"]) for one in shown} == {status}, (method, path)
                if response["description"] != "Validation Error":
                    titles = {one["summary"] for one in shown}
                    assert titles == set(response["description"].split(", ")), (method, path, status)


def test_every_kind_of_error_has_an_example() -> None:
    assert set(EXAMPLES) == set(_TABLE)


def test_every_parameter_and_field_is_described(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            for parameter in operation.get("parameters", ()):
                assert parameter.get("description"), (method, path, parameter["name"])
    for name, schema in document["components"]["schemas"].items():
        for field, shape in schema.get("properties", {}).items():
            assert shape.get("description"), (name, field)


@pytest.mark.parametrize("closed", [False, True])
def test_locks_are_on_what_needs_a_key(settings: Settings, closed: bool) -> None:
    with TestClient(create_app(settings.model_copy(update={"open_predict": not closed}))) as client:
        document = client.get("/openapi.json").json()
    assert set(document["components"]["securitySchemes"]) == {"HTTPBearer", "APIKeyHeader"}

    def locked(method: str, path: str) -> bool:
        return bool(document["paths"][path][method].get("security"))

    for method, path in (("post", "/train"), ("delete", "/models/{name}"), ("get", "/feedback/export")):
        assert locked(method, path), path
    for method, path in (
        ("post", "/predict"),
        ("post", "/predict/batch"),
        ("post", "/feedback"),
        ("get", "/models"),
        ("post", "/v2/models/{name}/infer"),
    ):
        assert locked(method, path) == closed, path
    assert not locked("get", "/livez")


def test_predict_is_documented_as_it_is(client: TestClient) -> None:
    operation = client.get("/openapi.json").json()["paths"]["/predict"]["post"]
    content = operation["requestBody"]["content"]
    assert content["multipart/form-data"]["schema"]["properties"]["file"]["format"] == "binary"
    assert {"image/png", "image/jpeg", "image/webp"} <= set(content)
    assert {"404", "413", "415", "422"} <= set(operation["responses"])
    parameters = {parameter["name"]: parameter["schema"] for parameter in operation["parameters"]}
    assert set(parameters) == {"model", "preprocess", "read", "explain"}
    assert parameters["preprocess"]["enum"] == ["auto", "none"]
    assert "Nothing found" in operation["responses"]["422"]["description"]


def test_the_documentation_page_names_no_other_host(client: TestClient) -> None:
    page = client.get("/docs")
    assert page.status_code == 200
    assert "http" not in page.text.replace("<!doctype html>", "")
    assert client.get("/static/docs/swagger-ui-bundle.js").status_code == 200
    assert client.get("/static/docs/LICENSE").status_code == 200


@pytest.mark.parametrize("chunked", [False, True])
def test_too_large_a_json_body_is_a_problem(client: TestClient, chunked: bool) -> None:
    """Whether its size is announced, or found out as it comes."""
    body = b" " * (64 * 1024 + 1)
    content = (body[at : at + 9999] for at in range(0, len(body), 9999)) if chunked else body
    response = client.post("/train", content=content, headers={**ADMIN, "content-type": "application/json"})
    is_problem(response, 413, "Body too large")


def test_a_wrong_method_is_told_every_right_one(client: TestClient) -> None:
    """Of all routes with that path, not of the first."""
    for path, allowed in (
        ("/train", "GET, POST"),
        ("/train/x", "GET, PATCH, DELETE"),
        ("/static/x.css", "GET, HEAD"),
    ):
        response = client.put(path)
        is_problem(response, 405, "Method not allowed")
        assert response.headers["allow"] == allowed


def test_a_version_that_no_database_can_hold_is_refused(client: TestClient) -> None:
    number = 2**70
    assert client.delete(f"/models/minist/versions/{number}", headers=ADMIN).status_code == 422
    move = {"version": number}
    assert client.put("/models/minist/aliases/canary", json=move, headers=ADMIN).status_code == 422
    assert client.post(f"/predict?model=minist@{number}").status_code == 404
