"""FileReader: lists and reads the files of a source, in a folder of this machine or in S3.

:class:`FolderReader` never reads what lies outside of the allowed folder, though names may lead
through links and links may change at any time: a file is first opened without access to its content
(``O_PATH``); the path of that descriptor, which the kernel knows, must be below the allowed folder;
then the same descriptor is opened for reading. :class:`S3Reader` has the credentials of sources.
"""

import contextlib
import os
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

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

if TYPE_CHECKING:
    from obstore import GetOptions

log = structlog.get_logger()
Result = TypeVar("Result")
MAX_FILES = 3_000_000
"""Files of one source: more than a data set may have images."""
CHANGED_MESSAGE = "changed after the files were listed; create the data set again when none changes"
_OUTSIDE = "is a link that leaves the folder; put the file itself into the folder"
_FOLDER_LINK = "is a link to a folder; put the folder itself there"
_NOT_REGULAR = "is not a regular file"
_O_PATH = getattr(os, "O_PATH", None)
"""Only Linux has it."""
_LIST_BATCH = 1000
RETRY_DELAYS_S = (0.5, 2.0, 5.0)
"""Delays after requests that the library has retried; then the job is started again later."""


class SourceRefusedError(Exception):
    """The source cannot be read, and a retry would fail, too; ``name`` is the file at fault."""

    def __init__(self, message: str, name: str | None = None) -> None:
        super().__init__(message)
        self.name = name


class SourceUnavailableError(Exception):
    """The source did not respond; a later run may read it."""


class FileReader(Protocol):
    """Reads the files of one source. Threads may share it."""

    single: bool
    """Whether the source is one file; known when the list has ended."""
    num_threads: int
    """How many reads at once make it fastest."""

    def list_files(self) -> Iterator[ListedFile]:
        """Yield every file. Raises SourceRefusedError or SourceUnavailableError."""
        ...

    def read(self, file: ListedFile, start: int, size: int) -> bytes:
        """Return exactly ``size`` bytes from ``start`` on, of the version that was listed.

        Raises SourceRefusedError for a file that is gone or changed, or SourceUnavailableError.
        """
        ...

    def close(self) -> None:
        """Release what it holds."""
        ...


class _OutsideError(Exception):
    """A name leads out of the allowed folder."""


