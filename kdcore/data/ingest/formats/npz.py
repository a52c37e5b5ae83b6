"""Read arrays: an ``.npz``, or an archive of ``.npy`` files; one of images, one of labels.

The names say what is images, what labels and which split (:mod:`kdcore.data.ingest.arrays`):
``images`` and ``labels``, ``x_train`` and ``y_train``, ``val_images``, ``unlabeled_images``,
``class_names``. All other arrays are ignored.
"""

import contextlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from kdcore.data import decode
from kdcore.data.class_labels import (
    InvalidLabelError,
    class_indices_of,
    class_name_problem,
    class_names_of,
    index_warning,
    normalize_text,
)
from kdcore.data.image_signature import has_image_name
from kdcore.data.ingest.archives.open_archive import MemberArchive
from kdcore.data.ingest.arrays.array_names import ArrayChoice, ArrayKey, choose_arrays
from kdcore.data.ingest.arrays.image_array import ImageArray, describe_scales, set_scale
from kdcore.data.ingest.arrays.numpy_file import ArrayFile, InvalidArrayError
from kdcore.data.ingest.base import ImageFormat, IngestContext, LabeledImage, Pixels, ScannedImage
from kdcore.data.types import SubsetName
from kdcore.protocol.events import ErrorDetail
from kdcore.runtime.errors import UserError, error_detail

_MAX_LABEL_BYTES = 4 * 200
"""Largest label as text: 200 characters of four bytes."""


class _LabelArray(NamedTuple):
    """The labels of a split."""

    name: str
    values: npt.NDArray[Any]
    """(N,), numbers or text."""
    num_columns: int | None = None
    """Number of classes of one-hot labels."""


def _read_label_array(file: ArrayFile, max_rows: int) -> _LabelArray:
    """Read labels (N,), (N, 1) or one-hot (N, K). Raises :class:`InvalidArrayError`."""
    shape, dtype = file.header
    if dtype.kind not in "biufSU":
        raise InvalidArrayError(f"has values of type {dtype}; numbers or text were expected")
    if len(shape) == 2 and shape[1] > 1 and dtype.kind in "biuf":
        return _LabelArray(file.name, _read_one_hot(file, max_rows), shape[1])
    if len(shape) == 2 and shape[1] == 1:
        shape = shape[:1]
    if len(shape) != 1:
        raise InvalidArrayError(
            f"has the shape {shape}; one value for each image, or one-hot rows, was expected"
        )
    values = file.read(max_rows * _MAX_LABEL_BYTES).reshape(-1)
    if dtype.kind == "S":
        try:
            values = np.char.decode(values, "utf-8")
        except UnicodeDecodeError as error:
            raise InvalidArrayError(f"has text that is not UTF-8: {error}") from error
    return _LabelArray(file.name, values)


def _read_one_hot(file: ArrayFile, max_rows: int) -> npt.NDArray[np.int64]:
    if file.num_rows > max_rows:
        raise InvalidArrayError(f"has {file.num_rows} rows; at most {max_rows} are allowed")
    indices = np.empty(file.num_rows, np.int64)
    for number, row in enumerate(file.iter_rows()):
        index = int(row.argmax())
        if row[index] != 1 or np.count_nonzero(row) != 1:
            raise InvalidArrayError(
                f"has row {number} with {_show_row(row)}; one-hot rows, a single 1 and else 0, or "
                "class numbers (N,) were expected"
            )
        indices[number] = index
    return indices


def _show_row(row: npt.NDArray[Any]) -> str:
    few = ", ".join(f"{value:.4g}" for value in row[:4].astype(np.float64))
    return f"[{few}, …]" if len(row) > 4 else f"[{few}]"


def _read_class_names(labels: _LabelArray) -> tuple[str, ...]:
    """Return the names of the classes. Raises :class:`InvalidArrayError`."""
    if labels.num_columns is not None:
        raise InvalidArrayError("has rows of numbers; one name for each class was expected")
    try:
        # Text is no number: 1.5 may be a name here.
        is_text = labels.values.dtype.kind == "U"
        names = _texts_of(labels.values) if is_text else class_names_of(labels.values)
    except InvalidLabelError as error:
        raise InvalidArrayError(str(error)) from error
    if "" in names:
        raise InvalidArrayError(f"has an empty class name in row {names.index('')}")
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    if twice:
        raise InvalidArrayError(f"has {', '.join(twice[:5])} twice")
    return tuple(names)


