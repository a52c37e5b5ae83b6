"""Arrays in an ``.npz``: ``images`` (N, H, W[, C]) uint8 and ``labels`` (N,), read row by row.

``train_images`` is another name for ``images``; ``val_`` and ``test_`` arrays are the other splits,
``unlabeled_images`` have no labels. Labels are integers, which ``class_names`` may name, or text.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from kdcore.data import decode
from kdcore.data.ingest import npy
from kdcore.data.ingest.base import ImageFormat, IngestContext, LabeledImage, Pixels, ScannedImage
from kdcore.data.ingest.folder_layout import class_name_problem
from kdcore.data.ingest.npy import InvalidArrayError
from kdcore.data.ingest.safe_zip import Archive, ArchiveMember
from kdcore.data.types import SPLITS, SubsetName
from kdcore.runtime.errors import error_detail, to_printable
from kdcore.schema.old_spelling import old_spelling

_IMAGES: dict[str, SubsetName] = {
    "images": "train",
    **{f"{split}_images": split for split in SPLITS},
    "unlabeled_images": "unlabeled",
    f"{old_spelling('unlabeled')}_images": "unlabeled",
}
_LABELS: dict[str, SubsetName] = {
    "labels": "train",
    **{f"{split}_labels": split for split in SPLITS},
}
_CLASS_NAMES = "class_names"
_MAX_LABEL_BYTES = 4 * 200
"""Bytes of one label as text."""

Labels = npt.NDArray[Any]


class NpzReader:
    """The arrays of an open archive whose members are all ``.npy``."""

    def __init__(self, archive: Archive, context: IngestContext) -> None:
        self._archive = archive
        self._context = context
        self.classes: tuple[str, ...] | None = None
        self.problems = list(archive.problems)
        self._images: dict[SubsetName, ArchiveMember] = {}
        self._shapes: dict[SubsetName, tuple[int, ...]] = {}

    def scan(self) -> list[ScannedImage]:
        """Check every header and every label; images come in the order of their rows."""
        labels: dict[SubsetName, Labels] = {}
        names: Labels | None = None
        for member in self._archive.members:
            key = member.path_parts[-1].removesuffix(".npy")
            if key not in (*_IMAGES, *_LABELS, _CLASS_NAMES):
                detail = "is not known here: `images` and `labels` are expected"
                self.problems.append(error_detail(key, detail))
                continue
            try:
                if key in _IMAGES:
                    self._add_images(_unique_subset(self._images, key, _IMAGES), member)
                elif key in _LABELS:
                    labels[_unique_subset(labels, key, _LABELS)] = self._column(member)
                else:
                    names = self._column(member)
            except InvalidArrayError as error:
                self.problems.append(error_detail(key, str(error)))
        self._context.check_count(sum(shape[0] for shape in self._shapes.values()))
        for part in sorted({*self._images, *labels} - {"unlabeled"}):
            self._check_pair(part, labels.get(part))
        texts = {} if self.problems else self._label_texts(labels, names)
        return [] if self.problems else self._list_images(texts)

    def decode_images(
        self, images: Sequence[LabeledImage], image_format: ImageFormat
    ) -> Iterator[tuple[int, Pixels | None]]:
        """In the order of the survey's parts and rows."""
        positions = {image.location: position for position, image in enumerate(images)}
        for part, member in self._images.items():
            try:
                for row, values in enumerate(npy.iter_rows(self._archive, member)):
                    position = positions[part, row]
                    self._context.report_progress(position, len(images))
                    yield position, _decode_row(values, image_format)
            except InvalidArrayError as error:
                self.problems.append(error_detail(member.path_parts[-1], str(error)))

    def _add_images(self, part: SubsetName, member: ArchiveMember) -> None:
        shape, dtype = npy.read_header(self._archive, member)
        if dtype != np.uint8:
            raise InvalidArrayError(f"has values of type {dtype}; uint8 from 0 to 255 was expected")
        if len(shape) not in (3, 4) or (len(shape) == 4 and shape[3] not in (1, 3, 4)):
            raise InvalidArrayError(
                f"has the shape {shape}; (N, H, W) or (N, H, W, C) with 1, 3 or 4 channels at the "
                "end was expected"
            )
        most = self._context.request.max_pixels
        if 0 in shape or shape[1] * shape[2] > most:
            raise InvalidArrayError(
                f"has images of {shape[2]} x {shape[1]} pixels; 1 to {most} are read"
            )
        self._images[part] = member
        self._shapes[part] = shape

    def _column(self, member: ArchiveMember) -> Labels:
        """One value a row: integers or text."""
        most = self._context.request.max_images * _MAX_LABEL_BYTES
        values = npy.read_array(self._archive, member, most)
        if values.ndim == 2 and values.shape[1] == 1:
            values = values[:, 0]
        if values.ndim != 1:
            raise InvalidArrayError(
                f"has the shape {values.shape}; one value for each image was expected"
            )
        if values.dtype.kind == "S":
            try:
                return np.char.decode(values, "utf-8")
            except UnicodeDecodeError as error:
                raise InvalidArrayError(f"holds text that is not UTF-8: {error}") from error
        if values.dtype.kind not in "iuU":
            raise InvalidArrayError(
                f"has values of type {values.dtype}; integers or text were expected"
            )
        return values

    def _label_texts(
        self, labels: dict[SubsetName, Labels], names: Labels | None
    ) -> dict[SubsetName, list[str]]:
        """Each image's class as text; fills :attr:`classes` and the problems."""
        if names is not None:
            self.classes = tuple(str(name) for name in names)
            self._check_names(self.classes)
        elif all(values.dtype.kind in "iu" for values in labels.values()):
            label_ids = {int(value) for values in labels.values() for value in np.unique(values)}
            self.classes = tuple(str(value) for value in sorted(label_ids))
        texts = {}
        for part, values in labels.items():
            try:
                texts[part] = _label_names(values, self.classes if names is not None else None)
            except InvalidArrayError as error:
                self.problems.append(error_detail(f"labels of {part}", str(error)))
        for name in {text for part in texts.values() for text in part}:
            if problem := class_name_problem(name):
                self.problems.append(error_detail(name, problem))
        return texts

    def _check_pair(self, part: SubsetName, labels: Labels | None) -> None:
        if part not in self._images:
            self.problems.append(error_detail(f"labels of {part}", "have no images beside them"))
        elif labels is None:
            self.problems.append(error_detail(f"images of {part}", "have no labels beside them"))
        elif len(labels) != self._shapes[part][0]:
            detail = f"are {len(labels)}, but there are {self._shapes[part][0]} images"
            self.problems.append(error_detail(f"labels of {part}", detail))

    def _check_names(self, names: tuple[str, ...]) -> None:
        for name in sorted({name for name in names if names.count(name) > 1}):
            self.problems.append(error_detail(_CLASS_NAMES, f"has {to_printable(name)} twice"))

    def _list_images(self, texts: dict[SubsetName, list[str]]) -> list[ScannedImage]:
        scanned = []
        for part, shape in self._shapes.items():
            gray = len(shape) == 3 or shape[3] == 1
            header = decode.ImageHeader(width=shape[2], height=shape[1], gray=gray)
            for row in range(shape[0]):
                label = texts[part][row] if part in texts else ""
                # Its number, so that the draw of a split does not depend on how it is packed.
                image = LabeledImage((part, f"{row:08d}"), part, label, (part, row))
                scanned.append(ScannedImage(image, header))
        return scanned


def _unique_subset(
    existing: dict[SubsetName, Any], key: str, parts: dict[str, SubsetName]
) -> SubsetName:
    if parts[key] in existing:
        raise InvalidArrayError(f"is there under two names; keep one for {parts[key]}")
    return parts[key]


def _label_names(values: Labels, names: tuple[str, ...] | None) -> list[str]:
    if values.dtype.kind == "U":
        strange = set(values.tolist()) - set(names) if names is not None else set()
        if strange:
            raise InvalidArrayError(f"has {min(strange)!r}, which is not one of {_CLASS_NAMES}")
        return [str(value) for value in values]
    low, most = 0, None if names is None else len(names) - 1
    wrong = values < low if most is None else (values < low) | (values > most)
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        right = "0 or more" if most is None else f"0 to {most}"
        raise InvalidArrayError(f"has {values[row]} in row {row}; {right} was expected")
    return [str(value) if names is None else names[value] for value in values.tolist()]


def _decode_row(values: npt.NDArray[np.uint8], image_format: ImageFormat) -> Pixels:
    if values.ndim == 3 and values.shape[2] == 1:
        values = values[:, :, 0]
    return decode.fit_image(Image.fromarray(values), gray=image_format.gray, size=image_format.size)
