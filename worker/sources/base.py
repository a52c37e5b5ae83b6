"""FileReader: lists and reads the files of a source; one class for folders, one for S3."""

from collections.abc import Iterator
from typing import Protocol

from kdcore.protocol.source_channel import ListedFile

MAX_FILES = 3_000_000
"""Files of one source: more than a data set may have images."""
CHANGED_MESSAGE = "changed after the files were listed; create the data set again when none changes"


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
