"""Read Parquet files in the layout of Hugging Face: a column of images and one of labels.

An upload is one file, or a zip or tar of files, whose names say the split
(``train-00000-of-00002.parquet``), or a column of splits does. Images are encoded files, in a
column of bytes or of structs with the field ``bytes``. Files of ``datasets`` name the classes in
the metadata of their schema.

Formats: https://parquet.apache.org/docs/file-format, https://huggingface.co/docs/hub/datasets-image
"""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from kdcore.data import decode
from kdcore.data.class_labels import InvalidLabelError, class_name_problem, index_warning
from kdcore.data.image_signature import has_image_name
from kdcore.data.ingest.archives.byte_limit import ByteLimit
from kdcore.data.ingest.archives.safe_zip import ArchiveMember, UnreadableMemberError
from kdcore.data.ingest.base import ImageFormat, IngestContext, LabeledImage, Pixels, ScannedImage
from kdcore.data.ingest.parquet_columns import (
    InvalidTableError,
    TableColumns,
    choose_columns,
    image_bytes,
    name_label,
)
from kdcore.data.ingest.splits import (
    assign_shards,
    folder_word,
    is_unlabeled_path,
    may_mean_same,
    resolve_words,
)
from kdcore.data.types import SubsetName
from kdcore.protocol.events import ErrorDetail
from kdcore.runtime.errors import error_detail, to_printable

_MAGIC = b"PAR1"
_SUFFIX = ".parquet"
_CHUNK = 1 << 20
_MAX_WORD = 100


class _Shard(NamedTuple):
    """One file; the upload itself if it has no member."""

    path_parts: tuple[str, ...]
    member: ArchiveMember | None

    @property
    def name(self) -> str:
        return "/".join(self.path_parts)


class _ByteCounter:
    """Counts the bytes of a file: those that its footer names, then those that exceed them."""

    def __init__(self, limit: ByteLimit, expected: int) -> None:
        limit.add(expected)
        self._limit = limit
        self._expected = expected

    def add(self, size: int) -> None:
        """Count bytes that were read. Raises :class:`UserError` above the limit."""
        self._limit.add(max(0, size - self._expected))
        self._expected = max(0, self._expected - size)


class _Row(NamedTuple):
    """One row; ``label`` is empty for an unlabeled image."""

    image: object
    label: str
    split: SubsetName


def open_reader(context: IngestContext) -> "ParquetReader | None":
    """Return a reader for a Parquet file, and for an archive of them without images."""
    if context.read_start(len(_MAGIC)) == _MAGIC:
        return ParquetReader([_Shard(("the upload",), None)], context)
    members = context.archive.members
    shards = [
        _Shard(member.path_parts, member)
        for member in sorted(members, key=lambda member: member.path_parts)
        if member.path_parts[-1].lower().endswith(_SUFFIX)
    ]
    if not shards or any(has_image_name(member.path_parts[-1]) for member in members):
        return None
    others = [m.name for m in members if not m.path_parts[-1].lower().endswith(_SUFFIX)]
    context.summary.add_ignored(f"is not a table ({_SUFFIX})", others)
    return ParquetReader(shards, context)


