"""What the application holds while it runs, and how endpoints get at it."""

from typing import Annotated, TypedDict

from fastapi import Depends, Request

from app.registry import Registry
from app.settings import Settings


class State(TypedDict):
    """Made by the lifespan; Starlette hands it to every request."""

    settings: Settings
    registry: Registry


def _settings(request: Request) -> Settings:
    return request.state["settings"]


def _registry(request: Request) -> Registry:
    return request.state["registry"]


SettingsOf = Annotated[Settings, Depends(_settings)]
RegistryOf = Annotated[Registry, Depends(_registry)]
