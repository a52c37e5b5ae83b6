"""Read WebDataset shards: tars of ``<key>.jpg`` and ``<key>.cls``, in one pass after the other.

An upload is one tar of samples, or a tar or zip of shards, which may be compressed, or a zip of
samples. The files of one key are an image and its label, the text of ``.cls`` or a field of
``.json``. The key is the path up to the first dot of the file name, as the library has it, so
``0001.input.jpg`` and ``0001.cls`` are one sample. Where this gives several images to one key
(``img.0001.jpg``, ``img.0002.jpg``), all keys end at the last dot instead.

The split is the word of a folder or of the shard's name (:mod:`kdcore.data.ingest.splits`), else
train.

Format: https://github.com/webdataset/webdataset. Its library is not used, because it skips damaged
samples without an error. Pickled members are never read.
"""

import functools
import json
from collections import defaultdict
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from kdcore.data import decode
from kdcore.data.class_labels import InvalidLabelError, class_name_of, class_name_problem
from kdcore.data.decode import ImageHeader
from kdcore.data.image_signature import IMAGE_SUFFIXES
from kdcore.data.ingest.archives.compression import CancellableStream
from kdcore.data.ingest.archives.open_archive import MemberArchive
from kdcore.data.ingest.archives.safe_tar import TarMember, iter_members
from kdcore.data.ingest.archives.safe_zip import TAR_SUFFIXES, ArchiveMember, UnreadableMemberError
from kdcore.data.ingest.base import ImageFormat, IngestContext, LabeledImage, Pixels, ScannedImage
from kdcore.data.ingest.splits import assign_shards, is_unlabeled_path
from kdcore.protocol.events import ErrorDetail
from kdcore.runtime.errors import UserError, error_detail, to_printable

LABEL_SUFFIXES = (".cls", ".json")
CAPTION_SUFFIX = ".txt"
"""Texts beside images, which are captions more often than labels."""
JSON_FIELDS = ("label", "cls", "class_id", "class", "class_name", "target", "category")
"""Fields of ``.json`` that are labels; the first one that exists is read."""
_MAX_LABEL_BYTES = 1 << 20

Path = tuple[str, ...]


class Label(NamedTuple):
    """The label in one file."""

    text: str
    """Empty without a label."""
    json_field: str | None = None
    missing: str | None = None
    """What the file has instead of a label."""


class Sample(NamedTuple):
    """One usable sample."""

    image: Path
    header: ImageHeader
    label: str
    """Empty for unlabeled images alone."""


@dataclass
class _Group:
    """The files of one key."""

    images: list[Path] = field(default_factory=list)
    labels: list[Path] = field(default_factory=list)


@dataclass
class SampleFiles:
    """The images and labels of an upload, in any order."""

    images: dict[Path, ImageHeader | None] = field(default_factory=dict)
    """None for a broken image, which is reported elsewhere."""
    labels: dict[Path, Label | None] = field(default_factory=dict)
    """None for a broken label, which is reported elsewhere."""
    num_captions: int = 0
    bad_image_labels: dict[Path, str] = field(default_factory=dict)
    """The labels of broken images; :meth:`samples` fills them in."""

    def samples(
        self, is_unlabeled: Callable[[Path], bool], problems: list[ErrorDetail]
    ) -> Iterator[Sample]:
        """Yield every usable sample; add the others to ``problems`` by key.

        ``is_unlabeled`` takes a key and says whether its label does not matter.
        """
        missing: list[ErrorDetail] = []
        num_labeled = 0
        for key, group in self._groups().items():
            problem = _group_problem(group)
            headers = [self.images[path] for path in group.images]
            label, unlabeled = self._label_of(group), is_unlabeled(key)
            if problem is not None:
                problems.append(error_detail("/".join(key), problem))
            elif headers[0] is None or label is None:
                if label is not None and label.text and not unlabeled:
                    self.bad_image_labels[group.images[0]] = label.text
            elif not unlabeled and not label.text:
                missing.append(error_detail("/".join(key), self._missing_detail(group, label)))
            elif not unlabeled and (problem := class_name_problem(label.text)) is not None:
                problems.append(error_detail("/".join(key), problem))
            else:
                num_labeled += not unlabeled
                yield Sample(group.images[0], headers[0], "" if unlabeled else label.text)
        problems.extend(_shorten(missing) if num_labeled == 0 else missing)
        problems.extend(self._field_problems())

    def _groups(self) -> dict[Path, _Group]:
        groups = _group_by(_first_dot_key, self.images, self.labels)
        if all(len(group.images) < 2 for group in groups.values()):
            return groups
        other = _group_by(_last_dot_key, self.images, self.labels)
        complete = all(len(group.images) == 1 and group.labels for group in other.values())
        return other if complete else groups

    def _label_of(self, group: _Group) -> Label | None:
        """Return the label of ``.cls``, else that of ``.json``; None if a file is broken."""
        labels = [self.labels[path] for path in sorted(group.labels, key=_suffix)]
        if None in labels:
            return None
        return next((label for label in labels if label is not None), Label(""))

    def _missing_detail(self, group: _Group, label: Label) -> str:
        if group.labels:
            return f"has no label: {_suffix(group.labels[0])[1:]} {label.missing}"
        captions = "; a .txt file is not read as a label" if self.num_captions else ""
        return f"has no label: put a .cls file of the same name beside it{captions}"

    def _field_problems(self) -> list[ErrorDetail]:
        """Return a problem if the labels come from different fields of ``.json``."""
        examples: dict[str, str] = {}
        for path, label in self.labels.items():
            if label is not None and label.json_field is not None and _suffix(path) == ".json":
                examples.setdefault(label.json_field, "/".join(path))
        if len(examples) < 2:
            return []
        listed = ", ".join(f"{name} in {path}" for name, path in examples.items())
        detail = f"is the label in some files and missing in others: {listed}; use one field"
        return [error_detail(f"the field {max(examples, key=JSON_FIELDS.index)}", detail)]


