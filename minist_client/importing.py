"""Data sets: bring, look at, delete."""

from __future__ import annotations

import json
import os
import re
import tempfile
import time
import zipfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from secrets import token_hex
from typing import Any
from urllib.parse import quote

from minist_client.answers import Dataset, read
from minist_client.errors import ClientError, ImportFailed, UnusableInput
from minist_client.steps import Body, Call, Plan, ask, json_body, pause, work

FIRST, LONGEST = 0.2, 2.0  # seconds between two looks at an import
_JUNK = ("__MACOSX", "Thumbs.db", "desktop.ini")


def datasets() -> Plan[list[Dataset]]:
    """The newest version of each, and those that come with the service."""
    return (yield from ask(Call("GET", "/datasets", lambda found: [read(Dataset, one) for one in found])))


def dataset(reference: str) -> Plan[Dataset]:
    """A data set: `NAME` is its newest version, `NAME@2` version 2."""
    return (yield from ask(Call("GET", _path(reference), partial(read, Dataset))))


def upload_dataset(
    source: str | os.PathLike[str],
    name: str,
    wait: bool = True,
    timeout: float | None = None,
    notify: str | None = None,
    **options: Any,
) -> Plan[Dataset]:
    """Import a file (a zip of class folders, npz, CSV, parquet, ..) or a folder, which is zipped first.

    `options` are those of the import (`target="income"`, `size=48`). Waits until it is `ready` or
    `needs_target`, at most `timeout` seconds; ImportFailed says why it could not be read. Sent twice it is the
    same version. `notify` is a URL that is told how the import ended, where the deployment allows it.
    """
    path = Path(source)
    if not path.is_dir():
        return (yield from _upload(path, name, wait, timeout, notify, options))
    zipped = yield from work(partial(_zipped, path))
    try:
        return (yield from _upload(zipped, name, wait, timeout, notify, options))
    finally:
        zipped.unlink(missing_ok=True)


def read_again(
    name: str, version: int, wait: bool = True, timeout: float | None = None, **options: Any
) -> Plan[Dataset]:
    """Another version of the file of a version, with other options; `target="column"` completes a table that
    needs it."""
    body = json_body({"from": version, "options": options})
    call = Call("POST", f"{_path(name)}/versions", partial(read, Dataset), body=body)
    found = yield from ask(call)
    return (yield from wait_for_dataset(found.reference, timeout)) if wait else found


def wait_for_dataset(reference: str, timeout: float | None = None) -> Plan[Dataset]:
    """The data set, once it is `ready` or `needs_target`. Raises ImportFailed."""
    begun, seconds = time.monotonic(), FIRST
    while True:
        found = yield from dataset(reference)
        if found.status == "failed":
            raise ImportFailed(found)
        if found.status != "importing":
            return found
        if timeout is not None and time.monotonic() - begun + seconds > timeout:
            raise ClientError(
                f"{reference} is not imported after {timeout:g} s; it goes on: wait_for_dataset({reference!r})"
            )
        yield from pause(seconds)
        seconds = min(LONGEST, seconds * 1.5)


def delete_dataset(reference: str, force: bool = False) -> Plan[None]:
    """Delete a version, or all of a data set; `force` also where a job or a version of a model needs it."""
    params = {"force": "true"} if force else {}
    return (yield from ask(Call("DELETE", _path(reference), lambda _: None, params, repeatable=False)))


def _path(reference: str) -> str:
    return f"/datasets/{quote(reference, safe='')}"


def _upload(
    path: Path, name: str, wait: bool, timeout: float | None, notify: str | None, options: dict[str, Any]
) -> Plan[Dataset]:
    form = _form(path, {"name": name, **({"notify": notify} if notify else {})}, options)
    call = Call("POST", "/datasets", partial(read, Dataset), body=form)
    found = yield from ask(call)
    return (yield from wait_for_dataset(found.reference, timeout)) if wait else found


def _form(path: Path, said: dict[str, str], options: dict[str, Any]) -> Body:
    edge = token_hex(16)
    fields = {**said, **({"options": json.dumps(options)} if options else {})}
    texts = "".join(
        f'--{edge}\r\ncontent-disposition: form-data; name="{field}"\r\n\r\n{value}\r\n'
        for field, value in fields.items()
    )
    file = re.sub(r"[^\w.-]", "_", path.name, flags=re.ASCII)[-100:]
    head = (
        f'{texts}--{edge}\r\ncontent-disposition: form-data; name="file"; filename="{file}"\r\n'
        "content-type: application/octet-stream\r\n\r\n"
    )
    return Body(f"multipart/form-data; boundary={edge}", head.encode(), path, f"\r\n--{edge}--\r\n".encode())


def _zipped(folder: Path) -> Path:
    """A temporary file with what is in the folder. Raises UnusableInput where that is nothing."""
    handle, name = tempfile.mkstemp(suffix=".zip")
    path = Path(name)
    try:
        with os.fdopen(handle, "wb") as stream, zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
            for file in _files(folder):
                archive.write(file, file.relative_to(folder).as_posix())
            if not archive.namelist():
                raise UnusableInput(f"there is no file in {folder}: it should have a folder for each class")
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return path


def _files(folder: Path) -> Iterator[Path]:
    """In order; without what systems leave in folders."""
    for file in sorted(folder.rglob("*")):
        parts = file.relative_to(folder).parts
        if file.is_file() and not any(part.startswith(".") or part in _JUNK for part in parts):
            yield file
