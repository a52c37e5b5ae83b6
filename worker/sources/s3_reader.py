"""S3Reader: lists and reads the objects of a source, with the credentials of the sources."""

import asyncio
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeVar

import obstore
import structlog
from anyio.from_thread import BlockingPortal, start_blocking_portal
from obstore.exceptions import (
    BaseError,
    GenericError,
    InvalidPathError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)
from obstore.store import S3Store

from kdcore.protocol.source_channel import ListedFile
from kdcore.schema.dataset_sources import S3_PREFIX, FileSource
from store.settings import settings
from worker.sources.file_readers import (
    CHANGED_MESSAGE,
    MAX_FILES,
    SourceRefusedError,
    SourceUnavailableError,
)

if TYPE_CHECKING:
    from obstore import GetOptions

log = structlog.get_logger()
Result = TypeVar("Result")
Delays = tuple[float | None, ...]
_STATUS = re.compile(r"status code: (\d{3})")
LIST_BATCH = 200
"""Objects that are taken from a list at once."""
RETRY_DELAYS_S = (0.5, 2.0, 5.0)
"""Delays after requests that the library has retried; then the job is started again later."""
LIST_TIMEOUT_S = 300.0
"""Limit of one batch of a list; a server that sends empty pages would send them forever."""
_CLOSED_CHECK_S = 0.5


class S3Reader:
    """Reads the objects below ``source``, or the object that ``source`` names."""

    num_threads = 16

    def __init__(
        self, source: FileSource, retry_delays_s: Sequence[float] = RETRY_DELAYS_S
    ) -> None:
        self.single = False
        self._delays_s: Delays = (*retry_delays_s, None)
        self._address = source.address.removesuffix("/")
        self._bucket = source.bucket or ""
        self._key = "/".join(source.parts)
        self._is_prefix = source.is_prefix
        self._closed = threading.Event()
        self._store = _open_bucket(self._bucket)

    def close(self) -> None:
        """End a list that still runs; connections end with the store."""
        self._closed.set()

    def list_files(self) -> Iterator[ListedFile]:
        """Yield the one object, or the objects below the prefix."""
        head = self._try(self._head) if self._key and not self._is_prefix else None
        entries = self._entries()
        first = next(entries, None)
        # An empty object of this name beside others marks a folder.
        if head is not None and first is not None and head["size"]:
            raise SourceRefusedError(
                f"{self._address} is an object, and {first.name} is below {self._address}/; "
                "name that prefix with its slash, or rename the object"
            )
        if first is not None:
            yield first
            yield from entries
        elif head is not None:
            self.single = True
            yield ListedFile(self._key.rpartition("/")[2], head["size"], _object_version(head))
        else:
            raise SourceRefusedError(f"{self._address} has no objects")

    def _entries(self) -> Iterator[ListedFile]:
        """The objects below the prefix, without one that marks the prefix itself."""
        count = 0
        for batch in self._batches():
            for entry in batch:
                name = entry["path"].removeprefix(self._key).removeprefix("/")
                if name:
                    yield ListedFile(name, entry["size"], _object_version(entry))
            count += len(batch)
            if count > MAX_FILES:
                raise SourceRefusedError(f"{self._address} has more than {MAX_FILES} objects")

    def _batches(self) -> Iterator[Any]:
        """Batches of the list. A failed list is not continued: it would end as if it were whole."""
        firsts: set[str] = set()
        last = ""
        with start_blocking_portal() as portal:  # this thread may have an event loop
            for batch in self._stream(portal, None):
                if batch[0]["path"] in firsts:
                    raise self._list_error(f"the server lists {batch[0]['path']} again")
                firsts.add(batch[0]["path"])
                last = max(last, *(entry["path"] for entry in batch), key=_encode)
                yield batch
            for batch in self._stream(portal, last) if last else ():
                if any(_encode(entry["path"]) > _encode(last) for entry in batch):
                    raise self._list_error(f"the server ended the list at {last}, before its end")
                break

    def _stream(self, portal: BlockingPortal, offset: str | None) -> Iterator[Any]:
        batches = obstore.list(self._store, self._key or None, offset=offset, chunk_size=LIST_BATCH)
        while batch := self._try(lambda: portal.call(self._next_batch, batches), delays_s=(None,)):
            yield batch

    async def _next_batch(self, batches: Any) -> Any:
        """The next batch; None after the last one. Ends the request when the reader is closed."""
        task = asyncio.ensure_future(_take_next(batches))
        end_s = time.monotonic() + LIST_TIMEOUT_S
        try:
            while not (await asyncio.wait({task}, timeout=_CLOSED_CHECK_S))[0]:
                if self._closed.is_set():
                    raise SourceUnavailableError(f"{self._address} was closed")
                if time.monotonic() > end_s:
                    raise self._list_error(f"no objects came for {LIST_TIMEOUT_S:.0f} s")
            return task.result()
        finally:
            task.cancel()

    def _list_error(self, problem: str) -> SourceRefusedError:
        return SourceRefusedError(f"{self._address} cannot be listed: {problem}")

    def _head(self) -> Any:
        try:
            return obstore.head(self._store, self._key)
        except FileNotFoundError:
            return None

    def read(self, file: ListedFile, start: int, size: int) -> bytes:
        """Read a range of the version that was listed, by its ETag."""
        path = self._key if self.single else "/".join(filter(None, (self._key, file.name)))

        def read_range() -> bytes:
            options: GetOptions = {"range": (start, start + size)}
            if file.version.startswith('"'):
                options["if_match"] = file.version
            result = obstore.get(self._store, path, options=options)
            if (result.meta["size"], _object_version(result.meta)) != (file.size, file.version):
                raise SourceRefusedError(CHANGED_MESSAGE, file.name)
            return bytes(result.bytes())

        data = self._try(read_range, file.name)
        if len(data) != size:
            raise SourceRefusedError(CHANGED_MESSAGE, file.name)
        return data

    def _try(
        self,
        request: Callable[[], Result],
        name: str | None = None,
        delays_s: Delays | None = None,
    ) -> Result:
        """Call, and call again after errors that may pass.

        Messages of the library are not shown: they may repeat responses with a key in them.
        """
        for delay in delays_s or self._delays_s:
            try:
                return request()
            except (BaseError, FileNotFoundError) as error:
                refusal = self._refusal(error, name)
                if refusal is not None:
                    raise refusal from None
                log.warning(
                    "source_request_failed", source=self._address, error=type(error).__name__
                )
                if delay is None:
                    break
                time.sleep(delay)
        raise SourceUnavailableError(f"{self._address} does not respond")

    def _refusal(self, error: Exception, name: str | None) -> SourceRefusedError | None:
        """The refusal for an error that would come again; None for others."""
        status = _status_of(error)
        if (
            isinstance(error, FileNotFoundError | PreconditionError)
            or status == HTTPStatus.NOT_FOUND
        ):
            message = CHANGED_MESSAGE if name else f"{S3_PREFIX}{self._bucket} does not exist"
            return SourceRefusedError(message, name)
        is_denied = isinstance(error, PermissionDeniedError | UnauthenticatedError)
        if is_denied or status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            message = "may not be read with the credentials of the server"
            return SourceRefusedError(message if name else f"{self._address} {message}", name)
        if isinstance(error, InvalidPathError):
            message = "has an object whose name S3 clients cannot read, such as a//b"
            return SourceRefusedError(f"{self._address} {message}")
        return None


