"""Requests in other languages, for `/docs`: from the templates that the page uses, too (`snippets.json`).

A template has places for values: `{{url}}` as it is, `{{row|python}}` as a literal of that language. A line
that begins with `{{?key}}` is there only where the value `key` is true, one with `{{!key}}` where it is not.
"""

import json
import re
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

from app.web.pages import STATIC

LOCAL = "http://127.0.0.1:8000"
_BASE = re.compile(r"https?://[\w.\[\]:-]{1,255}(?:/[\w.~%/-]{0,255})?", re.ASCII)
_PLACE = re.compile(r"\{\{(\w+)(?:\|(\w+))?\}\}")
_CONDITION = re.compile(r"\{\{([?!])(\w+)\}\}")
_FORMS: Mapping[str | None, Callable[[Any], str]] = {
    None: str,
    "json": lambda value: json.dumps(value, ensure_ascii=False),
    "python": lambda value: _python(value),
    "shell": lambda value: "'" + json.dumps(value, ensure_ascii=False).replace("'", "'\\''") + "'",
}


@cache
def templates() -> Mapping[str, Any]:
    """`languages`: their names; `snippets`: of each kind, by language, the lines."""
    found: Mapping[str, Any] = json.loads((STATIC / "page" / "snippets.json").read_text())
    return found


def filled(lines: Sequence[str], values: Mapping[str, Any]) -> str:
    """A template with these values; the same as `filled` in `snippets.js`."""
    text = "\n".join(_CONDITION.sub("", line, count=1) for line in lines if _belongs(line, values))
    return _PLACE.sub(lambda place: _FORMS[place[2]](values[place[1]]), text)


def _belongs(line: str, values: Mapping[str, Any]) -> bool:
    found = _CONDITION.match(line)
    return found is None or bool(values.get(found[2])) == (found[1] == "?")


def _python(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_python(key)}: {_python(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_python, value)) + "]"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)


def with_snippets(document: Mapping[str, Any], base: str, key: bool = False) -> dict[str, Any]:
    """The OpenAPI document with examples: as `x-codeSamples`, and in the descriptions, which Swagger UI shows.

    `base` is the address of the service as the client has it; `key`: predictions need one.
    """
    url = base.rstrip("/") if _BASE.fullmatch(base) else LOCAL
    paths = dict(document["paths"])
    for path, kind, values in _examples():
        post = paths[path]["post"]
        shown = [
            {"lang": language, "label": label, "source": filled(lines, {"url": url, "key": key, **values})}
            for language, label in templates()["languages"].items()
            for lines in (templates()["snippets"][kind][language],)
        ]
        described = "\n\n".join([post.get("description", ""), *map(_described, shown)])
        paths[path] = {**paths[path], "post": {**post, "description": described, "x-codeSamples": shown}}
    return {**document, "paths": paths}


def _described(sample: Mapping[str, str]) -> str:
    language = {"curl": "sh", "requests": "python"}.get(sample["lang"], sample["lang"])
    return f"{sample['label']}:\n\n```{language}\n{sample['source']}\n```"


@cache
def _examples() -> Sequence[tuple[str, str, Mapping[str, Any]]]:
    """Path, kind and values of what is shown."""
    picture = b64encode((STATIC / "page" / "samples" / "digit-7.png").read_bytes()).decode()
    wanted = {"model": "mine", "recipe": "softmax-mnist", "epochs": 3}
    return (
        ("/predict", "picture", {"image": picture, "type": "image/png", "model": "digits"}),
        ("/train", "train", {"wanted": wanted}),
    )
