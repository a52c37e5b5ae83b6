"""Read an archive of images and tables (CSV, TSV, JSON lines) with their paths, labels and splits.

The columns have names such as ``path``, ``label`` and ``split``. Without a column of splits, the
name of the table (``train.csv``), a folder of the image or a folder of the table says the split,
else it is train.
"""

from collections import defaultdict
from collections.abc import Iterator
from typing import NamedTuple

from kdcore.data.class_labels import InvalidLabelError, class_name_of, class_name_problem
from kdcore.data.ingest.archives.member_names import path_parts_of
from kdcore.data.ingest.archives.open_archive import MemberArchive
from kdcore.data.ingest.archives.safe_zip import ArchiveMember, UnreadableMemberError
from kdcore.data.ingest.base import IngestContext, LabeledImage
from kdcore.data.ingest.formats.image_folder import ImageFolderReader
from kdcore.data.ingest.manifests.column_roles import ManifestColumns, UnreadTable
from kdcore.data.ingest.manifests.table_columns import (
    SAMPLED_ROWS,
    ColumnSample,
    FileMatch,
    ImageFiles,
    read_label,
)
from kdcore.data.ingest.manifests.table_rows import TABLE_SUFFIXES, InvalidManifestError, open_table
from kdcore.data.ingest.splits import (
    first_folder_word,
    folder_word,
    may_mean_same,
    resolve_words,
    table_word,
)
from kdcore.data.types import SubsetName
from kdcore.runtime.errors import error_detail, join_names


class ManifestRow(NamedTuple):
    """One image of a table."""

    number: int
    """The line in the file, from 1."""
    path: str
    label: str | None
    """None if several or no columns of classes hold 1."""
    split: str | None
    """None without a column of splits."""


class _Manifest(NamedTuple):
    """A table and the meaning of its columns."""

    member: ArchiveMember
    columns: ManifestColumns

    @property
    def name(self) -> str:
        return self.member.name

    @property
    def folder(self) -> tuple[str, ...]:
        return self.member.path_parts[:-1]


def open_reader(context: IngestContext) -> "ManifestReader | None":
    """Return a reader for an archive with tables whose paths are files of the archive."""
    archive = context.archive
    tables = [member for member in archive.members if _is_table(member)]
    if not tables:
        return None
    files = ImageFiles(member for member in archive.members if not _is_table(member))
    manifests = []
    for member in tables:
        names, columns = _sample_table(context, member, files)
        if columns is not None and columns.has_labels:
            manifests.append(_Manifest(member, columns))
        elif columns is not None:
            context.unread_tables.append(UnreadTable(member, names, columns))
    return ManifestReader(archive, context, manifests, files) if manifests else None


def _is_table(member: ArchiveMember) -> bool:
    return member.path_parts[-1].lower().endswith(TABLE_SUFFIXES)


def _sample_table(
    context: IngestContext, member: ArchiveMember, files: ImageFiles
) -> tuple[list[str], ManifestColumns | None]:
    """Return the columns of a table and, if cells are paths of files, their meaning."""
    sample = ColumnSample(())
    names: list[str] = []
    try:
        with open_table(context.archive, member) as table:
            names = table.columns
            sample = ColumnSample(names)
            for tried, (_, cells) in enumerate(table.rows()):
                if tried == SAMPLED_ROWS:
                    break
                sample.add(cells, files, member.path_parts[:-1])
    except (InvalidManifestError, UnreadableMemberError) as error:
        # A manifest is read again, and then the error is one of its problems.
        if sample.choose_columns() is None:
            context.summary.add_warning(f"{member.name} is not read as a table: {error}")
    return names, sample.choose_columns()


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
        tables: list[_Manifest],
        files: ImageFiles,
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
                for row in self._read_rows(table, others):
                    self.context.report_progress(0)
                    self._add_row(row, table, entries)
            except (InvalidManifestError, UnreadableMemberError) as error:
                self.problems.append(error_detail(table.name, str(error)))
            reason = f"is not a column of paths, labels or splits in {table.name}"
            self.context.summary.add_ignored(reason, others)
            self.context.summary.add_unread_splits(others, table.name)
        known = {*entries, *(table.member.path_parts for table in self._tables)}
        others = [m.name for m in self.archive.members if m.path_parts not in known]
        self.context.summary.add_ignored("is not named in a table", others)
        for (name, word, folder), images in self._other_folders.items():
            text = f"{name} names images in {folder}/, which are read as {word}, as its name says"
            self.context.summary.add_warning(text, images)
        return self._assign_splits(list(entries.values()))

    def _read_rows(self, table: _Manifest, others: list[str]) -> Iterator[ManifestRow]:
        """Yield the rows; names of columns that are not read are added to ``others``."""
        columns = table.columns
        with open_table(self.archive, table.member) as rows:
            others.extend(columns.names_of_others(rows.columns))
            for number, cells in rows.rows():
                split = None if columns.split is None else cells[columns.split].strip()
                label = read_label(cells, rows.columns, columns)
                yield ManifestRow(number, cells[columns.path].strip(), label, split)

    def _add_row(
        self,
        row: ManifestRow,
        table: _Manifest,
        entries: dict[tuple[str, ...], _Entry],
    ) -> None:
        location = f"{table.name}, line {row.number}"
        match = self._files.find(row.path, table.folder)
        words = _split_words(row, table, match.members)
        try:
            label = class_name_of(row.label or "")
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
        self, row: ManifestRow, table: _Manifest, match: FileMatch, words: "_SplitWords"
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


def _split_words(row: ManifestRow, table: _Manifest, members: list[ArchiveMember]) -> _SplitWords:
    folders = members[0].path_parts[:-1] if members else ()
    depth = next((i for i, folder in enumerate(folders) if folder_word(folder)), -1)
    return _SplitWords(
        None if row.split is None else folder_word(row.split) or row.split,
        table_word(table.member.path_parts[-1]),
        first_folder_word(folders),
        first_folder_word(path_parts_of(row.path)[:-1]),
        first_folder_word(table.folder),
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
    if row.label is None:
        return "has not exactly one 1 in the columns of the classes"
    if not label and word != "unlabeled":
        return f"has no label for {row.path!r}"
    return class_name_problem(label)
