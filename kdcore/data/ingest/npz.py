"""Arrays in an ``.npz``: ``images`` (N, H, W[, C]) uint8 and ``labels`` (N,), read row by row.

``train_images`` is another name for ``images``; ``val_`` and ``test_`` arrays are the other splits,
``unlabelled_images`` have no labels. Labels are integers, which ``class_names`` may name, or text.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from kdcore.data import decode
from kdcore.data.ingest import npy
from kdcore.data.ingest.base import Context, Found, Frame, Labelled, Pixels
from kdcore.data.ingest.folder_layout import class_problem
from kdcore.data.ingest.npy import BadArray
from kdcore.data.ingest.safe_zip import Archive, Member
from kdcore.data.types import SPLITS, PartName
from kdcore.runtime.errors import item, printable

_IMAGES: dict[str, PartName] = {
    "images": "train",
    **{f"{split}_images": split for split in SPLITS},
    "unlabelled_images": "unlabelled",
    "unlabeled_images": "unlabelled",
}
_LABELS: dict[str, PartName] = {"labels": "train", **{f"{split}_labels": split for split in SPLITS}}
_CLASS_NAMES = "class_names"
_MAX_WIDTH = 4 * 200
"""Bytes of one label as text."""

Labels = npt.NDArray[Any]


class ArraySource:
    """The arrays of an open archive whose members are all ``.npy``."""

    def __init__(self, archive: Archive, context: Context) -> None:
        self._archive = archive
        self._context = context
        self.classes: tuple[str, ...] | None = None
        self.problems = list(archive.problems)
        self._images: dict[PartName, Member] = {}
        self._shapes: dict[PartName, tuple[int, ...]] = {}

    def survey(self) -> list[Found]:
        """Check every header and every label; images come in the order of their rows."""
        labels: dict[PartName, Labels] = {}
        names: Labels | None = None
        for member in self._archive.members:
            key = member.parts[-1].removesuffix(".npy")
            if key not in (*_IMAGES, *_LABELS, _CLASS_NAMES):
                detail = "is not known here: `images` and `labels` are expected"
                self.problems.append(item(key, detail))
                continue
            try:
                if key in _IMAGES:
                    self._add_images(_once(self._images, key, _IMAGES), member)
                elif key in _LABELS:
                    labels[_once(labels, key, _LABELS)] = self._column(member)
                else:
                    names = self._column(member)
            except BadArray as error:
                self.problems.append(item(key, str(error)))
        self._context.check_count(sum(shape[0] for shape in self._shapes.values()))
        for part in sorted({*self._images, *labels} - {"unlabelled"}):
            self._check_pair(part, labels.get(part))
        texts = {} if self.problems else self._texts(labels, names)
        return [] if self.problems else self._found(texts)

    def pixels(
        self, images: Sequence[Labelled], frame: Frame
    ) -> Iterator[tuple[int, Pixels | None]]:
        """In the order of the survey's parts and rows."""
        positions = {image.place: position for position, image in enumerate(images)}
        for part, member in self._images.items():
            try:
                for row, values in enumerate(npy.rows(self._archive, member)):
                    position = positions[part, row]
                    self._context.tick(position, len(images))
                    yield position, _pixels(values, frame)
            except BadArray as error:
                self.problems.append(item(member.parts[-1], str(error)))

    def _add_images(self, part: PartName, member: Member) -> None:
        shape, dtype = npy.header(self._archive, member)
        if dtype != np.uint8:
            raise BadArray(f"has values of type {dtype}; uint8 from 0 to 255 was expected")
        if len(shape) not in (3, 4) or (len(shape) == 4 and shape[3] not in (1, 3, 4)):
            raise BadArray(
                f"has the shape {shape}; (N, H, W) or (N, H, W, C) with 1, 3 or 4 channels at the "
                "end was expected"
            )
        most = self._context.request.max_pixels
        if 0 in shape or shape[1] * shape[2] > most:
            raise BadArray(f"has images of {shape[2]} x {shape[1]} pixels; 1 to {most} are read")
        self._images[part] = member
        self._shapes[part] = shape

    def _column(self, member: Member) -> Labels:
        """One value a row: integers or text."""
        most = self._context.request.max_images * _MAX_WIDTH
        values = npy.load(self._archive, member, most)
        if values.ndim == 2 and values.shape[1] == 1:
            values = values[:, 0]
        if values.ndim != 1:
            raise BadArray(f"has the shape {values.shape}; one value for each image was expected")
        if values.dtype.kind == "S":
            try:
                return np.char.decode(values, "utf-8")
            except UnicodeDecodeError as error:
                raise BadArray(f"holds text that is not UTF-8: {error}") from error
        if values.dtype.kind not in "iuU":
            raise BadArray(f"has values of type {values.dtype}; integers or text were expected")
        return values

    def _texts(
        self, labels: dict[PartName, Labels], names: Labels | None
    ) -> dict[PartName, list[str]]:
        """Each image's class as text; fills :attr:`classes` and the problems."""
        if names is not None:
            self.classes = tuple(str(name) for name in names)
            self._check_names(self.classes)
        elif all(values.dtype.kind in "iu" for values in labels.values()):
            found = {int(value) for values in labels.values() for value in np.unique(values)}
            self.classes = tuple(str(value) for value in sorted(found))
        texts = {}
        for part, values in labels.items():
            try:
                texts[part] = _named(values, self.classes if names is not None else None)
            except BadArray as error:
                self.problems.append(item(f"labels of {part}", str(error)))
        for name in {text for part in texts.values() for text in part}:
            if problem := class_problem(name):
                self.problems.append(item(name, problem))
        return texts

    def _check_pair(self, part: PartName, labels: Labels | None) -> None:
        if part not in self._images:
            self.problems.append(item(f"labels of {part}", "have no images beside them"))
        elif labels is None:
            self.problems.append(item(f"images of {part}", "have no labels beside them"))
        elif len(labels) != self._shapes[part][0]:
            detail = f"are {len(labels)}, but there are {self._shapes[part][0]} images"
            self.problems.append(item(f"labels of {part}", detail))

    def _check_names(self, names: tuple[str, ...]) -> None:
        for name in sorted({name for name in names if names.count(name) > 1}):
            self.problems.append(item(_CLASS_NAMES, f"has {printable(name)} twice"))

    def _found(self, texts: dict[PartName, list[str]]) -> list[Found]:
        found = []
        for part, shape in self._shapes.items():
            grey = len(shape) == 3 or shape[3] == 1
            header = decode.Shape(width=shape[2], height=shape[1], grey=grey)
            for row in range(shape[0]):
                label = texts[part][row] if part in texts else ""
                # Its number, so that the draw of a split does not depend on how it is packed.
                image = Labelled((part, f"{row:08d}"), part, label, (part, row))
                found.append(Found(image, header))
        return found


def _once(taken: dict[PartName, Any], key: str, parts: dict[str, PartName]) -> PartName:
    if parts[key] in taken:
        raise BadArray(f"is there under two names; keep one for {parts[key]}")
    return parts[key]


def _named(values: Labels, names: tuple[str, ...] | None) -> list[str]:
    if values.dtype.kind == "U":
        strange = set(values.tolist()) - set(names) if names is not None else set()
        if strange:
            raise BadArray(f"has {min(strange)!r}, which is not one of {_CLASS_NAMES}")
        return [str(value) for value in values]
    low, most = 0, None if names is None else len(names) - 1
    wrong = values < low if most is None else (values < low) | (values > most)
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        right = "0 or more" if most is None else f"0 to {most}"
        raise BadArray(f"has {values[row]} in row {row}; {right} was expected")
    return [str(value) if names is None else names[value] for value in values.tolist()]


def _pixels(values: npt.NDArray[np.uint8], frame: Frame) -> Pixels:
    if values.ndim == 3 and values.shape[2] == 1:
        values = values[:, :, 0]
    return decode.fitted(Image.fromarray(values), grey=frame.grey, size=frame.size)
