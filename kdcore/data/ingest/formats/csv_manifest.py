"""Read an archive of images and CSV files with their paths, labels and splits.

The columns have names such as ``path``, ``label`` and ``split``. Without a column of splits, the
name of the table (``train.csv``), a folder of the image or a folder of the table says the split,
else it is train.
"""

import csv
import io
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import closing
from typing import IO, Any, NamedTuple

from kdcore.data.class_labels import InvalidLabelError, class_name_of, class_name_problem
from kdcore.data.ingest.archives.member_names import path_parts_of
from kdcore.data.ingest.archives.open_archive import MemberArchive
from kdcore.data.ingest.archives.safe_zip import ArchiveMember, UnreadableMemberError
from kdcore.data.ingest.base import IngestContext, LabeledImage
from kdcore.data.ingest.formats.image_folder import ImageFolderReader
from kdcore.data.ingest.splits import (
    first_folder_word,
    folder_word,
    may_mean_same,
    resolve_words,
    table_word,
)
from kdcore.data.types import SubsetName
from kdcore.runtime.errors import error_detail, join_names

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


_SUFFIXES = (".csv", ".tsv")
_TRIED_ROWS = 100
"""Rows of which one must name a file of the archive; other tables are about something else."""


def open_reader(context: IngestContext) -> "ManifestReader | None":
    """Return a reader for an archive with tables whose paths are files of the archive."""
    archive = context.archive
    tables = [m for m in archive.members if m.path_parts[-1].lower().endswith(_SUFFIXES)]
    if not tables:
        return None
    files = _Files(archive.members)
    manifests = [member for member in tables if _is_manifest(archive, member, files)]
    return ManifestReader(archive, context, manifests, files) if manifests else None


class _Files:
    """Finds the files of an archive by paths as tables have them."""

    def __init__(self, members: Iterable[ArchiveMember]) -> None:
        self._by_path = {member.path_parts: member for member in members}
        self._by_name: dict[str, list[ArchiveMember]] = defaultdict(list)
        for path_parts, member in self._by_path.items():
            name = path_parts[-1]
            self._by_name[name].append(member)
            if "." in name:
                self._by_name[name.rpartition(".")[0]].append(member)

    def find(self, path: str, folder: tuple[str, ...]) -> "_Match":
        """Return the file of a path: below ``folder``, of the archive, or with the same end.

        A path that is longer than that in the archive, or that lacks the ending of the name, is
        found if only one file fits, or one below ``folder``; several files are returned otherwise.
        """
        parts = tuple(part for part in path_parts_of(path) if part != "..")
        for exact in ((*folder, *parts), parts):
            if exact in self._by_path:
                return _Match([self._by_path[exact]], is_exact=True)
        named = self._by_name.get(parts[-1], []) if parts else []
        alike = [member for member in named if _ends_alike(member.path_parts[:-1], parts[:-1])]
        below = [member for member in alike if member.path_parts[: len(folder)] == folder]
        return _Match(below or alike, is_exact=False)


class _Match(NamedTuple):
    """The files that a path may be."""

    members: list[ArchiveMember]
    is_exact: bool
    """Whether the path is that of the file, and not only its end."""


def _ends_alike(first: tuple[str, ...], second: tuple[str, ...]) -> bool:
    common = min(len(first), len(second))
    return common == 0 or first[-common:] == second[-common:]


def _is_manifest(archive: MemberArchive, member: ArchiveMember, files: _Files) -> bool:
    try:
        for tried, row in enumerate(_read_rows(archive, member)):
            if tried == _TRIED_ROWS:
                return False
            if files.find(row.path, member.path_parts[:-1]).members:
                return True
    except (InvalidManifestError, UnreadableMemberError):
        return False
    return False


def _read_rows(
    archive: MemberArchive, member: ArchiveMember, others: list[str] | None = None
) -> Iterator[ManifestRow]:
    """Yield the rows of a table; names of columns that are not read are added to ``others``."""
    with archive.stream(member, count_bytes=False) as stream, closing(_RawStream(stream)) as raw:
        table = ManifestTable(io.BufferedReader(raw))
        if others is not None:
            others.extend(table.others)
        yield from table.rows()


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


class _Entry(NamedTuple):
    """One image of a table."""

    member: ArchiveMember
    label: str
    split_word: str | None
    source: str
    """The table, and the folder that says the split."""


