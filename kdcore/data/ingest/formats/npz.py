"""Read an ``.npz``: ``images`` (N, H, W[, C]) uint8 and ``labels`` (N,), row by row.

``train_images`` is another name for ``images``; ``val_`` and ``test_`` arrays are the other splits,
``unlabeled_images`` have no labels. Labels are text, or integers that ``class_names`` may name.

The upload may be hostile: nothing is unpickled, and sizes in a header are compared with the limits
before memory is allocated. Format:
https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numpy.lib import format as numpy_format
from PIL import Image

from kdcore.data import decode
from kdcore.data.class_labels import (
    InvalidLabelError,
    class_indices_of,
    class_name_problem,
    class_names_of,
)
from kdcore.data.ingest.archives.safe_zip import (
    Archive,
    ArchiveMember,
    MemberStream,
    UnreadableMemberError,
)
from kdcore.data.ingest.base import ImageFormat, IngestContext, LabeledImage, Pixels, ScannedImage
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
"""Largest label as text: 200 characters of four bytes."""

Labels = npt.NDArray[Any]


class InvalidArrayError(Exception):
    """An array is unusable; the message says why."""


def open_reader(context: IngestContext) -> "NpzReader | None":
    """Return a reader for a zip whose members are all ``.npy``."""
    names = [member.path_parts[-1].lower() for member in context.archive.members]
    is_npz = bool(names) and all(name.endswith(".npy") for name in names)
    return NpzReader(context.archive, context) if is_npz else None


class NpzReader:
    """Reads the arrays of an open archive whose members are all ``.npy``."""

    def __init__(self, archive: Archive, context: IngestContext) -> None:
        self._archive = archive
        self._context = context
        self.classes: tuple[str, ...] | None = None
        self.problems = list(archive.problems)
        self._images: dict[SubsetName, ArchiveMember] = {}
        self._shapes: dict[SubsetName, tuple[int, ...]] = {}

    def scan(self) -> list[ScannedImage]:
        """Check every header and every label; return the images in the order of their rows."""
        labels: dict[SubsetName, Labels] = {}
        names: Labels | None = None
        for member in self._archive.members:
            key = member.path_parts[-1].removesuffix(".npy")
            if key not in (*_IMAGES, *_LABELS, _CLASS_NAMES):
                detail = "is an unknown name; `images` and `labels` are expected"
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
        """Decode in the order of splits and rows."""
        positions = {image.location: position for position, image in enumerate(images)}
        for part, member in self._images.items():
            try:
                for row, values in enumerate(_iter_rows(self._archive, member)):
                    position = positions[part, row]
                    self._context.report_progress(position, len(images))
                    yield position, _decode_row(values, image_format)
            except InvalidArrayError as error:
                self.problems.append(error_detail(member.path_parts[-1], str(error)))

    def _add_images(self, part: SubsetName, member: ArchiveMember) -> None:
        shape, dtype = _read_array_header(self._archive, member)
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
                f"has images of {shape[2]} x {shape[1]} pixels; 1 to {most} pixels are allowed"
            )
        self._images[part] = member
        self._shapes[part] = shape

    def _column(self, member: ArchiveMember) -> Labels:
        """Read one integer or text for each image."""
        most = self._context.request.max_images * _MAX_LABEL_BYTES
        values = _read_array(self._archive, member, most)
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
                raise InvalidArrayError(f"has text that is not UTF-8: {error}") from error
        if values.dtype.kind not in "biufU":
            raise InvalidArrayError(
                f"has values of type {values.dtype}; numbers or text were expected"
            )
        return values

    def _label_texts(
        self, labels: dict[SubsetName, Labels], names: Labels | None
    ) -> dict[SubsetName, list[str]]:
        """Return the class of each image as text; set :attr:`classes` and add to the problems."""
        self.classes = None if names is None else self._read_names(names)
        texts = {}
        for part, values in labels.items():
            try:
                texts[part] = _label_names(values, self.classes)
            except (InvalidArrayError, InvalidLabelError) as error:
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

    def _read_names(self, values: Labels) -> tuple[str, ...]:
        try:
            # Text stays as it is: 1.5 may be a name here.
            names = values.tolist() if values.dtype.kind == "U" else class_names_of(values)
        except InvalidLabelError as error:
            self.problems.append(error_detail(_CLASS_NAMES, str(error)))
            return ()
        for name in sorted({name for name in names if names.count(name) > 1}):
            self.problems.append(error_detail(_CLASS_NAMES, f"has {to_printable(name)} twice"))
        return tuple(names)

    def _list_images(self, texts: dict[SubsetName, list[str]]) -> list[ScannedImage]:
        scanned = []
        for part, shape in self._shapes.items():
            gray = len(shape) == 3 or shape[3] == 1
            header = decode.ImageHeader(width=shape[2], height=shape[1], gray=gray)
            for row in range(shape[0]):
                label = texts[part][row] if part in texts else ""
                # Named by its row, so that the draw of splits does not depend on the packing.
                image = LabeledImage((part, f"{row:08d}"), part, label, (part, row))
                scanned.append(ScannedImage(image, header))
        return scanned


def _unique_subset(
    existing: dict[SubsetName, Any], key: str, parts: dict[str, SubsetName]
) -> SubsetName:
    if parts[key] in existing:
        raise InvalidArrayError(f"is a second array for {parts[key]}, under two names; remove one")
    return parts[key]


def _label_names(values: Labels, names: tuple[str, ...] | None) -> list[str]:
    if names is None:
        return class_names_of(values)
    if values.dtype.kind != "U":
        return [names[index] for index in class_indices_of(values, len(names))]
    texts: list[str] = values.tolist()
    if not set(texts) <= set(names):
        texts = class_names_of(values)
    unknown = set(texts) - set(names)
    if unknown:
        raise InvalidArrayError(f"has {min(unknown)!r}, which is not one of {_CLASS_NAMES}")
    return texts


def _decode_row(values: npt.NDArray[np.uint8], image_format: ImageFormat) -> Pixels:
    if values.ndim == 3 and values.shape[2] == 1:
        values = values[:, :, 0]
    return decode.fit_image(Image.fromarray(values), gray=image_format.gray, size=image_format.size)


class ArrayHeader(NamedTuple):
    """Shape and type of an array, from its header."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]


