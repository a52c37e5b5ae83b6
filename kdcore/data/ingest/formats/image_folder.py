"""Read a zip or tar of image files in class folders, optionally below split folders."""

import contextlib
from collections import defaultdict
from collections.abc import Iterator, Sequence

from kdcore.data import decode
from kdcore.data.image_signature import SIGNATURE_BYTES, has_image_name, image_format
from kdcore.data.ingest import folder_layout
from kdcore.data.ingest.archives.open_archive import MemberArchive
from kdcore.data.ingest.archives.safe_zip import (
    NESTED_MESSAGE,
    TAR_SUFFIXES,
    ArchiveMember,
    UnreadableMemberError,
)
from kdcore.data.ingest.base import ImageFormat, IngestContext, LabeledImage, Pixels, ScannedImage
from kdcore.data.ingest.ingest_summary import SummaryBuilder
from kdcore.data.ingest.manifests.column_roles import UnreadTable
from kdcore.data.ingest.manifests.table_columns import SAMPLED_ROWS, ImageFiles
from kdcore.data.ingest.manifests.table_rows import InvalidManifestError, open_table
from kdcore.runtime.errors import UserError, error_detail, join_names

_COLUMNS_HINT = (
    "name the column of labels `label` (class, class_name, category, target and species are read, "
    "too), that of paths `path`, and that of splits `split`; or one column of 0 and 1 for each "
    "class. To read class folders instead, leave out the table"
)


def open_reader(context: IngestContext) -> "ImageFolderReader":
    """Return a reader for any zip or tar. Raises :class:`UserError` for other files."""
    return ImageFolderReader(context.archive, context)


class ImageFolderReader:
    """Reads the images of an open archive."""

    classes: tuple[str, ...] | None = None

    def __init__(self, archive: MemberArchive, context: IngestContext) -> None:
        self.archive = archive
        self.context = context
        self.problems = list(archive.problems)

    def scan(self) -> list[ScannedImage]:
        """Read every header. Raises :class:`UserError` for too many images."""
        images = self.label_images()
        self.context.check_count(len(images))
        resume, scanned = self.context.resume, []
        known = {} if resume is None else {i.name: resume.header(i.name) for i in images}
        unread = [image.location for image in images if known.get(image.name) is None]
        self.archive.expect_reads(unread, heads=True)
        for done, image in enumerate(images):
            self.context.report_progress(done, len(images))
            try:
                header = known.get(image.name) or self._read_header(image.location)
                scanned.append(ScannedImage(image, header))
                if resume is not None and known.get(image.name) is None:
                    resume.add_header(image.name, header)
            except (UnreadableMemberError, decode.InvalidImageError) as error:
                self.context.add_bad_image(image.name, str(error), image.label)
        return scanned

    def _read_header(self, member: ArchiveMember) -> decode.ImageHeader:
        most = self.context.request.max_pixels
        data, is_complete = self.archive.read_head(member)
        if not is_complete:
            # A header may follow a long description, and 16 bits need all pixels.
            if image_format(data) in ("JPEG", "PNG"):
                with contextlib.suppress(decode.InvalidImageError):
                    return decode.read_header(data, most)
            data = self.archive.read(member)
        return decode.read_header(data, most)

    def label_images(self) -> list[LabeledImage]:
        """Label the files that are images, by name or content; report all other files."""
        images, summary = [], self.context.summary
        for member in self.archive.members:
            name = member.path_parts[-1]
            if has_image_name(name) or image_format(self._read_start(member)):
                images.append(member)
            elif name.lower().endswith(TAR_SUFFIXES):
                self.problems.append(error_detail(member.name, NESTED_MESSAGE))
            else:
                summary.add_ignored("is not an image", [member.name])
        layout = self._parse_layout(images)
        self.problems.extend(layout.problems)
        summary.sources.update(layout.sources)
        for text in layout.warnings:
            summary.add_warning(text)
        return layout.images

    def _parse_layout(self, images: Sequence[ArchiveMember]) -> folder_layout.FolderLayout:
        """Read the folders. Raises :class:`UserError` if a table says something else."""
        try:
            layout = folder_layout.parse_layout(images)
        except UserError:
            self._check_tables([], len(images))
            raise
        self._check_tables(layout.images, len(images))
        return layout

    def _check_tables(self, images: Sequence[LabeledImage], num_images: int) -> None:
        tables, summary = self.context.unread_tables, self.context.summary
        _check_unread_tables(self.archive, tables, images, num_images, summary)

    def _read_start(self, member: ArchiveMember) -> bytes:
        try:
            with self.archive.stream(member, count_bytes=False) as stream:
                return stream.read(SIGNATURE_BYTES)
        except UnreadableMemberError:
            return b""

    def decode_images(
        self, images: Sequence[LabeledImage], image_format: ImageFormat
    ) -> Iterator[tuple[int, Pixels | None]]:
        """Decode in the order of ``images``."""
        self.archive.expect_reads([image.location for image in images])
        for position, image in enumerate(images):
            self.context.report_progress(position, len(images))
            yield position, self._decode(image, image_format)

    def _decode(self, image: LabeledImage, target: ImageFormat) -> Pixels | None:
        most = self.context.request.max_pixels
        try:
            data = self.archive.read(image.location, count_bytes=False)
            return decode.decode(data, max_pixels=most, **target._asdict())
        except (UnreadableMemberError, decode.InvalidImageError) as error:
            self.context.add_bad_image(image.name, str(error), image.label)
            return None