class ManifestReader(ImageFolderReader):
    """Reads the images that tables name."""

    def __init__(
        self,
        archive: MemberArchive,
        context: IngestContext,
        tables: list[ArchiveMember],
        files: _Files,
    ) -> None:
        super().__init__(archive, context)
        self._tables = tables
        self._files = files
        self._other_folders: dict[tuple[str, str, str], list[str]] = defaultdict(list)
        """Images in a folder of another split than their table names: by table, word and folder."""

    def label_images(self) -> list[LabeledImage]:
        """Label the images of all tables; other files are ignored and named."""
        entries: dict[tuple[str, ...], _Entry] = {}
        for table in self._tables:
            others: list[str] = []
            try:
                for row in _read_rows(self.archive, table, others):
                    self.context.report_progress(0)
                    self._add_row(row, table, entries)
            except (InvalidManifestError, UnreadableMemberError) as error:
                self.problems.append(error_detail(table.name, str(error)))
            reason = f"is not a column of paths, labels or splits in {table.name}"
            self.context.summary.add_ignored(reason, others)
        known = {*entries, *(table.path_parts for table in self._tables)}
        others = [m.name for m in self.archive.members if m.path_parts not in known]
        self.context.summary.add_ignored("is not named in a table", others)
        for (name, word, folder), images in self._other_folders.items():
            text = f"{name} names images in {folder}/, which are read as {word}, as its name says"
            self.context.summary.add_warning(text, images)
        return self._assign_splits(list(entries.values()))

    def _add_row(
        self,
        row: ManifestRow,
        table: ArchiveMember,
        entries: dict[tuple[str, ...], _Entry],
    ) -> None:
        location = f"{table.name}, line {row.number}"
        match = self._files.find(row.path, table.path_parts[:-1])
        words = _split_words(row, table, match.members)
        try:
            label = class_name_of(row.label)
            problem = _row_problem(row, match.members, label, words.word)
            problem = problem or self._check_folder(row, table, match, words)
            if problem is None and match.members[0].path_parts in entries:
                problem = f"names {row.path} a second time; keep one line"
        except InvalidLabelError as error:
            problem = str(error)
        if problem is not None:
            self.problems.append(error_detail(location, problem))
            return
        source = f"{table.name} ({words.folder}/)" if words.folder else table.name
        (member,) = match.members
        entries[member.path_parts] = _Entry(member, label, words.word, source)

    def _check_folder(
        self, row: ManifestRow, table: ArchiveMember, match: _Match, words: "_SplitWords"
    ) -> str | None:
        """Return a problem if only the end of a path fits, in a folder of another split.

        An exact path is explicit: then the name of the table counts, with a warning.
        """
        by_table, by_image = words.table or words.table_folder, words.image
        if row.split is not None or by_table is None or by_image is None:
            return None
        if may_mean_same(by_table, by_image):
            return None
        (member,) = match.members
        folder = "/".join(member.path_parts[:-1])
        if match.is_exact:
            if words.table is not None:
                self._other_folders[table.name, words.table, folder].append(member.name)
            return None
        return (
            f"names {row.path!r}: the table names the split {by_table}, but only {member.name} "
            f"fits, which is in a folder of the split {by_image}; write the whole path, or add a "
            "column split"
        )

    def _assign_splits(self, entries: list[_Entry]) -> list[LabeledImage]:
        means = resolve_words(entry.split_word for entry in entries)
        images, sources = [], defaultdict[SubsetName, dict[str, None]](dict)
        for entry in entries:
            split = means[entry.split_word] if entry.split_word else "train"
            label = "" if split == "unlabeled" else entry.label
            images.append(LabeledImage(entry.member.path_parts, split, label, entry.member))
            sources[split][entry.source] = None
        self.context.summary.sources |= {
            split: join_names(list(sources[split])) for split in sources
        }
        return sorted(images, key=lambda image: (image.split, image.label, image.path_parts))


class _SplitWords(NamedTuple):
    """The words for the split of a row, in the order in which they count."""

    column: str | None
    """The text itself if it is no such word."""
    table: str | None
    image: str | None
    """Of the folders in the archive."""
    text: str | None
    """Of the folders in the table's path of the image."""
    table_folder: str | None
    image_folder: str = ""

    @property
    def word(self) -> str | None:
        return next((word for word in self[:5] if word is not None), None)

    @property
    def folder(self) -> str:
        """The folder of the image, if it decides."""
        return self.image_folder if self[:3] == (None, None, self.word) else ""


def _split_words(
    row: ManifestRow, table: ArchiveMember, members: list[ArchiveMember]
) -> _SplitWords:
    folders = members[0].path_parts[:-1] if members else ()
    depth = next((i for i, folder in enumerate(folders) if folder_word(folder)), -1)
    return _SplitWords(
        None if row.split is None else folder_word(row.split) or row.split,
        table_word(table.path_parts[-1]),
        first_folder_word(folders),
        first_folder_word(path_parts_of(row.path)[:-1]),
        first_folder_word(table.path_parts[:-1]),
        "/".join(folders[: depth + 1]),
    )


def _row_problem(
    row: ManifestRow, members: list[ArchiveMember], label: str, word: str | None
) -> str | None:
    if word is not None and folder_word(word) is None:
        return f"has the split {word!r}; train, val, test or unlabeled was expected"
    if not members:
        return f"names {row.path!r}, which is not in the archive"
    if len(members) > 1:
        listed = ", ".join(member.name for member in members[:3])
        return f"names {row.path!r}, which may be {listed}; write the whole path"
    if not label and word != "unlabeled":
        return f"has no label for {row.path!r}"
    return class_name_problem(label)
