"""ManifestTable: a CSV file with the paths and labels of images, and their splits."""

import csv
from collections.abc import Iterable, Iterator
from typing import IO, NamedTuple

_PATH_COLUMNS = (
    *("path", "file", "filename", "file_name", "filepath", "file_path"),
    *("image", "image_path", "img", "img_path", "image_name", "img_name", "image_id", "id"),
)
_LABEL_COLUMNS = ("label", "class", "class_name", "target", "category", "label_name", "class_id")
_SPLIT_COLUMNS = ("split", "set", "subset", "partition")
_DELIMITERS = ",;\t|"
_MAX_LINE_BYTES = 1 << 20


class InvalidManifestError(Exception):
    """A table is unusable; the message says why."""


class ManifestRow(NamedTuple):
    """One image of a table."""

    number: int
    """The line in the file, from 1."""
    path: str
    label: str
    split: str | None
    """None without a column of splits."""


class ManifestTable:
    """The rows of a table in UTF-8; the first row names the columns.

    Raises :class:`InvalidManifestError` for a table without columns of paths and labels.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        self._lines = _read_lines(stream)
        header = next(self._lines, "")
        delimiter = max(_DELIMITERS, key=header.count)
        self._rows = csv.reader(self._with_header(header), delimiter=delimiter, strict=True)
        try:
            self._columns = [name.strip().lower() for name in next(self._rows, [])]
        except csv.Error as error:
            raise InvalidManifestError(f"is no table: {error}") from error
        path, label = self._index(_PATH_COLUMNS), self._index(_LABEL_COLUMNS)
        if path is None or label is None:
            raise InvalidManifestError("has no columns of paths and labels")
        self._path, self._label, self._split = path, label, self._index(_SPLIT_COLUMNS)
        used = (path, label, self._split)
        self.others = [name for i, name in enumerate(self._columns) if i not in used]
        """Names of the columns that are not read."""

    def _with_header(self, header: str) -> Iterator[str]:
        yield header
        yield from self._lines

    def _index(self, names: Iterable[str]) -> int | None:
        return next((self._columns.index(name) for name in names if name in self._columns), None)

    def rows(self) -> Iterator[ManifestRow]:
        """Yield every row that is not empty. Raises :class:`InvalidManifestError`."""
        try:
            for values in self._rows:
                if not any(map(str.strip, values)):
                    continue
                number = self._rows.line_num
                if len(values) != len(self._columns):
                    raise InvalidManifestError(
                        f"line {number} has {len(values)} values, but the first line names "
                        f"{len(self._columns)} columns"
                    )
                split = None if self._split is None else values[self._split].strip()
                path, label = values[self._path].strip(), values[self._label]
                yield ManifestRow(number, path, label, split)
        except csv.Error as error:
            raise InvalidManifestError(f"line {self._rows.line_num}: {error}") from error


def _read_lines(stream: IO[bytes]) -> Iterator[str]:
    number = 0
    while line := stream.readline(_MAX_LINE_BYTES):
        number += 1
        if len(line) == _MAX_LINE_BYTES:
            raise InvalidManifestError(f"has a line of more than {_MAX_LINE_BYTES} bytes")
        try:
            yield line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            problem = f"line {number} is not UTF-8: {error.reason}; save the table as UTF-8"
            raise InvalidManifestError(problem) from error