def _check_unread_tables(
    archive: MemberArchive,
    tables: Sequence[UnreadTable],
    images: Sequence[LabeledImage],
    num_images: int,
    summary: SummaryBuilder,
) -> None:
    """Warn of tables beside class folders.

    Raises :class:`UserError` ``dataset_invalid`` for a table that names at least half of the
    images, if it has splits or another column that may be labels, or if the folders say at most
    one class.
    """
    if not tables:
        return
    folders = {image.location.path_parts: image.label for image in images}
    files = ImageFiles(archive.members)
    for table in tables:
        named, has_candidate = _compare(archive, table, files, folders)
        text = (
            f"{table.member.name} names {named} of the {num_images} images, but none of its "
            f"columns is read as labels: {join_names(table.names)}"
        )
        accidental = has_candidate or table.columns.split is not None
        if 2 * named >= num_images and (accidental or len(set(folders.values())) < 2):
            raise UserError("dataset_invalid", text, hint=_COLUMNS_HINT)
        summary.add_warning(f"{text}; the class folders were read instead")


def _compare(
    archive: MemberArchive,
    table: UnreadTable,
    files: ImageFiles,
    folders: dict[tuple[str, ...], str],
) -> tuple[int, bool]:
    """Return the number of images that are named, and whether a column may be labels.

    Such a column has texts, at most one for two rows, and divides the images in another way than
    the folders.
    """
    others = set(range(len(table.names))) - {table.columns.path, table.columns.split}
    values: dict[int, dict[str, set[str]]] = {i: defaultdict(set) for i in others}
    named: set[tuple[str, ...]] = set()
    num_rows = 0
    with (
        contextlib.suppress(InvalidManifestError, UnreadableMemberError),
        open_table(archive, table.member) as rows,
    ):
        for _, cells in rows.rows():
            members = files.find(cells[table.columns.path].strip(), table.folder).members
            named.update(member.path_parts for member in members[:1])
            if not members or num_rows == SAMPLED_ROWS:
                continue
            num_rows += 1
            for i in others:
                values[i][cells[i].strip()].add(folders.get(members[0].path_parts, ""))
    return len(named), any(_may_be_labels(column, num_rows) for column in values.values())


def _may_be_labels(column: dict[str, set[str]], num_rows: int) -> bool:
    if not 2 <= len(column) <= num_rows / 2 or all(map(_is_number, column)):
        return False
    folders = [folder for labels in column.values() for folder in labels]
    return len(folders) > len(column) or len(set(folders)) < len(folders)


def _is_number(text: str) -> bool:
    try:
        float(text or 0)
    except ValueError:
        return False
    return True
