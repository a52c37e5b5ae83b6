"""A zip of image files in class folders, perhaps below split folders."""

from collections.abc import Iterator, Sequence

from kdcore.data import decode
from kdcore.data.ingest import folder_layout
from kdcore.data.ingest.base import Context, Found, Frame, Labelled, Pixels
from kdcore.data.ingest.safe_zip import Archive, Unreadable
from kdcore.runtime.errors import item, printable


class FolderSource:
    """Images of an open archive, two passes over them: headers first, then pixels."""

    classes: tuple[str, ...] | None = None

    def __init__(self, archive: Archive, context: Context) -> None:
        self._archive = archive
        self._context = context
        self.problems = list(archive.problems)

    def survey(self) -> list[Found]:
        """Read every header. Raises UserFault if there are too many images."""
        arranged = folder_layout.arrange(self._archive.members)
        self.problems.extend(arranged.problems)
        tell_ignored(self._context, arranged.ignored)
        images = arranged.images
        self._context.check_count(len(images))
        found = []
        for done, image in enumerate(images):
            self._context.tick(done, len(images))
            try:
                data = self._archive.read(image.place)
                shape = decode.peek(data, self._context.request.max_pixels)
                found.append(Found(image, shape))
            except (Unreadable, decode.BadImage) as error:
                self.problems.append(item(image.name, str(error)))
        return found

    def pixels(
        self, images: Sequence[Labelled], frame: Frame
    ) -> Iterator[tuple[int, Pixels | None]]:
        """In the order of ``images``."""
        for position, image in enumerate(images):
            self._context.tick(position, len(images))
            yield position, self._decoded(image, frame)

    def _decoded(self, image: Labelled, frame: Frame) -> Pixels | None:
        most = self._context.request.max_pixels
        try:
            data = self._archive.read(image.place, count=False)
            return decode.decode(data, grey=frame.grey, size=frame.size, max_pixels=most)
        except (Unreadable, decode.BadImage) as error:
            self.problems.append(item(image.name, str(error)))
            return None


def tell_ignored(context: Context, names: list[str]) -> None:
    """Say which files were left out because they are no images."""
    if names:
        few = printable(", ".join(names[:3]))
        context.events.log("warning", f"{len(names)} files that are no images are left out: {few}")
