"""Arrays of labels: one value for each image, or one-hot rows."""

from collections import Counter
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from kdcore.data.class_labels import (
    InvalidLabelError,
    class_indices_of,
    class_names_of,
    normalize_text,
)
from kdcore.data.ingest.arrays.numpy_file import ArrayFile, InvalidArrayError

MAX_LABEL_BYTES = 4 * 200
"""Largest label as text: 200 characters of four bytes."""


class LabelArray(NamedTuple):
    """The labels of a split."""

    name: str
    values: npt.NDArray[Any]
    """(N,), numbers or text."""
    num_columns: int | None = None
    """Number of classes of one-hot labels."""


def read_labels(file: ArrayFile, max_rows: int) -> LabelArray:
    """Read labels (N,), (N, 1) or one-hot (N, K). Raises :class:`InvalidArrayError`."""
    shape, dtype = file.header
    if dtype.kind not in "biufSU":
        raise InvalidArrayError(f"has values of type {dtype}; numbers or text were expected")
    if len(shape) == 2 and shape[1] > 1 and dtype.kind in "biuf":
        return LabelArray(file.name, _read_one_hot(file, max_rows), shape[1])
    if len(shape) == 2 and shape[1] == 1:
        shape = shape[:1]
    if len(shape) != 1:
        raise InvalidArrayError(
            f"has the shape {shape}; one value for each image, or one-hot rows, was expected"
        )
    values = file.read(max_rows * MAX_LABEL_BYTES).reshape(-1)
    if dtype.kind == "S":
        try:
            values = np.char.decode(values, "utf-8")
        except UnicodeDecodeError as error:
            raise InvalidArrayError(f"has text that is not UTF-8: {error}") from error
    return LabelArray(file.name, values)


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


def read_class_names(labels: LabelArray) -> tuple[str, ...]:
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


def name_labels(labels: LabelArray, names: tuple[str, ...] | None) -> list[str]:
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
