"""The object store that MINIST_STORE names: bytes under keys, in a bucket of S3 or in a shared folder.

The client is obstore: one wheel without dependencies, which does parts and retries in bounded memory. Keys,
region and endpoint come from the usual AWS_* variables.
"""

import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from secrets import token_hex
from typing import Any
from urllib.parse import urlsplit

from app.store.errors import ArtifactsAway, StoreError

PIECE = 8 * 1024 * 1024  # bytes of one request
AT_ONCE = 4  # pieces that are sent, and in memory
TIMEOUT = timedelta(seconds=30)  # of one request
CONNECT = timedelta(seconds=3)
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
RETRIES, RETRYING = 3, timedelta(seconds=10)  # the rest is for those who ask: they know how long they can wait


@dataclass(frozen=True)
class Facts:
    """What a file must be: how many bytes, with which sha256."""

    bytes: int
    sha256: str

    @classmethod
    def of(cls, path: Path) -> "Facts":
        """Reads all of it. Raises OSError."""
        with path.open("rb") as file:
            return cls(os.fstat(file.fileno()).st_size, hashlib.file_digest(file, "sha256").hexdigest())


class Objects:
    """What is under the prefix of the URL. Every method raises ArtifactsAway where the store does not do it."""

    def __init__(self, url: str) -> None:
        """`s3://BUCKET/PREFIX` or `file:///FOLDER`; connects to nothing yet.

        Raises StoreError where it cannot be used, or the extra is not installed.
        """
        self.url = url
        self._obstore = _library()
        self._store = _opened(url)

    def put(self, key: str, path: Path) -> None:
        """Upload a file; it is there when this returns, and before that nothing is."""
        with self._answers("write", key):
            self._obstore.put(self._store, key, path, chunk_size=PIECE, max_concurrency=AT_ONCE)

    def get(self, key: str, facts: Facts, path: Path) -> None:
        """Download to a file, which appears when all of it is there and its digest is right.

        Raises FileNotFoundError where the object is gone or is another one, and OSError of the disk.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{token_hex(4)}")
        try:
            digest = hashlib.sha256()
            with os.fdopen(os.open(temporary, _NEW, 0o600), "wb") as file:  # some hold people's pictures
                for piece in self._pieces(key, facts.bytes):
                    digest.update(piece)
                    file.write(piece)
            if digest.hexdigest() != facts.sha256:
                raise FileNotFoundError(f"{key} in the store is not the file that was put there")
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)

    def _pieces(self, key: str, size: int) -> Iterator[memoryview]:
        """A request for each: a limit of time for all of a large file would be wrong for some network."""
        for start in range(0, size, PIECE):
            with self._answers("read", key):
                piece = self._obstore.get_range(self._store, key, start=start, length=min(PIECE, size - start))
            yield memoryview(piece)

    def delete(self, prefix: str) -> None:
        """Remove all that is under a prefix; nothing happens where nothing is."""
        with self._answers("delete", prefix):
            for found in self._obstore.list(self._store, prefix, chunk_size=1000):
                self._obstore.delete(self._store, [one["path"] for one in found])

    def sizes(self, prefix: str | None = None) -> Iterator[tuple[str, int]]:
        """The key of each object under a prefix, and its bytes."""
        with self._answers("list", prefix or ""):
            for found in self._obstore.list(self._store, prefix, chunk_size=1000):
                yield from ((one["path"], one["size"]) for one in found)

    @contextmanager
    def _answers(self, what: str, key: str) -> Iterator[None]:
        """What the store does not do is ArtifactsAway; what is not there to be read, a FileNotFoundError."""
        try:
            yield
        except (self._obstore.exceptions.BaseError, OSError, ValueError) as error:
            if isinstance(error, FileNotFoundError) and what == "read":
                raise FileNotFoundError(f"{key} is not in the store {self.url}") from error
            why = " ".join(str(error).partition("Debug source")[0].split())[:300]
            raise ArtifactsAway(f"the store {self.url} does not {what} {key!r} now: {why}") from error


def _library() -> Any:
    try:
        return import_module("obstore")
    except ImportError:
        raise StoreError("the client of the store is not installed: pip install 'minist[store]'") from None


def _opened(url: str) -> Any:
    stores, parsed = import_module("obstore.store"), urlsplit(url)
    try:
        if parsed.scheme == "file":
            folder = Path(parsed.path)
            folder.mkdir(parents=True, exist_ok=True)
            return stores.LocalStore(folder.absolute())
        return stores.S3Store(
            parsed.netloc,
            prefix=parsed.path.strip("/") or None,
            client_options=_client(os.environ),
            retry_config={"max_retries": RETRIES, "retry_timeout": RETRYING},
        )
    except OSError as error:
        raise StoreError(f"the folder of the store {url} cannot be made: {error.strerror}") from error
    except Exception as error:  # of variables that do not fit together
        raise StoreError(f"the store {url} cannot be used: {' '.join(str(error).split())[:300]}") from error


def _client(environment: Mapping[str, str]) -> dict[str, Any]:
    """Without TLS only where the endpoint says so: a private server, on this machine or network."""
    endpoint = environment.get("AWS_ENDPOINT_URL_S3") or environment.get("AWS_ENDPOINT_URL") or ""
    plain = {"allow_http": True} if endpoint.startswith("http://") else {}
    return {"timeout": TIMEOUT, "connect_timeout": CONNECT, **plain}