def _read_array_header(archive: Archive, member: ArchiveMember) -> ArrayHeader:
    with _convert_errors(), archive.stream(member, count_bytes=False) as stream:
        return _parse_header(stream)


def _read_array(archive: Archive, member: ArchiveMember, max_bytes: int) -> npt.NDArray[Any]:
    """Read an array of at most ``max_bytes``."""
    with _convert_errors(), archive.stream(member) as stream:
        array_header = _parse_header(stream)
        size = math.prod(array_header.shape) * array_header.dtype.itemsize
        if size > max_bytes:
            raise InvalidArrayError(f"has {size} bytes; at most {max_bytes} are allowed")
        return np.frombuffer(_read_exactly(stream, size), array_header.dtype).reshape(
            array_header.shape
        )


def _iter_rows(archive: Archive, member: ArchiveMember) -> Iterator[npt.NDArray[Any]]:
    """Yield the rows of an array; one row is in memory at a time."""
    with archive.stream(member) as stream:
        with _convert_errors():
            array_header = _parse_header(stream)
        size = math.prod(array_header.shape[1:]) * array_header.dtype.itemsize
        for _ in range(array_header.shape[0]):
            with _convert_errors():
                data = _read_exactly(stream, size)
            yield np.frombuffer(data, array_header.dtype).reshape(array_header.shape[1:])


def _parse_header(stream: MemberStream) -> ArrayHeader:
    version = numpy_format.read_magic(stream)
    if version == (1, 0):
        shape, fortran, dtype = numpy_format.read_array_header_1_0(stream)
    elif version == (2, 0):
        shape, fortran, dtype = numpy_format.read_array_header_2_0(stream)
    else:
        raise InvalidArrayError(
            f"has version {version} of numpy's format; 1.0 and 2.0 are supported"
        )
    if dtype.hasobject:
        raise InvalidArrayError(
            "contains Python objects, which are never unpickled; save plain numbers"
        )
    if fortran and len(shape) > 1:
        raise InvalidArrayError("is in Fortran order; save numpy.ascontiguousarray(array)")
    if any(side < 0 for side in shape):
        raise InvalidArrayError(f"has an impossible shape {shape}")
    return ArrayHeader(shape, dtype)


def _read_exactly(stream: MemberStream, size: int) -> bytes:
    parts = []
    missing = size
    while missing > 0:
        part = stream.read(min(missing, 1 << 20))
        if not part:
            raise InvalidArrayError(f"is cut off: {missing} bytes are missing")
        parts.append(part)
        missing -= len(part)
    return b"".join(parts)


class _convert_errors:  # noqa: N801 - reads as a verb in a with statement
    """Convert numpy's and the archive's exceptions to :class:`InvalidArrayError`."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, UnreadableMemberError):
            raise InvalidArrayError(str(error)) from error
        # A header is a Python literal, so hostile bytes can cause any of these.
        if isinstance(error, ValueError | TypeError | SyntaxError | KeyError | RecursionError):
            raise InvalidArrayError(f"is not an array in numpy's format: {error}") from error