class ParquetReader:
    """Reads the rows of all files, one at a time."""

    def __init__(self, shards: Sequence[_Shard], context: IngestContext) -> None:
        self._shards = shards
        self._context = context
        self.classes: tuple[str, ...] | None = None
        self.problems: list[ErrorDetail] = []
        self._ignored: set[str] = set()
        self._limit = ByteLimit(context.input_bytes, context.request.max_decoded_bytes)
        self._was_scanned = False
        if shards[0].member is not None:
            self.problems.extend(context.archive.problems)
        splits = assign_shards({shard.path_parts for shard in shards})
        self._shard_splits = splits
        self._column_splits: dict[_Shard, dict[str, SubsetName]] = {}
        context.summary.sources.update(splits.sources)
        if shards[0].member is None:
            context.summary.sources["train"] = "the uploaded file"

    def scan(self) -> list[ScannedImage]:
        """Read every label and header; return the images in the order of their rows."""
        scanned: list[ScannedImage] = []
        labels = set()
        for split, row_number, row in self._rows():
            self._context.report_progress(len(scanned))
            image = LabeledImage(_row_path(split, row_number), split, row.label, None)
            labels.add(row.label)
            try:
                data = image_bytes(row.image, self._context.max_member_bytes)
                header = decode.read_header(data, self._context.request.max_pixels)
                scanned.append(ScannedImage(image, header))
            except decode.InvalidImageError as error:
                self._context.add_bad_image(image.name, str(error), image.label)
            self._context.check_count(len(scanned))
        self._was_scanned = True
        for label in labels:
            if problem := class_name_problem(label):
                self.problems.append(error_detail(label, problem))
        return [] if self.problems else scanned

    def decode_images(
        self, images: Sequence[LabeledImage], image_format: ImageFormat
    ) -> Iterator[tuple[int, Pixels | None]]:
        """Decode in the order of the rows."""
        positions = {image.path_parts: position for position, image in enumerate(images)}
        for split, row_number, row in self._rows():
            path_parts = _row_path(split, row_number)
            position = positions.get(path_parts)
            if position is not None:
                self._context.report_progress(position, len(images))
                yield position, self._decode(row, "/".join(path_parts), image_format)

    def _decode(self, row: _Row, name: str, image_format: ImageFormat) -> Pixels | None:
        most = self._context.request.max_pixels
        try:
            data = image_bytes(row.image, self._context.max_member_bytes)
            return decode.decode(data, max_pixels=most, **image_format._asdict())
        except decode.InvalidImageError as error:
            self._context.add_bad_image(name, str(error), row.label)
            return None

    def _rows(self) -> Iterator[tuple[SubsetName, int, _Row]]:
        """Yield split, row of the split, and content of every row; add to the problems."""
        counts: dict[SubsetName, int] = {}
        # A second pass reports the same problems as the first.
        self.problems = list(dict.fromkeys(self.problems))
        for shard in self._shards:
            try:
                for row in self._shard_rows(shard):
                    counts[row.split] = counts.get(row.split, 0) + 1
                    yield row.split, counts[row.split] - 1, row
            except (InvalidTableError, UnreadableMemberError) as error:
                self.problems.append(error_detail(shard.name, str(error)))

    def _shard_rows(self, shard: _Shard) -> Iterator[_Row]:
        split = self._shard_splits.by_folder[shard.path_parts]
        with self._open(shard) as table:
            columns = choose_columns(table.schema_arrow, unlabeled=split == "unlabeled")
            self._check_classes(columns, shard)
            columns = self._read_splits(table, columns, shard)
            means = self._column_splits[shard]
            self._ignore(columns.others)
            self._context.summary.add_unread_splits(columns.others, shard.name)
            counter = None
            if not self._was_scanned:
                counter = _ByteCounter(self._limit, _table_bytes(table, columns))
            for row_number, batch in enumerate(_iter_rows(table, columns)):
                if counter is not None:
                    counter.add(batch.nbytes)
                (values,) = batch.to_pylist()
                row_split = means[values[columns.split]] if columns.split else split
                label = ""
                if row_split != "unlabeled":
                    label = _label_of(values, columns, row_number)
                yield _Row(values[columns.image], label, row_split)

    def _read_splits(self, table: Any, columns: TableColumns, shard: _Shard) -> TableColumns:
        """Read the column of splits, once; one with other texts is not read, with a warning.

        Raises :class:`InvalidTableError` if the column contradicts the name of the file.
        """
        if columns.split is None:
            self._column_splits[shard] = {}
            return columns
        if shard not in self._column_splits:
            self._column_splits[shard] = self._find_splits(table, columns.split, shard)
        if self._column_splits[shard]:
            return columns
        return columns._replace(split=None, others=[*columns.others, columns.split])

    def _find_splits(self, table: Any, column: str, shard: _Shard) -> dict[str, SubsetName]:
        words: dict[str, str] = {}
        for batch in table.iter_batches(batch_size=1, columns=[column], use_threads=False):
            self._context.report_progress(0)
            self._limit.add(batch.nbytes)
            (value,) = batch.column(0).to_pylist()
            word = folder_word(value[:_MAX_WORD]) if isinstance(value, str) else None
            if word is None:
                text = (
                    f"the column {column} of {shard.name} is not read as splits: it has the value"
                )
                self._context.summary.add_warning(f"{text} {to_printable(repr(value))[:_MAX_WORD]}")
                return {}
            words[value] = word
        by_name = self._shard_splits.words[shard.path_parts]
        wrong = [word for word in words.values() if by_name and not may_mean_same(word, by_name)]
        if wrong:
            raise InvalidTableError(
                f"has {by_name} in its name or a folder, but {wrong[0]} in the column {column}; "
                "rename the file, or remove the column"
            )
        means = resolve_words(words.values())
        if by_name:
            split = self._shard_splits.by_folder[shard.path_parts]
            return dict.fromkeys(words, split)
        self._context.summary.sources |= dict.fromkeys(means.values(), f"the column {column}")
        return {value: means[word] for value, word in words.items()}

    @contextlib.contextmanager
    def _open(self, shard: _Shard) -> Iterator[Any]:
        """Open a file with pyarrow."""
        import pyarrow as pa
        import pyarrow.parquet

        with contextlib.ExitStack() as stack:
            source = self._context.path if shard.member is None else self._unpack(shard.member)
            try:
                file = stack.enter_context(source.open("rb"))
                yield pyarrow.parquet.ParquetFile(file, pre_buffer=False, buffer_size=_CHUNK)
            except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
                reason = to_printable(str(error)).partition("\n")[0]
                raise InvalidTableError(f"cannot be read as Parquet: {reason}") from error

    def _unpack(self, member: ArchiveMember) -> Path:
        """Copy a file out of the archive, because Parquet is read from its end."""
        path = self._context.temporary_path("parquet")
        archive, is_first = self._context.archive, not self._was_scanned
        with archive.stream(member, count_bytes=is_first) as stream, path.open("wb") as file:
            while data := stream.read(_CHUNK):
                self._context.report_progress(0)
                file.write(data)
        return path

    def _check_classes(self, columns: TableColumns, shard: _Shard) -> None:
        """Set :attr:`classes`; raise :class:`InvalidTableError` if two files name others."""
        if columns.label is None:
            return
        if self.classes is None and shard is self._first_labeled():
            self.classes = columns.class_names
            if warning := index_warning(self.classes or ()):
                self._context.summary.add_warning(warning)
        elif self.classes != columns.class_names:
            first = self._first_labeled()
            raise InvalidTableError(
                f"names its classes otherwise than {first.name}: "
                f"{_list_names(columns.class_names)}, not {_list_names(self.classes)}"
            )

    def _ignore(self, names: list[str]) -> None:
        """Name ignored columns, each of them once."""
        new = [name for name in names if name not in self._ignored]
        self._ignored.update(new)
        self._context.summary.add_ignored("is not the column of images or labels", new)

    def _first_labeled(self) -> _Shard:
        return next(s for s in self._shards if not is_unlabeled_path(s.path_parts))