def _name_labels(labels: _LabelArray, names: tuple[str, ...] | None) -> list[str]:
    """Return the class of each image. Raises :class:`InvalidArrayError`."""
    if names is not None and labels.num_columns not in (None, len(names)):
        raise InvalidArrayError(
            f"has {labels.num_columns} columns, but there are {len(names)} class names"
        )
    try:
        return _name_values(labels.values, names)
    except InvalidLabelError as error:
        raise InvalidArrayError(str(error)) from error


def _name_values(values: npt.NDArray[Any], names: tuple[str, ...] | None) -> list[str]:
    if names is None:
        return class_names_of(values)
    if values.dtype.kind != "U":
        return [names[index] for index in class_indices_of(values, len(names))]
    texts = _texts_of(values)
    if not set(texts) <= set(names):
        texts = class_names_of(values)
    unknown = set(texts) - set(names)
    if unknown:
        raise InvalidArrayError(f"has {min(unknown)!r}, which is not one of the class names")
    return texts


def _texts_of(values: npt.NDArray[Any]) -> list[str]:
    return [normalize_text(text) for text in values.tolist()]


_NAMES_HINT = "name the arrays images and labels, or x_train, y_train, x_test and y_test"


def open_reader(context: IngestContext) -> "ArrayReader | None":
    """Return a reader for an archive that has ``.npy`` files and no images."""
    names = [member.path_parts[-1].lower() for member in context.archive.members]
    if any(map(has_image_name, names)) or not any(name.endswith(".npy") for name in names):
        return None
    return ArrayReader(context.archive, context)


