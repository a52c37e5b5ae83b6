"""Read WebDataset shards: tars of ``<key>.jpg`` and ``<key>.cls``, in one pass after the other.

An upload is one tar of samples, or a tar or zip of shards, which may be compressed, or a zip of
samples. The label is the text of ``.cls``, or a field of ``.json``
(:mod:`kdcore.data.ingest.samples`). The split is the word of a folder or of the shard's name
(:mod:`kdcore.data.ingest.split_words`), else train.

Format: https://github.com/webdataset/webdataset. Its library is not used, because it skips damaged
samples without an error. Pickled members are never read.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from kdcore.data import decode
from kdcore.data.class_labels import InvalidLabelError
from kdcore.data.image_signature import IMAGE_SUFFIXES
from kdcore.data.ingest.archives.compression import CancellableStream
from kdcore.data.ingest.archives.open_archive import MemberArchive
from kdcore.data.ingest.archives.safe_tar import TarMember, iter_members
from kdcore.data.ingest.archives.safe_zip import TAR_SUFFIXES, ArchiveMember, UnreadableMemberError
from kdcore.data.ingest.base import ImageFormat, IngestContext, LabeledImage, Pixels, ScannedImage
from kdcore.data.ingest.samples import (
    CAPTION_SUFFIX,
    LABEL_SUFFIXES,
    SampleFiles,
    has_samples,
    read_label,
)
from kdcore.data.ingest.split_words import assign_shards, is_unlabeled_path
from kdcore.runtime.errors import UserError, error_detail


def open_reader(context: IngestContext) -> "WebDatasetReader | None":
    """Return a reader for an archive of samples, and for an archive of shards without images."""
    names = [member.path_parts for member in context.archive.members]
    has_tars = any(name[-1].lower().endswith(TAR_SUFFIXES) for name in names)
    has_images = any(name[-1].lower().endswith(IMAGE_SUFFIXES) for name in names)
    if (has_tars and not has_images) or has_samples(names, IMAGE_SUFFIXES):
        return WebDatasetReader(context.archive, context)
    return None


class _ShardFile(NamedTuple):
    """A file of a shard, readable until the next one is requested."""

    path_parts: tuple[str, ...]
    read: Callable[[], bytes]
    """Raises :class:`UnreadableMemberError`."""

    @property
    def suffix(self) -> str:
        return _suffix(self.path_parts[-1])


class WebDatasetReader:
    """Reads samples; every pass reads the shards from the first to the last."""

    classes: tuple[str, ...] | None = None

    def __init__(self, archive: MemberArchive, context: IngestContext) -> None:
        self._archive = archive
        self._context = context
        self.problems = list(archive.problems)

    def scan(self) -> list[ScannedImage]:
        """Read labels and headers; return the images sorted by split, label and name."""
        files = self._read_files()
        samples = list(files.samples(lambda key: is_unlabeled_path(key[:-1]), self.problems))
        self._context.add_labels(files.bad_image_labels)
        shards = assign_shards({sample.image[:-1] for sample in samples})
        self._context.summary.sources.update(shards.sources)
        scanned = []
        for sample in samples:
            split = shards.by_folder[sample.image[:-1]]
            image = LabeledImage(sample.image, split, sample.label, None)
            scanned.append(ScannedImage(image, sample.header))
        return sorted(scanned, key=_sort_key)

    def decode_images(
        self, images: Sequence[LabeledImage], image_format: ImageFormat
    ) -> Iterator[tuple[int, Pixels | None]]:
        """Decode in the order of the shards."""
        positions = {image.path_parts: position for position, image in enumerate(images)}
        done = 0
        for file in self._files(count_bytes=False):
            position = positions.pop(file.path_parts, None)
            if position is not None:
                self._context.report_progress(done, len(images))
                done += 1
                yield position, self._decode(file, image_format)
        # The second pass reports the same damage as the first.
        self.problems = list(dict.fromkeys(self.problems))

    def _decode(self, file: _ShardFile, image_format: ImageFormat) -> Pixels | None:
        most = self._context.request.max_pixels
        try:
            return decode.decode(file.read(), max_pixels=most, **image_format._asdict())
        except (UnreadableMemberError, decode.InvalidImageError) as error:
            self._context.add_bad_image("/".join(file.path_parts), str(error))
            return None

    def _files(self, *, count_bytes: bool) -> Iterator[_ShardFile]:
        for member in sorted(self._archive.members, key=lambda member: member.path_parts):
            if member.path_parts[-1].lower().endswith(TAR_SUFFIXES):
                yield from self._nested_files(member, count_bytes=count_bytes)
            else:
                read = functools.partial(self._archive.read, member, count_bytes=count_bytes)
                yield _ShardFile(member.path_parts, read)

    def _nested_files(self, member: ArchiveMember, *, count_bytes: bool) -> Iterator[_ShardFile]:
        add_bytes = self._archive.add_bytes if count_bytes else lambda _: None
        try:
            with self._archive.stream(member, count_bytes=count_bytes) as stream:
                source = CancellableStream(stream, lambda: self._context.report_progress(0))
                for file in iter_members(source, member.path_parts, self.problems, add_bytes):
                    yield _ShardFile(file.path_parts, functools.partial(self._read_nested, file))
        except UnreadableMemberError as error:
            self.problems.append(error_detail("/".join(member.path_parts), str(error)))

    def _read_nested(self, file: TarMember) -> bytes:
        most = self._context.max_member_bytes
        if file.size > most:
            raise UnreadableMemberError(f"has {file.size} bytes; at most {most} are allowed")
        return file.read()

    def _read_files(self) -> SampleFiles:
        """Read the labels and the headers of all images."""
        files, others = SampleFiles(), []
        for file in self._files(count_bytes=True):
            self._context.report_progress(0)
            if file.path_parts in files.images or file.path_parts in files.labels:
                detail = "is in the upload twice; remove one"
                self.problems.append(error_detail("/".join(file.path_parts), detail))
            elif file.suffix in IMAGE_SUFFIXES:
                files.images[file.path_parts] = self._read_header(file)
                self._context.check_count(len(files.images))
            elif file.suffix in LABEL_SUFFIXES:
                self._add_label(file, files)
            else:
                files.num_captions += file.suffix == CAPTION_SUFFIX
                others.append("/".join(file.path_parts))
        self._context.summary.add_ignored("neither an image nor a label", others)
        if not files.images and not self.problems:
            suffixes = {_suffix(name) for name in others} | {_suffix(p[-1]) for p in files.labels}
            raise UserError(
                "dataset_invalid",
                f"the samples have no images, but files of the types {', '.join(sorted(suffixes))}",
                hint="put each image as .jpg or .png beside its .cls file",
            )
        return files

    def _read_header(self, file: _ShardFile) -> decode.ImageHeader | None:
        try:
            return decode.read_header(file.read(), self._context.request.max_pixels)
        except (UnreadableMemberError, decode.InvalidImageError) as error:
            self._context.add_bad_image("/".join(file.path_parts), str(error))
            return None

    def _add_label(self, file: _ShardFile, files: SampleFiles) -> None:
        files.labels[file.path_parts] = None
        try:
            files.labels[file.path_parts] = read_label(file.suffix, file.read())
        except (UnreadableMemberError, InvalidLabelError) as error:
            self.problems.append(error_detail("/".join(file.path_parts), str(error)))


def _suffix(name: str) -> str:
    return "." + name.rpartition(".")[2].lower()


def _sort_key(scanned_image: ScannedImage) -> tuple[str, str, tuple[str, ...]]:
    return scanned_image.image.split, scanned_image.image.label, scanned_image.image.path_parts
