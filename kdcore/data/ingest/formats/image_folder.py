"""Read a zip or tar of image files in class folders, optionally below split folders."""

import contextlib
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
from kdcore.runtime.errors import error_detail


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
        layout = folder_layout.parse_layout(images)
        self.problems.extend(layout.problems)
        summary.sources.update(layout.sources)
        for text in layout.warnings:
            summary.add_warning(text)
        return layout.images

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