class ArrayReader:
    """Reads the arrays of an open archive, row by row."""

    def __init__(self, archive: MemberArchive, context: IngestContext) -> None:
        self._archive = archive
        self._context = context
        self.classes: tuple[str, ...] | None = None
        self.problems = list(archive.problems)
        self._images: dict[SubsetName, ImageArray] = {}
        self._labels: dict[SubsetName, list[str]] = {}
        self._was_decoded = False

    def scan(self) -> list[ScannedImage]:
        """Check every header and every label; return the images in the order of their rows."""
        files, broken = self._open_files()
        headers = {name: file.header for name, file in files.items()}
        choice = choose_arrays(headers | dict.fromkeys(broken))
        self.problems.extend(_choice_problems(choice))
        for name in choice.chosen.values():
            if name in broken:
                self.problems.append(error_detail(name, broken[name]))
        if not self.problems:
            _check_roles(choice, files)
        chosen = {key: files[name] for key, name in choice.chosen.items() if name in files}
        self._read_images(chosen)
        self._read_labels(chosen)
        self._check_pairs(chosen)
        self._summarize(chosen, choice.others)
        return [] if self.problems else self._list_images()

    def decode_images(
        self, images: Sequence[LabeledImage], image_format: ImageFormat
    ) -> Iterator[tuple[int, Pixels | None]]:
        """Decode in the order of splits and rows."""
        positions = {image.location: position for position, image in enumerate(images)}
        for part, array in self._images.items():
            with self._collect_problem(array.file):
                rows = array.iter_images(count_bytes=not self._was_decoded)
                for row, pixels in enumerate(rows):
                    position = positions.get((part, row))
                    if position is None:
                        self._context.report_progress(0)
                        continue
                    self._context.report_progress(position, len(images))
                    yield position, _fit(pixels, image_format)
        self._was_decoded = True

    @contextlib.contextmanager
    def _collect_problem(self, file: ArrayFile) -> Iterator[None]:
        try:
            yield
        except InvalidArrayError as error:
            self.problems.append(error_detail(file.name, str(error)))

    def _open_files(self) -> tuple[dict[str, ArrayFile], dict[str, str]]:
        """Return the arrays by name, and what is wrong with those that cannot be used."""
        files, broken, others = {}, {}, []
        for member in self._archive.members:
            name = "/".join(member.path_parts)
            if not name.lower().endswith(".npy"):
                others.append(name)
                continue
            name = name[: -len(".npy")]
            try:
                files[name] = ArrayFile(self._archive, member, name)
            except InvalidArrayError as error:
                broken[name] = str(error)
        self._context.summary.add_ignored("is not an array (.npy)", others)
        return files, broken

    def _read_images(self, chosen: Mapping[ArrayKey, ArrayFile]) -> None:
        for (role, part), file in chosen.items():
            if role == "images":
                with self._collect_problem(file):
                    array = ImageArray.open(file, self._context.request.max_pixels)
                    self._images[part] = array
        self._context.check_count(sum(a.layout.num_images for a in self._images.values()))
        for part, array in list(self._images.items()):
            with self._collect_problem(array.file):
                array.measure(lambda: self._context.report_progress(0))
                continue
            del self._images[part]
        for array in self._images.values():
            with self._collect_problem(array.file):
                set_scale(array, self._images.values())

    def _read_labels(self, chosen: Mapping[ArrayKey, ArrayFile]) -> None:
        most = self._context.request.max_images
        names_file = chosen.get(("class_names", "train"))
        if names_file is not None:
            with self._collect_problem(names_file):
                names = _read_label_array(names_file, most)
                self.classes = _read_class_names(names)
            if self.classes is None:
                return
            if warning := index_warning(self.classes):
                self._context.summary.add_warning(warning)
        for (role, part), file in chosen.items():
            if role == "labels":
                with self._collect_problem(file):
                    labels = _read_label_array(file, most)
                    self._labels[part] = _name_labels(labels, self.classes)
        for name in {text for part in self._labels.values() for text in part}:
            if problem := class_name_problem(name):
                self.problems.append(error_detail(name, problem))

    def _check_pairs(self, chosen: Mapping[ArrayKey, ArrayFile]) -> None:
        """Compare the numbers of images and labels; arrays with a problem are left out."""
        for part, labels in self._labels.items():
            images = self._images.get(part)
            if images is not None and len(labels) != images.layout.num_images:
                detail = (
                    f"has {len(labels)} labels, but {images.file.name} has "
                    f"{images.layout.num_images} images"
                )
                self.problems.append(error_detail(chosen["labels", part].name, detail))

    def _summarize(self, chosen: Mapping[ArrayKey, ArrayFile], others: list[str]) -> None:
        summary = self._context.summary
        summary.add_ignored("is not named as images, labels or class names", others)
        for part, array in self._images.items():
            labels = chosen.get(("labels", part))
            beside = "" if labels is None else f" and {labels.name} {labels.header.shape}"
            summary.sources[part] = array.describe() + beside
        for warning in describe_scales(self._images.values()):
            summary.add_warning(warning)

    def _list_images(self) -> list[ScannedImage]:
        deep = [array.values.high for array in self._images.values() if array.white > 255]
        scanned = []
        for part, array in self._images.items():
            layout = array.layout
            header = decode.ImageHeader(
                layout.width,
                layout.height,
                gray=layout.channels == 1,
                transparent=layout.channels == 4,
                max_value=int(max(deep)) if array.white > 255 else None,
            )
            for row in range(layout.num_images):
                label = self._labels[part][row] if part in self._labels else ""
                # Named by its row, so that the draw of splits does not depend on the packing.
                image = LabeledImage((part, f"{row:08d}"), part, label, (part, row))
                scanned.append(ScannedImage(image, header))
        return scanned


def _choice_problems(choice: ArrayChoice) -> list[ErrorDetail]:
    """Return the arrays that are one too many, and those that lack their other half."""
    problems: list[ErrorDetail] = []
    for (role, part), names in choice.ambiguous.items():
        detail = f"is a second array of {role.replace('_', ' ')} of {part}, beside {names[0]}"
        problems.extend(error_detail(name, f"{detail}; remove one") for name in names[1:])
    for (role, part), name in choice.chosen.items():
        other: ArrayKey = ("images" if role == "labels" else "labels", part)
        if role == "class_names" or part == "unlabeled":
            continue
        if other not in choice.chosen and other not in choice.ambiguous:
            detail = f"has {role} of {part}, but no array has {other[0]} of {part}"
            problems.append(error_detail(name, detail))
    return problems


def _check_roles(choice: ArrayChoice, files: Mapping[str, ArrayFile]) -> None:
    """Raise :class:`UserError` ``dataset_invalid`` without images, with the arrays that exist."""
    if not any(role == "images" for role, _ in choice.chosen):
        listed = ", ".join(f"{name} {file.header.shape}" for name, file in list(files.items())[:20])
        raise UserError(
            "dataset_invalid",
            f"no array of the upload is named as images; it has {listed}",
            hint=_NAMES_HINT,
        )


def _fit(values: npt.NDArray[np.uint8], image_format: ImageFormat) -> Pixels:
    return decode.fit_image(Image.fromarray(values), gray=image_format.gray, size=image_format.size)
