"""The object store: weights, data sets, checkpoints, uploads.

Keys are made by us, ``<project>/<kind>/…``, never by a user, and no key is another's folder.
Content type, name and digest are columns in Postgres: a local folder cannot keep them.
"""

import contextlib
import contextvars
import functools
import hashlib
import os
import secrets
from collections.abc import AsyncIterable, Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import IO, NamedTuple
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, S3Store

from store.settings import settings

CHUNK = 16 * 2**20
_before_chunk: contextvars.ContextVar[Callable[[], None]] = contextvars.ContextVar("between")


class CorruptBlobError(Exception):
    """An object's bytes are not those that were stored: its SHA-256 differs."""


class ObjectStoreUnavailableError(OSError):
    """The object store does not answer, or refuses."""


class ObjectNotFoundError(ObjectStoreUnavailableError, FileNotFoundError):
    """The object store has no object of this key."""


class StoredObject(NamedTuple):
    """One object of a listing."""

    key: str
    last_modified: datetime


@functools.cache
def store() -> LocalStore | S3Store:
    """The object store of this process, as the settings name it."""
    config = settings()
    address = config.object_store
    parts = urlsplit(address)
    if parts.scheme == "file":
        return LocalStore(unquote(parts.path), mkdir=True, automatic_cleanup=True)
    if parts.scheme == "s3":
        return S3Store(
            parts.netloc,
            prefix=parts.path.strip("/") or None,
            client_options={
                "timeout": timedelta(seconds=config.object_timeout_s),
                "connect_timeout": timedelta(seconds=3),
                # Options given here hide the variable that else says so.
                "allow_http": os.environ.get("AWS_ALLOW_HTTP", "").lower() in ("true", "1"),
            },
            retry_config={
                "max_retries": 5,
                "retry_timeout": timedelta(seconds=config.object_retry_timeout_s),
            },
        )
    raise ValueError(f"object_store must be file:///folder or s3://bucket/prefix, not {address}")


@contextlib.contextmanager
def _translate_store_errors() -> Iterator[None]:
    """The store's own errors as what they are to us: an OSError, to be tried again."""
    try:
        yield
    except FileNotFoundError as error:
        raise ObjectNotFoundError(str(error).partition("\n")[0]) from error
    except BaseError as error:
        raise ObjectStoreUnavailableError(str(error).partition("\n")[0]) from error


def put_file(key: str, path: Path) -> None:
    """Store a file; it appears whole or not at all."""
    with path.open("rb") as file, _translate_store_errors():
        obstore.put(store(), key, file, chunk_size=CHUNK)


async def put_stream(key: str, chunks: AsyncIterable[bytes]) -> None:
    """Store what is streamed; nothing appears if the stream breaks."""
    with _translate_store_errors():
        await obstore.put_async(store(), key, chunks)


@contextlib.contextmanager
def interruptible(check_cancelled: Callable[[], None]) -> Iterator[None]:
    """Call ``check`` before every chunk that is read in this block: what it raises ends the read.

    A data set of gigabytes takes minutes, and nobody who wants its run to end waits for them.
    """
    token = _before_chunk.set(check_cancelled)
    try:
        yield
    finally:
        _before_chunk.reset(token)


def read(key: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
    """The bytes from ``start`` to before ``end``, in chunks."""
    with _translate_store_errors():
        # In ranges: each is a request of its own, with its own time and its own second try.
        end = obstore.head(store(), key)["size"] if end is None else end
        for position in range(start, end, CHUNK):
            _before_chunk.get(_do_nothing)()
            stop = min(end, position + CHUNK)
            yield bytes(obstore.get_range(store(), key, start=position, end=stop))


def _do_nothing() -> None:
    pass


def fetch(keys: list[str], target: Path, sha256: str) -> None:
    """Bring an object, or the parts of one, to a file; it appears only if its digest is right."""
    # A name of its own: two slots may want the same object at the same time.
    # A hidden one: who clears a folder of what is not used leaves it alone.
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(8)}.part")
    digest = hashlib.sha256()
    try:
        with temporary.open("xb") as file:
            for key in keys:
                _copy(key, file, digest)
            file.flush()
            os.fsync(file.fileno())  # its name is its digest: a torn file must never bear it
        if digest.hexdigest() != sha256:
            actual = digest.hexdigest()
            raise CorruptBlobError(f"the object {keys[0]} has SHA-256 {actual}, not {sha256}")
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def _copy(key: str, file: IO[bytes], digest: "hashlib._Hash") -> None:
    for chunk in read(key):
        digest.update(chunk)
        file.write(chunk)


def copy(source: str, target: str) -> None:
    """Copy within the store."""
    with _translate_store_errors():
        obstore.copy(store(), source, target)


def exists(key: str) -> bool:
    """Whether there is such an object."""
    return last_modified(key) is not None


def last_modified(key: str) -> datetime | None:
    """When the object was last written; None if there is none."""
    try:
        with _translate_store_errors():
            return obstore.head(store(), key)["last_modified"]
    except FileNotFoundError:
        return None


def delete(key: str) -> None:
    """Delete; an object that is already gone is fine."""
    # A local folder says that there was nothing, S3 does not.
    with contextlib.suppress(FileNotFoundError), _translate_store_errors():
        obstore.delete(store(), key)


def list_objects() -> Iterator[StoredObject]:
    """Every object, in no order."""
    with _translate_store_errors():
        for batch in obstore.list(store(), chunk_size=1000):
            for entry in batch:
                yield StoredObject(entry["path"], entry["last_modified"])


def check_available() -> None:
    """Raise unless the store answers."""
    with _translate_store_errors():
        next(iter(obstore.list(store(), chunk_size=1)), None)
