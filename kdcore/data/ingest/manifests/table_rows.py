"""Table: the rows of a CSV, TSV or JSON-lines file in UTF-8."""

import csv
import io
import json
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import IO, Any

from kdcore.data.ingest.archives.open_archive import MemberArchive
from kdcore.data.ingest.archives.safe_zip import ArchiveMember

TABLE_SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson")
_JSON_SUFFIXES = (".jsonl", ".ndjson")
_DELIMITERS = ",;\t|"
_MAX_LINE_BYTES = 1 << 20


class InvalidManifestError(Exception):
    """A table is unusable; the message says why."""


class Table:
    """The rows of one file. Raises :class:`InvalidManifestError` if it is no table."""

    columns: list[str]
    """Names in the first line, or keys of the first object, without spaces at their ends."""

    def __init__(self, stream: IO[bytes], name: str) -> None:
        lines = _read_lines(stream)
        if name.lower().endswith(_JSON_SUFFIXES):
            self._rows = _read_objects(lines)
        else:
            self._rows = _read_csv(lines)
        self.columns = [column.strip() for column in next(self._rows, (0, []))[1]]

    def rows(self) -> Iterator[tuple[int, list[str]]]:
        """Yield line and cells of every row that is not empty, one cell for each column.

        Raises :class:`InvalidManifestError`.
        """
        for number, cells in self._rows:
            if not any(map(str.strip, cells)):
                continue
            if len(cells) != len(self.columns):
                raise InvalidManifestError(
                    f"line {number} has {len(cells)} values, but the first line names "
                    f"{len(self.columns)} columns"
                )
            yield number, cells


def _read_csv(lines: Iterator[str]) -> Iterator[tuple[int, list[str]]]:
    """Yield the columns and the rows, with their lines."""
    header = next(lines, "")

    def with_header() -> Iterator[str]:
        yield header
        yield from lines

    delimiter = max(_DELIMITERS, key=header.count)
    reader = csv.reader(with_header(), delimiter=delimiter, strict=True)
    try:
        for cells in reader:
            yield reader.line_num, cells
    except csv.Error as error:
        raise InvalidManifestError(f"line {reader.line_num}: {error}") from error


def _read_objects(lines: Iterator[str]) -> Iterator[tuple[int, list[str]]]:
    """Yield the keys of the first object, then the values of every object, with their lines."""
    keys: list[str] | None = None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InvalidManifestError(f"line {number} is not JSON: {error}") from error
        if not isinstance(row, dict):
            raise InvalidManifestError(f"line {number} is not a JSON object")
        if keys is None:
            keys = list(row)
            yield number, keys
        if unknown := [key for key in row if key not in keys]:
            raise InvalidManifestError(f"line {number} has {unknown[0]!r}, which line 1 lacks")
        yield number, [_to_cell(row.get(key)) for key in keys]


def _to_cell(value: object) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value)


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


@contextmanager
def open_table(archive: MemberArchive, member: ArchiveMember) -> Iterator[Table]:
    """Open a table of an archive. Raises :class:`InvalidManifestError`."""
    with archive.stream(member, count_bytes=False) as stream, closing(_RawStream(stream)) as raw:
        yield Table(io.BufferedReader(raw), member.path_parts[-1])


class _RawStream(io.RawIOBase):
    """A member as a file."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        data = self._stream.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)