class FolderReader:
    """Reads ``source``, which is ``allowed`` or below it."""

    num_threads = 2

    def __init__(self, allowed: FileSource, source: FileSource) -> None:
        self.single = False
        self._address = source.address
        self._root_path = "/" + "/".join(allowed.parts)
        self._below = "/".join(source.parts[len(allowed.parts) :]) or "."
        self._root: int | None = None

    def close(self) -> None:
        """Close the folder."""
        if self._root is not None:
            os.close(self._root)
            self._root = None

    def list_files(self) -> Iterator[ListedFile]:
        """Yield the files, folder by folder, and the entries that cannot be read."""
        if _O_PATH is None:
            raise SourceRefusedError(f"{self._address} cannot be read: this needs Linux")
        with self._refuse_errors():
            self._root = os.open(self._root_path, os.O_RDONLY | os.O_DIRECTORY)
            with _closing(self._open_below(self._below)) as top:
                status = os.fstat(top)
                self.single = stat.S_ISREG(status.st_mode)
                if self.single:
                    name = self._below.rpartition("/")[2]
                    yield ListedFile(name, status.st_size, _version(status))
                elif stat.S_ISDIR(status.st_mode):
                    yield from self._walk(top)
                else:
                    raise SourceRefusedError(f"{self._address} {_NOT_REGULAR}")

    def _walk(self, top: int) -> Iterator[ListedFile]:
        count = 0
        for folder, folders, names, descriptor in os.fwalk(
            ".", dir_fd=top, onerror=_raise, follow_symlinks=False
        ):
            folders.sort()
            for name in sorted([*names, *folders]):
                path = os.path.normpath(os.path.join(folder, name))
                file = self._describe(path, name, descriptor)
                if file is not None:
                    count += 1
                    yield file
            if count > MAX_FILES:
                raise SourceRefusedError(f"{self._address} has more than {MAX_FILES} files")

    def _describe(self, path: str, name: str, folder: int) -> ListedFile | None:
        """The file, or what is wrong with it; None for a folder."""
        status = os.stat(name, dir_fd=folder, follow_symlinks=False)
        if stat.S_ISDIR(status.st_mode):
            return None
        if stat.S_ISLNK(status.st_mode):
            try:
                descriptor = self._open_below(os.path.join(self._below, path))
            except (_OutsideError, OSError):
                # The same for a target that exists and for one that does not.
                return ListedFile(path, 0, "", _OUTSIDE)
            with _closing(descriptor):
                status = os.fstat(descriptor)
            if stat.S_ISDIR(status.st_mode):
                return ListedFile(path, 0, "", _FOLDER_LINK)
        if not stat.S_ISREG(status.st_mode):
            return ListedFile(path, 0, "", _NOT_REGULAR)
        return ListedFile(path, status.st_size, _version(status))

    def read(self, file: ListedFile, start: int, size: int) -> bytes:
        """Read a range; the file must be the one that was listed, before and after."""
        path = self._below if self.single else os.path.join(self._below, file.name)
        try:
            with _closing(self._open_below(path)) as handle:
                _check_version(file, handle)
                with _closing(os.open(f"/proc/self/fd/{handle}", os.O_RDONLY)) as descriptor:
                    data = _read_range(descriptor, start, size)
                    _check_version(file, descriptor)
        except _OutsideError:
            raise SourceRefusedError(_OUTSIDE, file.name) from None
        except (FileNotFoundError, NotADirectoryError):
            raise SourceRefusedError(CHANGED_MESSAGE, file.name) from None
        except PermissionError:
            raise SourceRefusedError("may not be read by the worker", file.name) from None
        except OSError as error:
            message = f"{self._address} cannot be read: {error.strerror}"
            raise SourceUnavailableError(message) from error
        if len(data) < size:
            raise SourceRefusedError(CHANGED_MESSAGE, file.name)
        return data

    def _open_below(self, path: str) -> int:
        """A descriptor of a path, without access to its content. Raises _OutsideError, OSError."""
        assert self._root is not None and _O_PATH is not None  # noqa: S101, PT018 - set by the list
        descriptor = os.open(path, _O_PATH, dir_fd=self._root)
        root, target = (os.readlink(f"/proc/self/fd/{fd}") for fd in (self._root, descriptor))
        if target != root and not target.startswith(f"{root}/"):
            os.close(descriptor)
            raise _OutsideError
        return int(descriptor)

    @contextlib.contextmanager
    def _refuse_errors(self) -> Iterator[None]:
        """Raise SourceRefusedError for what cannot be listed."""
        try:
            yield
        except _OutsideError:
            raise SourceRefusedError(f"{self._address} {_OUTSIDE}") from None
        except FileNotFoundError:
            raise SourceRefusedError(f"{self._address} does not exist on the worker") from None
        except OSError as error:
            message = f"{self._address} cannot be listed by the worker: {error.strerror}"
            raise SourceRefusedError(message) from error


@contextlib.contextmanager
def _closing(descriptor: int) -> Iterator[int]:
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _read_range(descriptor: int, start: int, size: int) -> bytes:
    parts = []
    while size > 0 and (part := os.pread(descriptor, size, start)):
        parts.append(part)
        start, size = start + len(part), size - len(part)
    return b"".join(parts)


def _version(status: os.stat_result) -> str:
    return f"{status.st_ino}-{status.st_mtime_ns}"


def _check_version(file: ListedFile, descriptor: int) -> None:
    status = os.fstat(descriptor)
    is_listed = (status.st_size, _version(status)) == (file.size, file.version)
    if not (stat.S_ISREG(status.st_mode) and is_listed):
        raise SourceRefusedError(CHANGED_MESSAGE, file.name)


def _raise(error: OSError) -> None:
    raise error


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
            yield ListedFile(self._key.rpartition("/")[2], head["size"], _object_version(head))
            return
        count = 0
        for batch in self._batches():
            for entry in batch:
                name = entry["path"].removeprefix(self._key).removeprefix("/")
                yield ListedFile(name, entry["size"], _object_version(entry))
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
            if (result.meta["size"], _object_version(result.meta)) != (file.size, file.version):
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