def _status_of(error: Exception) -> int | None:
    """The HTTP status of a list that failed: the library has no type for it."""
    match = _STATUS.search(str(error)) if isinstance(error, GenericError) else None
    return int(match[1]) if match else None


async def _take_next(batches: Any) -> Any:
    return await anext(batches, None)


def _encode(path: str) -> bytes:
    """The bytes that S3 sorts by."""
    return path.encode("utf-8", "surrogateescape")


def _object_version(meta: Any) -> str:
    return str(meta["e_tag"] or meta["last_modified"].isoformat())


def _open_bucket(bucket: str) -> S3Store:
    """Open a bucket with the settings of the sources, whatever ``AWS_`` variables say.

    Those are of the object store; its credentials must not be sent to another server.
    """
    config = settings()
    region = config.sources_s3_region
    endpoint = config.sources_s3_endpoint or f"https://s3.{region}.amazonaws.com"
    key = config.sources_s3_access_key_id
    return S3Store(
        bucket,
        config={
            "region": region,
            "endpoint": endpoint,
            "aws_endpoint_url_s3": endpoint,  # its variable has precedence over `endpoint`
            "virtual_hosted_style_request": False,
            "skip_signature": key is None,
            "s3_express": False,
            "request_payer": False,
            # Without effect on reads; those of the variables would send the store's own key.
            "server_side_encryption": "AES256",
            "sse_bucket_key_enabled": False,
            "sse_customer_key_base64": "",
            "sse_kms_key_id": "",
        },
        client_options={
            "timeout": timedelta(seconds=config.object_timeout_s),
            "connect_timeout": timedelta(seconds=3),
            "allow_http": endpoint.startswith("http://"),
        },
        retry_config={
            "max_retries": 5,
            "retry_timeout": timedelta(seconds=config.object_retry_timeout_s),
        },
        credential_provider=None if key is None else _credentials,
    )


def _credentials() -> Any:
    config = settings()
    key, secret = config.sources_s3_access_key_id, config.sources_s3_secret_access_key
    token = config.sources_s3_session_token
    return {
        "access_key_id": key.get_secret_value() if key else "",
        "secret_access_key": secret.get_secret_value() if secret else "",
        "token": token.get_secret_value() if token else None,
        "expires_at": None,
    }
