"""S3Reader: reads a prefix or one object of an S3 bucket, with the credentials of the sources."""

import time
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import obstore
import structlog
from obstore.exceptions import (
    BaseError,
    InvalidPathError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)
from obstore.store import S3Store

from kdcore.protocol.source_channel import ListedFile
from kdcore.schema.dataset_sources import S3_PREFIX, FileSource
from store.settings import settings
from worker.sources.base import (
    CHANGED_MESSAGE,
    MAX_FILES,
    SourceRefusedError,
    SourceUnavailableError,
)

if TYPE_CHECKING:
    from obstore import GetOptions

log = structlog.get_logger()
Result = TypeVar("Result")
_LIST_BATCH = 1000
RETRY_DELAYS_S = (0.5, 2.0, 5.0)
"""Delays after requests that the library has retried; then the job is started again later."""


class S3Reader:
    """Reads the objects below ``source``, or the object that ``source`` names."""

    num_threads = 16

    def __init__(
        self, source: FileSource, retry_delays_s: Sequence[float] = RETRY_DELAYS_S
    ) -> None:
        self.single = False
        self._delays_s = (*retry_delays_s, None)
        self._address = source.address
        self._bucket = source.bucket or ""
        self._key = "/".join(source.parts)
        self._store = _open_bucket(self._bucket)

    def close(self) -> None:
        """Do nothing: connections end with the store."""

    def list_files(self) -> Iterator[ListedFile]:
        """Yield the one object, or the objects below the prefix."""
        head = self._try(self._head) if self._key else None
        if head is not None:
            self.single = True
            yield ListedFile(self._key.rpartition("/")[2], head["size"], _version(head))
            return
        count = 0
        for batch in self._batches():
            for entry in batch:
                name = entry["path"].removeprefix(self._key).removeprefix("/")
                yield ListedFile(name, entry["size"], _version(entry))
            count += len(batch)
            if count > MAX_FILES:
                raise SourceRefusedError(f"{self._address} has more than {MAX_FILES} objects")
        if count == 0:
            raise SourceRefusedError(f"{self._address} has no objects")

    def _batches(self) -> Iterator[Any]:
        """Batches of the listing; each request is tried several times by the library."""
        batches = iter(obstore.list(self._store, self._key or None, chunk_size=_LIST_BATCH))
        while (batch := self._try(lambda: next(batches, None))) is not None:
            yield batch

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
            if (result.meta["size"], _version(result.meta)) != (file.size, file.version):
                raise SourceRefusedError(CHANGED_MESSAGE, file.name)
            return bytes(result.bytes())

        data = self._try(read_range, file.name)
        if len(data) != size:
            raise SourceRefusedError(CHANGED_MESSAGE, file.name)
        return data

    def _try(self, request: Callable[[], Result], name: str | None = None) -> Result:
        """Call, and call again after errors that may pass.

        Messages of the library are not shown: they may repeat responses with a key in them.
        """
        for delay in self._delays_s:
            try:
                return request()
            except (FileNotFoundError, PreconditionError):
                message = CHANGED_MESSAGE if name else f"{S3_PREFIX}{self._bucket} does not exist"
                raise SourceRefusedError(message, name) from None
            except (PermissionDeniedError, UnauthenticatedError):
                message = "may not be read with the credentials of the server"
                raise SourceRefusedError(
                    message if name else f"{self._address} {message}", name
                ) from None
            except InvalidPathError:
                message = "has an object whose name S3 clients cannot read, such as a//b"
                raise SourceRefusedError(f"{self._address} {message}") from None
            except BaseError as error:
                log.warning(
                    "source_request_failed", source=self._address, error=type(error).__name__
                )
                if delay is None:
                    break
                time.sleep(delay)
        raise SourceUnavailableError(f"{self._address} does not respond")


def _version(meta: Any) -> str:
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
            "virtual_hosted_style_request": False,
            "skip_signature": key is None,
            "s3_express": False,
            "request_payer": False,
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
