"""The object store: weights, data sets, checkpoints, uploads, in a local folder or in S3.

The servers make the keys, ``<project>/<kind>/…``; users never do. No key is a prefix folder of
another. Content type, name and digest are columns in Postgres, because a local folder cannot store
them.
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
_should_stop: contextvars.ContextVar[Callable[[], bool]] = contextvars.ContextVar("should_stop")


class CorruptBlobError(Exception):
    """An object's bytes are not those that were stored: its SHA-256 differs."""


class ObjectStoreUnavailableError(OSError):
    """The object store does not respond, or refuses a request."""


class ReadCancelledError(Exception):
    """A read was ended between two chunks, by :func:`interruptible`."""


class ObjectNotFoundError(ObjectStoreUnavailableError, FileNotFoundError):
    """The object store has no object of this key."""


class StoredObject(NamedTuple):
    """One object of a listing."""

    key: str
    last_modified: datetime


@functools.cache
def store() -> LocalStore | S3Store:
    """The object store of this process, by the settings."""
    return open_store(settings().object_store)


def open_store(address: str) -> LocalStore | S3Store:
    """Open a store: ``file:///folder`` or ``s3://bucket/prefix``. Raises ValueError for others."""
    config = settings()
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
                # These options replace the one that the variable would set.
                "allow_http": os.environ.get("AWS_ALLOW_HTTP", "").lower() in ("true", "1"),
            },
            retry_config={
                "max_retries": 5,
                "retry_timeout": timedelta(seconds=config.object_retry_timeout_s),
            },
        )
    raise ValueError("object_store must be file:///folder or s3://bucket/prefix")


@contextlib.contextmanager
def _translate_store_errors() -> Iterator[None]:
    """Raise errors of the library as OSError: callers retry those."""
    try:
        yield
    except FileNotFoundError as error:
        raise ObjectNotFoundError(str(error).partition("\n")[0]) from error
    except BaseError as error:
        raise ObjectStoreUnavailableError(str(error).partition("\n")[0]) from error


def put_file(key: str, path: Path) -> None:
    """Store a file. The object appears complete or not at all."""
    with path.open("rb") as file, _translate_store_errors():
        obstore.put(store(), key, file, chunk_size=CHUNK)


async def put_stream(key: str, chunks: AsyncIterable[bytes]) -> None:
    """Store a stream. Nothing appears if the stream breaks."""
    with _translate_store_errors():
        await obstore.put_async(store(), key, chunks)


@contextlib.contextmanager
def interruptible(should_stop: Callable[[], bool]) -> Iterator[None]:
    """Let reads in this block end early: a data set of gigabytes takes minutes.

    ``should_stop`` is called before every chunk. If it returns true, the read raises
    ReadCancelledError.
    """
    token = _should_stop.set(should_stop)
    try:
        yield
    finally:
        _should_stop.reset(token)


def read(
    key: str, start: int = 0, end: int | None = None, chunk_bytes: int = CHUNK
) -> Iterator[bytes]:
    """The bytes from ``start`` to before ``end``, in chunks.

    Raises ReadCancelledError in a block of :func:`interruptible`.
    """
    with _translate_store_errors():
        # Each range is a request with a timeout and retries of its own.
        end = obstore.head(store(), key)["size"] if end is None else end
        for position in range(start, end, chunk_bytes):
            if _should_stop.get(_never)():
                raise ReadCancelledError(key)
            stop = min(end, position + chunk_bytes)
            yield bytes(obstore.get_range(store(), key, start=position, end=stop))


def _never() -> bool:
    return False


def fetch(keys: list[str], target: Path, sha256: str, chunk_bytes: int = CHUNK) -> None:
    """Copy an object, or the parts of one, to a file that appears only if its digest is right.

    Raises:
        CorruptBlobError: the bytes have another digest.
        FileNotFoundError: there is no such object.
        ReadCancelledError: in a block of :func:`interruptible`.
    """
    # A random name, because two slots may fetch the same object at the same time. A hidden name,
    # because the eviction of a cache folder leaves hidden files alone.
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(8)}.part")
    digest = hashlib.sha256()
    try:
        with temporary.open("xb") as file:
            for key in keys:
                _copy(key, file, digest, chunk_bytes)
            file.flush()
            os.fsync(file.fileno())  # a truncated file must never get the name of its digest
        if digest.hexdigest() != sha256:
            actual = digest.hexdigest()
            raise CorruptBlobError(f"the object {keys[0]} has SHA-256 {actual}, not {sha256}")
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def _copy(key: str, file: IO[bytes], digest: "hashlib._Hash", chunk_bytes: int) -> None:
    for chunk in read(key, chunk_bytes=chunk_bytes):
        digest.update(chunk)
        file.write(chunk)


def copy(source: str, target: str) -> None:
    """Copy within the store."""
    with _translate_store_errors():
        obstore.copy(store(), source, target)


def exists(key: str) -> bool:
    """Whether the object exists."""
    return last_modified(key) is not None


def last_modified(key: str) -> datetime | None:
    """When the object was last written; None if there is none."""
    try:
        with _translate_store_errors():
            return obstore.head(store(), key)["last_modified"]
    except FileNotFoundError:
        return None


def delete(key: str) -> None:
    """Delete an object, if it exists."""
    # A local folder reports a missing object, S3 does not.
    with contextlib.suppress(FileNotFoundError), _translate_store_errors():
        obstore.delete(store(), key)


def list_objects() -> Iterator[StoredObject]:
    """Every object, in no order."""
    with _translate_store_errors():
        for batch in obstore.list(store(), chunk_size=1000):
            for entry in batch:
                yield StoredObject(entry["path"], entry["last_modified"])


def check_available() -> None:
    """Raise ObjectStoreUnavailableError unless the store responds."""
    with _translate_store_errors():
        next(iter(obstore.list(store(), chunk_size=1)), None)
