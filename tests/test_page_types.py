"""The page's types (wire.d.ts) name only what the service sends."""

import dataclasses
import re
from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.conftest import ROOT
from training import events

WIRE = (ROOT / "app" / "static" / "page" / "wire.d.ts").read_text()
INTERFACES = {
    name: re.findall(r"^  (\w+)\??:", body, re.MULTILINE)
    for name, body in re.findall(
        r"^export interface (\w+)(?: extends \w+)? \{\n(.*?)^\}", WIRE, re.MULTILINE | re.DOTALL
    )
}
MORE = {"Problem": {"errors"}}  # of a problem that names fields


@pytest.fixture(scope="module")
def sent(client: TestClient) -> dict[str, set[str]]:
    """Fields by schema, and by server-sent event."""
    schemas: dict[str, Any] = client.get("/openapi.json").json()["components"]["schemas"]
    streamed = {
        each.__name__.removeprefix("Trial"): {field.name for field in dataclasses.fields(each)}
        for each in (events.TrialStep, events.TrialEpoch)
    }
    return {name: set(schema.get("properties", {})) for name, schema in schemas.items()} | streamed


@pytest.mark.parametrize("name", INTERFACES)
def test_every_field_that_the_page_reads_is_sent(name: str, sent: dict[str, set[str]]) -> None:
    assert set(INTERFACES[name]) - sent[name] - MORE.get(name, set()) == set()


def test_the_page_names_no_path_that_is_gone(client: TestClient) -> None:
    """Each path in the page's modules begins like one of the API's."""
    known = {path.split("/")[1] for path in client.get("/openapi.json").json()["paths"]}
    modules = (ROOT / "app" / "static" / "page").glob("*.js")
    asked = [
        first
        for module in modules
        for first in re.findall(r'api\.(?:get|request)\(\s*["`](\w+)', module.read_text())
        + re.findall(r'api\.change\("\w+", ["`](\w+)', module.read_text())
    ]
    assert len(asked) > 10
    assert set(asked) <= known | {"static"}
