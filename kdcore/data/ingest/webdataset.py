"""WebDataset shards: tars of ``<key>.jpg`` and ``<key>.cls`` side by side, read as streams.

One tar, a tar of tars or a zip of tars. The label is the text of ``.cls`` or ``label`` in
``.json``, a number or a name. A split is named by a folder (``train/``, ``val/``, ``test/``,
``unlabelled/``) or by the first word of the shard's name (``val-0001.tar``), else it is train.

Format: https://github.com/webdataset/webdataset. Its pickled members are never read.
"""

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from kdcore.data import decode
from kdcore.data.ingest.base import Context, Found, Frame, Labelled, Pixels
from kdcore.data.ingest.folder_layout import IMAGES, SPLIT_FOLDERS, class_problem
from kdcore.data.ingest.image_folder import tell_ignored
from kdcore.data.ingest.safe_tar import File, walk
from kdcore.data.ingest.safe_zip import Archive, Unreadable
from kdcore.data.types import PartName
from kdcore.protocol.events import Item
from kdcore.runtime.errors import item, printable

_LABELS = (".cls", ".json")
_MAX_LABEL_BYTES = 1 << 20
_MAGIC = (257, b"ustar")
_FIRST_WORD = re.compile(r"[A-Za-z]+")


def is_tar(path: Path) -> bool:
    """Whether the file says of itself that it is a tar."""
    try:
        with path.open("rb") as file:
            file.seek(_MAGIC[0])
            return file.read(len(_MAGIC[1])) == _MAGIC[1]
    except OSError:
        return False


class _Sample(NamedTuple):
    """What has been seen of one key."""

    key: tuple[str, ...]
    files: dict[str, tuple[str, ...]]
    """By extension: the names of its files."""
    shape: decode.Shape | None
    labels: dict[str, str]
    """By extension."""


