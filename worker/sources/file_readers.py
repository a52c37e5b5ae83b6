"""FileReader: lists and reads the files of a source; FolderReader: in a folder of this machine.

:class:`FolderReader` never reads what lies outside of the allowed folder, though names may lead
through links and links may change at any time: a file is first opened without access to its content
(``O_PATH``); the path of that descriptor, which the kernel knows, must be below the allowed folder;
then the same descriptor is opened for reading.
"""

import contextlib
import os
import stat
from collections.abc import Iterator
from typing import Protocol

from kdcore.protocol.source_channel import ListedFile
from kdcore.schema.dataset_sources import FileSource

MAX_FILES = 3_000_000
"""Files of one source: more than a data set may have images."""
CHANGED_MESSAGE = "changed after the files were listed; create the data set again when none changes"
_OUTSIDE = "is a link that leaves the folder; put the file itself into the folder"
_FOLDER_LINK = "is a link to a folder; put the folder itself there"
_NOT_REGULAR = "is not a regular file"
_O_PATH = getattr(os, "O_PATH", None)
"""Only Linux has it."""
MAX_DEPTH = 100
"""Folders around a file; the walk needs a descriptor and a stack frame for each."""


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
            if folders and folder.count("/") >= MAX_DEPTH:
                message = f"{self._address} has more than {MAX_DEPTH} folders inside each other"
                raise SourceRefusedError(message)
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
        """A descriptor of a path, without access to its content. Raises _OutsideError, OSError.

        A link whose target cannot be opened is outside, too: errors show nothing about files there.
        """
        assert self._root is not None and _O_PATH is not None  # noqa: S101, PT018 - set by the list
        try:
            descriptor = os.open(path, _O_PATH, dir_fd=self._root)
        except OSError:
            if self._has_link(path):
                raise _OutsideError from None
            raise
        root, target = (os.readlink(f"/proc/self/fd/{fd}") for fd in (self._root, descriptor))
        if target != root and not target.startswith(f"{root}/"):
            os.close(descriptor)
            raise _OutsideError
        return int(descriptor)

    def _has_link(self, path: str) -> bool:
        """Whether the first part of a path that is no folder is a link."""
        parts = path.split("/")
        for length in range(1, len(parts) + 1):
            try:
                mode = os.lstat("/".join(parts[:length]), dir_fd=self._root).st_mode
            except OSError:
                return False
            if not stat.S_ISDIR(mode):
                return stat.S_ISLNK(mode)
        return False

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
    # Programs may set the time of a change of the content, but not that of the inode.
    return f"{status.st_ino}-{status.st_mtime_ns}-{status.st_ctime_ns}"


def _check_version(file: ListedFile, descriptor: int) -> None:
    status = os.fstat(descriptor)
    is_listed = (status.st_size, _version(status)) == (file.size, file.version)
    if not (stat.S_ISREG(status.st_mode) and is_listed):
        raise SourceRefusedError(CHANGED_MESSAGE, file.name)


def _raise(error: OSError) -> None:
    raise error
