"""Read WebDataset shards: tars of ``<key>.jpg`` and ``<key>.cls`` side by side, as streams.

An upload is one tar, a tar of tars or a zip of tars. The label is the text of ``.cls`` or ``label``
in ``.json``, a number or a name (:mod:`kdcore.data.class_labels`). The split is the word of a
folder or of the shard's name (:mod:`kdcore.data.ingest.split_words`), else train.

Format: https://github.com/webdataset/webdataset. Its library is not used, because it skips damaged
samples without an error. Pickled members are never read.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from kdcore.data import decode
from kdcore.data.class_labels import InvalidLabelError, class_name_of, class_name_problem
from kdcore.data.image_signature import IMAGE_SUFFIXES
from kdcore.data.ingest.archives.safe_tar import TarMember, iter_members
from kdcore.data.ingest.archives.safe_zip import Archive, UnreadableMemberError
from kdcore.data.ingest.base import ImageFormat, IngestContext, LabeledImage, Pixels, ScannedImage
from kdcore.data.ingest.split_words import assign_shards, is_unlabeled_path
from kdcore.protocol.events import ErrorDetail
from kdcore.runtime.errors import error_detail, to_printable

_LABEL_SUFFIXES = (".cls", ".json")
_MAX_LABEL_BYTES = 1 << 20
_MAGIC = (257, b"ustar")
"""Offset and bytes that identify a tar."""


def open_reader(context: IngestContext) -> "WebDatasetReader | None":
    """Return a reader for a tar, and for a zip of tars without images."""
    start = context.read_start(_MAGIC[0] + len(_MAGIC[1]))
    if start[_MAGIC[0] :] == _MAGIC[1]:
        return WebDatasetReader(context.path, None, context)
    names = [member.path_parts[-1].lower() for member in context.archive.members]
    has_tars = any(name.endswith(".tar") for name in names)
    if has_tars and not any(name.endswith(IMAGE_SUFFIXES) for name in names):
        return WebDatasetReader(context.path, context.archive, context)
    return None


class _Sample(NamedTuple):
    """The files of one key so far."""

    key: tuple[str, ...]
    files: dict[str, tuple[str, ...]]
    """Path of each file, by extension."""
    shape: decode.ImageHeader | None
    labels: dict[str, str]
    """Text of each label, by extension."""


class WebDatasetReader:
    """Reads shards; every pass reads them from the first byte to the last."""

    classes: tuple[str, ...] | None = None

    def __init__(self, path: Path, archive: Archive | None, context: IngestContext) -> None:
        self._path = path
        self._archive = archive
        self._context = context
        self.problems: list[ErrorDetail] = list(archive.problems) if archive else []

    def scan(self) -> list[ScannedImage]:
        """Read labels and headers; return the images sorted by split, label and name."""
        scanned: dict[tuple[str, ...], ScannedImage] = {}
        for sample in self._samples():
            image = self._scanned_image(sample)
            if image is None:
                continue
            if image.image.path_parts in scanned:
                self.problems.append(
                    error_detail(image.image.name, "is in the upload twice; remove one")
                )
            scanned[image.image.path_parts] = image
            self._context.check_count(len(scanned))
        shards = assign_shards({path_parts[:-1] for path_parts in scanned})
        self._context.summary.sources.update(shards.sources)
        assigned = [
            s._replace(image=s.image._replace(split=shards.by_folder[s.image.path_parts[:-1]]))
            for s in scanned.values()
        ]
        return sorted(assigned, key=_sort_key)

    def decode_images(
        self, images: Sequence[LabeledImage], image_format: ImageFormat
    ) -> Iterator[tuple[int, Pixels | None]]:
        """Decode in the order of the shards."""
        positions = {image.path_parts: position for position, image in enumerate(images)}
        done = 0
        for file in self._files(count_bytes=False):
            position = positions.get(file.path_parts)
            if position is not None:
                self._context.report_progress(done, len(images))
                done += 1
                yield position, self._decode(file, image_format)
        # The second pass reports the same damage as the first.
        self.problems = list(dict.fromkeys(self.problems))

    def _decode(self, file: TarMember, image_format: ImageFormat) -> Pixels | None:
        most = self._context.request.max_pixels
        try:
            return decode.decode(file.read(), max_pixels=most, **image_format._asdict())
        except (UnreadableMemberError, decode.InvalidImageError) as error:
            self._context.add_bad_image("/".join(file.path_parts), str(error))
            return None

    def _files(self, *, count_bytes: bool) -> Iterator[TarMember]:
        if self._archive is None:
            with self._path.open("rb") as file:
                yield from iter_members(file, (), self.problems)
            return
        for member in sorted(self._archive.members, key=lambda member: member.path_parts):
            name = "/".join(member.path_parts)
            if not name.lower().endswith(".tar"):
                continue
            try:
                with self._archive.stream(member, count_bytes=count_bytes) as stream:
                    yield from iter_members(stream, member.path_parts, self.problems, depth=0)
            except UnreadableMemberError as error:
                self.problems.append(error_detail(name, str(error)))

    def _samples(self) -> Iterator[_Sample]:
        sample: _Sample | None = None
        others = self._archive.members if self._archive else []
        names = ["/".join(member.path_parts) for member in others]
        other_files = [name for name in names if not name.lower().endswith(".tar")]
        for file in self._files(count_bytes=True):
            self._context.report_progress(0)
            stem, dot, extension = file.path_parts[-1].partition(".")
            key, extension = (*file.path_parts[:-1], stem), dot + extension.lower()
            if extension not in IMAGE_SUFFIXES and extension not in _LABEL_SUFFIXES:
                other_files.append("/".join(file.path_parts))
                continue
            if sample is None or sample.key != key:
                if sample is not None:
                    yield sample
                sample = _Sample(key, {}, None, {})
            sample = self._add_file(file, extension, sample)
        if sample is not None:
            yield sample
        self._context.summary.add_ignored("neither an image nor a label", other_files)

    def _add_file(self, file: TarMember, extension: str, sample: _Sample) -> _Sample:
        name = "/".join(file.path_parts)
        if extension in sample.files:
            self.problems.append(error_detail(name, "is in the upload twice; remove one"))
        sample.files[extension] = file.path_parts
        try:
            if extension in IMAGE_SUFFIXES:
                return sample._replace(shape=self._read_header(file))
            sample.labels[extension] = _read_label(file, extension)
        except (UnreadableMemberError, decode.InvalidImageError) as error:
            if extension in IMAGE_SUFFIXES:
                self._context.add_bad_image(name, str(error))
            else:
                self.problems.append(error_detail(name, str(error)))
        return sample

    def _read_header(self, file: TarMember) -> decode.ImageHeader:
        most = self._context.request.max_pixels
        if file.size > 4 * most + (1 << 20):
            raise decode.InvalidImageError(f"has {file.size} bytes, too many for {most} pixels")
        return decode.read_header(file.read(), most)

    def _scanned_image(self, sample: _Sample) -> ScannedImage | None:
        images = [parts for kind, parts in sample.files.items() if kind in IMAGE_SUFFIXES]
        unlabeled = is_unlabeled_path(sample.key[:-1])
        label = sample.labels.get(".cls", sample.labels.get(".json", ""))
        unread = (set(_LABEL_SUFFIXES) & set(sample.files)) - set(sample.labels)
        if unread or (images and sample.shape is None):
            return None  # broken, and reported before
        problem = _problem(len(images), label, unlabeled=unlabeled)
        if problem is not None or sample.shape is None:
            self.problems.append(error_detail("/".join(sample.key), problem or "has no image"))
            return None
        return ScannedImage(
            LabeledImage(images[0], "train", "" if unlabeled else label, None),
            sample.shape,
        )


def _problem(num_images: int, label: str, *, unlabeled: bool) -> str | None:
    if num_images != 1:
        return "has several images; keep one" if num_images else "has a label but no image"
    if unlabeled:
        return None
    if not label:
        return "has no label: put a .cls file of the same name beside it"
    return class_name_problem(label)


def _sort_key(scanned_image: ScannedImage) -> tuple[str, str, tuple[str, ...]]:
    return scanned_image.image.split, scanned_image.image.label, scanned_image.image.path_parts


def _read_label(file: TarMember, extension: str) -> str:
    """Read the text of a label. Raises :class:`InvalidImageError`."""
    if file.size > _MAX_LABEL_BYTES:
        raise decode.InvalidImageError(f"has {file.size} bytes, too many for a label")
    data = file.read()
    try:
        if extension != ".json":
            return class_name_of(data)
        fields = json.loads(data)
        return class_name_of(fields.get("label") if isinstance(fields, dict) else None)
    except (ValueError, RecursionError) as error:
        raise decode.InvalidImageError(f"is not a label: {to_printable(str(error))}") from error
    except InvalidLabelError as error:
        raise decode.InvalidImageError(str(error)) from error