def _table_bytes(table: Any, columns: TableColumns) -> int:
    """Return the unpacked bytes of the columns by the footer; a hostile one names fewer."""
    paths = tuple(f"{name}." for name in _names_of(columns))
    indices = [
        index for index, path in enumerate(_leaf_paths(table)) if f"{path}.".startswith(paths)
    ]
    groups = map(table.metadata.row_group, range(table.metadata.num_row_groups))
    return sum(
        max(0, group.column(index).total_uncompressed_size) for group in groups for index in indices
    )


def _leaf_paths(table: Any) -> list[str]:
    return [table.schema.column(index).path for index in range(table.metadata.num_columns)]


def _names_of(columns: TableColumns) -> list[str]:
    return [name for name in (columns.image, columns.label, columns.split) if name is not None]


def _iter_rows(table: Any, columns: TableColumns) -> Iterator[Any]:
    """Yield batches of one row: several rows may repeat one large value of a dictionary."""
    names = _names_of(columns)
    return iter(table.iter_batches(batch_size=1, columns=names, use_threads=False))


def _label_of(values: dict[str, Any], columns: TableColumns, row_number: int) -> str:
    if columns.label is None:
        return ""
    try:
        return name_label(values[columns.label], columns.class_names)
    except InvalidLabelError as error:
        raise InvalidTableError(f"row {row_number} of {columns.label}: {error}") from error


def _row_path(split: SubsetName, row_number: int) -> tuple[str, ...]:
    # Named by its row, so that the draw of splits does not depend on the files.
    return split, f"{row_number:08d}"


def _list_names(names: tuple[str, ...] | None) -> str:
    return "no names" if names is None else ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
