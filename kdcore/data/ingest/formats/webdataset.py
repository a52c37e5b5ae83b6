"""Read WebDataset shards: tars of ``<key>.jpg`` and ``<key>.cls``, in one pass after the other.

An upload is one tar of samples, or a tar or zip of shards, which may be compressed, or a zip of
samples. The files of one key are an image and its label, the text of ``.cls`` or a field of
``.json``. The key is the path up to the first dot of the file name, as the library has it, so
``0001.input.jpg`` and ``0001.cls`` are one sample. Where this gives several images to one key
(``img.0001.jpg``, ``img.0002.jpg``), all keys end at the last dot instead.

The split is the word of a folder, of the shard's name (:mod:`kdcore.data.ingest.splits`), or in a
field of ``.json``, else train.

Format: https://github.com/webdataset/webdataset. Its library is not used, because it skips damaged
samples without an error. Pickled members are never read.
"""

import functools
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from typing import NamedTuple

from kdcore.data import decode
from kdcore.data.class_labels import InvalidLabelError
from kdcore.data.image_signature import IMAGE_SUFFIXES
from kdcore.data.ingest.archives.compression import CancellableStream
from kdcore.data.ingest.archives.open_archive import MemberArchive
from kdcore.data.ingest.archives.safe_tar import TarMember, iter_members
from kdcore.data.ingest.archives.safe_zip import TAR_SUFFIXES, ArchiveMember, UnreadableMemberError
from kdcore.data.ingest.base import ImageFormat, IngestContext, LabeledImage, Pixels, ScannedImage
from kdcore.data.ingest.sample_files import (
    CAPTION_SUFFIX,
    LABEL_SUFFIXES,
    Path,
    SampleFiles,
    first_dot_key,
    read_label,
    suffix_of,
)
from kdcore.data.ingest.splits import assign_shards, is_unlabeled_path
from kdcore.runtime.errors import UserError, error_detail


def has_samples(names: Iterable[Path], image_suffixes: tuple[str, ...]) -> bool:
    """Return whether files are samples and not images in class folders.

    A ``.cls`` file is a label. Files of other kinds may also lie beside images in class folders, so
    they count only where all images are in one folder.
    """
    images, others = set(), set()
    folders = set()
    for path in names:
        suffix = suffix_of(path)
        if suffix == ".cls":
            return True
        if suffix in image_suffixes:
            images.add(first_dot_key(path))
            folders.add(path[:-1])
        elif suffix in (*LABEL_SUFFIXES, CAPTION_SUFFIX):
            others.add(first_dot_key(path))
    return len(folders) == 1 and not images.isdisjoint(others)


def open_reader(context: IngestContext) -> "WebDatasetReader | None":
    """Return a reader for an archive of samples, and for one of shards without class folders."""
    names = [member.path_parts for member in context.archive.members]
    shard_folders = {name[:-1] for name in names if name[-1].lower().endswith(TAR_SUFFIXES)}
    image_folders = {name[:-1] for name in names if name[-1].lower().endswith(IMAGE_SUFFIXES)}
    # Images in the folders of shards are in no class folder, so the shards are not the fault.
    is_sharded = shard_folders and image_folders <= {(), *shard_folders}
    if is_sharded or has_samples(names, IMAGE_SUFFIXES):
        return WebDatasetReader(context.archive, context)
    return None


class _ShardFile(NamedTuple):
    """A file of a shard, readable until the next one is requested."""

    path_parts: tuple[str, ...]
    read: Callable[[], bytes]
    """Raises :class:`UnreadableMemberError`."""

    @property
    def suffix(self) -> str:
        return suffix_of(self.path_parts)


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
        for text in files.warnings:
            self._context.summary.add_warning(text)
        shards = assign_shards({sample.image[:-1] for sample in samples})
        self._context.summary.sources.update(shards.sources)
        splits, sources = files.assign_splits(samples, shards, self.problems)
        self._context.summary.sources.update(sources)
        scanned = []
        for sample, split in zip(samples, splits, strict=True):
            image = LabeledImage(sample.image, split, sample.label, None)
            scanned.append(ScannedImage(image, sample.header))
        return sorted(scanned, key=_sort_key)

    def decode_images(
        self, images: Sequence[LabeledImage], image_format: ImageFormat
    ) -> Iterator[tuple[int, Pixels | None]]:
        """Decode in the order of the shards."""
        positions = {image.path_parts: position for position, image in enumerate(images)}
        folders = {path[:length] for path in positions for length in range(1, len(path))}
        done = 0
        self._expect_reads(lambda member: member.path_parts in positions)
        for file in self._files(count_bytes=False, needed=folders):
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

    def _files(
        self, *, count_bytes: bool, needed: Container[tuple[str, ...]] | None = None
    ) -> Iterator[_ShardFile]:
        """Yield all files; ``needed`` names the shards that have to be read, None all of them."""
        for member in sorted(self._archive.members, key=lambda member: member.path_parts):
            if member.path_parts[-1].lower().endswith(TAR_SUFFIXES):
                if needed is not None and member.path_parts not in needed:
                    continue
                yield from self._nested_files(member, count_bytes=count_bytes)
            else:
                read = functools.partial(self._archive.read, member, count_bytes=count_bytes)
                yield _ShardFile(member.path_parts, read)

    def _expect_reads(self, is_read: Callable[[ArchiveMember], bool]) -> None:
        """Announce the files outside of shards that the next pass reads."""
        members = sorted(self._archive.members, key=lambda member: member.path_parts)
        loose = (m for m in members if not m.path_parts[-1].lower().endswith(TAR_SUFFIXES))
        self._archive.expect_reads([member for member in loose if is_read(member)])

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
        ends = (*IMAGE_SUFFIXES, *LABEL_SUFFIXES)
        self._expect_reads(lambda member: member.path_parts[-1].lower().endswith(ends))
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
            suffixes = {suffix_of((name,)) for name in others} | {
                suffix_of(p) for p in files.labels
            }
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


def _sort_key(scanned_image: ScannedImage) -> tuple[str, str, tuple[str, ...]]:
    return scanned_image.image.split, scanned_image.image.label, scanned_image.image.path_parts