class ShardSource:
    """Every pass reads the shards from the first byte to the last."""

    classes: tuple[str, ...] | None = None

    def __init__(self, path: Path, archive: Archive | None, context: Context) -> None:
        self._path = path
        self._archive = archive
        self._context = context
        self.problems: list[Item] = list(archive.problems) if archive else []

    def survey(self) -> list[Found]:
        """Read labels and headers; the images come sorted by split, label and name."""
        found: dict[tuple[str, ...], Found] = {}
        for sample in self._samples():
            image = self._found(sample)
            if image is None:
                continue
            if image.image.parts in found:
                self.problems.append(item(image.image.name, "is there twice; keep one"))
            found[image.image.parts] = image
            self._context.check_count(len(found))
        labels = {one.image.label for one in found.values()} - {""}
        if labels and all(label.isdecimal() for label in labels):
            # Numbers stand for the places of a list: 10 comes after 9.
            self.classes = tuple(sorted(labels, key=lambda label: (int(label), label)))
        return sorted(found.values(), key=_order)

    def pixels(
        self, images: Sequence[Labelled], frame: Frame
    ) -> Iterator[tuple[int, Pixels | None]]:
        """In the order of the shards."""
        positions = {image.parts: position for position, image in enumerate(images)}
        done = 0
        for file in self._files(count=False):
            position = positions.get(file.parts)
            if position is not None:
                self._context.tick(done, len(images))
                done += 1
                yield position, self._decoded(file, frame)
        # The second pass meets the same damage as the first.
        self.problems = list(dict.fromkeys(self.problems))

    def _decoded(self, file: File, frame: Frame) -> Pixels | None:
        most = self._context.request.max_pixels
        try:
            data = file.read()
            return decode.decode(data, grey=frame.grey, size=frame.size, max_pixels=most)
        except (Unreadable, decode.BadImage) as error:
            self.problems.append(item("/".join(file.parts), str(error)))
            return None

    def _files(self, *, count: bool) -> Iterator[File]:
        if self._archive is None:
            with self._path.open("rb") as file:
                yield from walk(file, (), self.problems)
            return
        for member in sorted(self._archive.members, key=lambda member: member.parts):
            name = "/".join(member.parts)
            if not name.lower().endswith(".tar"):
                continue
            try:
                with self._archive.stream(member, count=count) as stream:
                    yield from walk(stream, member.parts, self.problems, depth=0)
            except Unreadable as error:
                self.problems.append(item(name, str(error)))

    def _samples(self) -> Iterator[_Sample]:
        sample: _Sample | None = None
        others = self._archive.members if self._archive else []
        names = ["/".join(member.parts) for member in others]
        strange = [name for name in names if not name.lower().endswith(".tar")]
        for file in self._files(count=True):
            self._context.tick(0)
            stem, dot, extension = file.parts[-1].partition(".")
            key, extension = (*file.parts[:-1], stem), dot + extension.lower()
            if extension not in IMAGES and extension not in _LABELS:
                strange.append("/".join(file.parts))
                continue
            if sample is None or sample.key != key:
                if sample is not None:
                    yield sample
                sample = _Sample(key, {}, None, {})
            sample = self._read(file, extension, sample)
        if sample is not None:
            yield sample
        tell_ignored(self._context, strange)

    def _read(self, file: File, extension: str, sample: _Sample) -> _Sample:
        name = "/".join(file.parts)
        if extension in sample.files:
            self.problems.append(item(name, "is there twice; keep one"))
        sample.files[extension] = file.parts
        try:
            if extension in IMAGES:
                return sample._replace(shape=self._peek(file))
            sample.labels[extension] = _label(file, extension)
        except (Unreadable, decode.BadImage) as error:
            self.problems.append(item(name, str(error)))
        return sample

    def _peek(self, file: File) -> decode.Shape:
        most = self._context.request.max_pixels
        if file.size > 4 * most + (1 << 20):
            raise decode.BadImage(f"has {file.size} bytes, too many for {most} pixels")
        return decode.peek(file.read(), most)

    def _found(self, sample: _Sample) -> Found | None:
        images = [parts for kind, parts in sample.files.items() if kind in IMAGES]
        split = _split(sample.key)
        label = sample.labels.get(".cls", sample.labels.get(".json", ""))
        unread = (set(_LABELS) & set(sample.files)) - set(sample.labels)
        if unread or (images and sample.shape is None):
            return None  # broken, and told already
        problem = _problem(len(images), split, label)
        if problem is not None or sample.shape is None:
            self.problems.append(item("/".join(sample.key), problem or "has no image"))
            return None
        return Found(
            Labelled(images[0], split, "" if split == "unlabelled" else label, None), sample.shape
        )


def _problem(num_images: int, split: PartName, label: str) -> str | None:
    if num_images != 1:
        return "has several images" if num_images else "has a label and no image"
    if split == "unlabelled":
        return None
    if not label:
        return "has no label: put a .cls file of the same name beside it"
    return class_problem(label)


def _order(one: Found) -> tuple[str, str, tuple[str, ...]]:
    return one.image.split, one.image.label, one.image.parts


def _split(key: tuple[str, ...]) -> PartName:
    for folder in key[:-1]:
        word = folder
        if folder.lower().endswith(".tar"):
            first = _FIRST_WORD.match(folder)
            word = first.group() if first else ""
        if word.casefold() in SPLIT_FOLDERS:
            return SPLIT_FOLDERS[word.casefold()]
    return "train"


def _label(file: File, extension: str) -> str:
    """The text of a label. Raises BadImage, which names the file like any other."""
    if file.size > _MAX_LABEL_BYTES:
        raise decode.BadImage(f"has {file.size} bytes, too many for a label")
    data = file.read()
    try:
        text = data.decode("utf-8").strip()
        if extension == ".json":
            value = json.loads(text)
            value = value.get("label", "") if isinstance(value, dict) else ""
            right = isinstance(value, str | int) and not isinstance(value, bool)
            text = str(value).strip() if right else ""
    except (ValueError, RecursionError) as error:
        raise decode.BadImage(f"is no label: {printable(str(error))}") from error
    return text
