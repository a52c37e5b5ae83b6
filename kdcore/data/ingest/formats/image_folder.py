"""Read a zip of image files in class folders, optionally below split folders."""

from collections.abc import Iterator, Sequence

from kdcore.data import decode
from kdcore.data.ingest import folder_layout
from kdcore.data.ingest.archives.safe_zip import Archive, UnreadableMemberError
from kdcore.data.ingest.base import ImageFormat, IngestContext, LabeledImage, Pixels, ScannedImage
from kdcore.runtime.errors import error_detail


def open_reader(context: IngestContext) -> "ImageFolderReader":
    """Return a reader for any zip. Raises :class:`UserError` for other files."""
    return ImageFolderReader(context.archive, context)


class ImageFolderReader:
    """Reads the images of an open archive."""

    classes: tuple[str, ...] | None = None

    def __init__(self, archive: Archive, context: IngestContext) -> None:
        self._archive = archive
        self._context = context
        self.problems = list(archive.problems)

    def scan(self) -> list[ScannedImage]:
        """Read every header. Raises :class:`UserError` for too many images."""
        file_layout = folder_layout.parse_layout(self._archive.members)
        self.problems.extend(file_layout.problems)
        self._context.summary.add_ignored("not an image", file_layout.ignored)
        images = file_layout.images
        self._context.check_count(len(images))
        scanned = []
        for done, image in enumerate(images):
            self._context.report_progress(done, len(images))
            try:
                data = self._archive.read(image.location)
                shape = decode.read_header(data, self._context.request.max_pixels)
                scanned.append(ScannedImage(image, shape))
            except (UnreadableMemberError, decode.InvalidImageError) as error:
                self.problems.append(error_detail(image.name, str(error)))
        return scanned

    def decode_images(
        self, images: Sequence[LabeledImage], image_format: ImageFormat
    ) -> Iterator[tuple[int, Pixels | None]]:
        """Decode in the order of ``images``."""
        for position, image in enumerate(images):
            self._context.report_progress(position, len(images))
            yield position, self._decode(image, image_format)

    def _decode(self, image: LabeledImage, image_format: ImageFormat) -> Pixels | None:
        most = self._context.request.max_pixels
        try:
            data = self._archive.read(image.location, count_bytes=False)
            return decode.decode(
                data, gray=image_format.gray, size=image_format.size, max_pixels=most
            )
        except (UnreadableMemberError, decode.InvalidImageError) as error:
            self.problems.append(error_detail(image.name, str(error)))
            return None