def _group_by(
    key_of: Callable[[Path], Path], images: Iterable[Path], labels: Iterable[Path]
) -> dict[Path, _Group]:
    groups: dict[Path, _Group] = defaultdict(_Group)
    for path in images:
        groups[key_of(path)].images.append(path)
    for path in labels:
        groups[key_of(path)].labels.append(path)
    return groups


def _first_dot_key(path: Path) -> Path:
    return (*path[:-1], path[-1].partition(".")[0])


def _last_dot_key(path: Path) -> Path:
    return (*path[:-1], path[-1].rpartition(".")[0])


def _suffix(path: Path) -> str:
    return "." + path[-1].rpartition(".")[2].lower()


def _group_problem(group: _Group) -> str | None:
    names = [path[-1] for path in group.images]
    if len(names) > 1:
        return f"has several images, {', '.join(names[:5])}; keep one"
    if not names:
        return f"has a label, {group.labels[0][-1]}, but no image"
    suffixes = [_suffix(path) for path in group.labels]
    twice = next((suffix for suffix in suffixes if suffixes.count(suffix) > 1), None)
    return None if twice is None else f"has several {twice} files; keep one"


def _shorten(missing: list[ErrorDetail]) -> list[ErrorDetail]:
    """Return one item for all samples, if none of them has a label."""
    if len(missing) < 2:
        return missing
    first = missing[0]
    return [error_detail(first.name, f"{first.detail} ({len(missing) - 1} others have none, too)")]


def read_label(suffix: str, data: bytes) -> Label:
    """Read the label in a ``.cls`` or ``.json`` file. Raises :class:`InvalidLabelError`."""
    if len(data) > _MAX_LABEL_BYTES:
        raise InvalidLabelError(f"has {len(data)} bytes, too many for a label")
    if suffix == ".cls":
        text = class_name_of(data)
        return Label(text, missing=None if text else "is empty")
    try:
        values = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InvalidLabelError(f"is not JSON: {to_printable(str(error))}") from error
    if not isinstance(values, Mapping):
        return Label(class_name_of(values), missing="has no fields")
    for name in JSON_FIELDS:
        if values.get(name) is not None:
            return Label(class_name_of(values[name]), name, f"has an empty {name}")
    fields = ", ".join(str(name) for name in list(values)[:8]) or "none"
    expected = "label, cls or class_id was expected"
    return Label("", missing=f"has the fields {fields}; {expected}")


def has_samples(names: Iterable[Path], image_suffixes: tuple[str, ...]) -> bool:
    """Return whether files are samples and not images in class folders.

    A ``.cls`` file is a label. Files of other kinds may also lie beside images in class folders, so
    they count only where all images are in one folder.
    """
    images, others = set(), set()
    folders = set()
    for path in names:
        suffix = _suffix(path)
        if suffix == ".cls":
            return True
        if suffix in image_suffixes:
            images.add(_first_dot_key(path))
            folders.add(path[:-1])
        elif suffix in (*LABEL_SUFFIXES, CAPTION_SUFFIX):
            others.add(_first_dot_key(path))
    return len(folders) == 1 and not images.isdisjoint(others)


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
        return _suffix(self.path_parts)


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
            suffixes = {_suffix((name,)) for name in others} | {_suffix(p) for p in files.labels}
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
