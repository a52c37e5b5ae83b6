"""Labels: from the values that uploads have to class names, and the order of a data set's classes.

Every format uses these functions, so equal labels give equal classes in the same order.
"""

import math
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from kdcore.runtime.errors import to_printable

MAX_CLASS_NAME_LENGTH = 200
_BLANKS = (
    "\t\n\v\f\r\x1c\x1d\x1e\x1f \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007"
    "\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000"
    "\xad\u200b\u200c\u200d\u200e\u200f\u2060\ufeff"
)
"""All white space; then invisible characters, the byte order mark among them."""
_EXPECTED = "an integer from 0, or a name, was expected"
_INTEGER = re.compile(r"([0-9]{1,200})(?:\.0*)?", re.ASCII)
_NEGATIVE_NUMBER = re.compile(r"-[0-9]+(?:\.[0-9]*)?", re.ASCII)
_FRACTION = re.compile(r"[0-9]*\.[0-9]*[1-9][0-9]*", re.ASCII)

_MISSING_LABELS = frozenset({"nan", "NaN", "None", "<NA>", "N/A", "n/a", "NaT", "null", "NULL"})


class InvalidLabelError(Exception):
    """A label is neither an integer nor a name; the message says which and why."""


def class_name_of(value: object) -> str:
    """Return the class name of one label: text, or a number of Python or numpy.

    An integer has one name, however it is written: 7, 7.0, ``"7"`` and ``"7.0"`` are ``"7"``,
    and true is ``"1"``. Blanks, invisible characters and a byte order mark around a text are
    removed, and its letters are composed (NFC). A missing label (None, empty text) gives
    an empty name. Raises :class:`InvalidLabelError` for negative numbers, fractions and other
    types.
    """
    if value is None:
        return ""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bytes):
        try:
            value = value.decode("utf-8")
        except UnicodeDecodeError as error:
            raise InvalidLabelError(f"the label is not UTF-8 text: {error}") from error
    if isinstance(value, str):
        return _class_name_of_text(normalize_text(value))
    if not isinstance(value, int | float):
        raise InvalidLabelError(f"the label is of type {type(value).__name__}: {_EXPECTED}")
    if not math.isfinite(value) or value != int(value) or value < 0:
        raise InvalidLabelError(f"{value} is not a label: {_EXPECTED}")
    return str(int(value))


def normalize_text(text: str) -> str:
    """Return a text without blanks and invisible characters around it, composed (NFC)."""
    return unicodedata.normalize("NFC", text.strip(_BLANKS))


def _class_name_of_text(text: str) -> str:
    number = _INTEGER.fullmatch(text)
    if number is not None:
        return number.group(1)
    if _FRACTION.fullmatch(text) or _NEGATIVE_NUMBER.fullmatch(text):
        raise InvalidLabelError(f"{text} is not a label: {_EXPECTED}")
    return text


def class_names_of(values: npt.NDArray[Any]) -> list[str]:
    """Return the class name of each label in an array (N,), by the rule of :func:`class_name_of`.

    Raises :class:`InvalidLabelError`, which names the first row with an invalid label.
    """
    unique, first_rows, inverse = np.unique(values, return_index=True, return_inverse=True)
    names = []
    for value, row in sorted(zip(unique, first_rows, strict=True), key=lambda pair: int(pair[1])):
        try:
            name = class_name_of(value)
        except InvalidLabelError as error:
            raise InvalidLabelError(f"row {row}: {error}") from error
        if not name:
            raise InvalidLabelError(f"row {row}: the label is empty: {_EXPECTED}")
        names.append((int(row), name))
    by_row = dict(names)
    return [by_row[row] for row in first_rows[inverse].tolist()]


def class_indices_of(values: npt.NDArray[Any], num_classes: int) -> list[int]:
    """Return the numeric labels in an array (N,) as indices of ``num_classes`` classes.

    1.0 and true are 1. Raises :class:`InvalidLabelError`, which names the first row that is not an
    index.
    """
    numbers = values.astype(np.float64) if values.dtype.kind in "biuf" else None
    if numbers is None:
        raise InvalidLabelError(f"the labels are of type {values.dtype}: numbers were expected")
    with np.errstate(invalid="ignore"):
        wrong = ~((numbers >= 0) & (numbers < num_classes) & (numbers == np.floor(numbers)))
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise InvalidLabelError(
            f"row {row}: {values[row]} is not an index of class_names: an integer from 0 to "
            f"{num_classes - 1} was expected"
        )
    return [int(number) for number in numbers]


def order_class_names(names: Iterable[str]) -> tuple[str, ...]:
    """Return the different names in the order of a data set's classes.

    If all names are integers, the order is that of the numbers: 0, 1, 2, 10. Other names are
    sorted as text.
    """
    different = set(names)
    numbers = {name: _number_of(name) for name in different}
    if None in numbers.values():
        return tuple(sorted(different))
    return tuple(sorted(different, key=lambda name: (numbers[name], name)))


def index_warning(names: Sequence[str]) -> str | None:
    """Return a warning if the class of a number depends on whether it is an index or a name.

    ``names`` are in the order of the indices.
    """
    if not all(_INTEGER.fullmatch(name) for name in names):
        return None
    for index, name in enumerate(names):
        if name != str(index) and str(index) in names:
            return (
                "the class names are integers in another order than their indices: a label "
                f"{index} that is a number is an index, the class {name}; one that is text is the "
                f"class {index}"
            )
    return None


def missing_label_names(names: Iterable[str]) -> list[str]:
    """Return the class names that programs write for a missing label."""
    return sorted(_MISSING_LABELS.intersection(names))


def class_name_problem(name: str) -> str | None:
    """Return what is wrong with the name of a class, or None."""
    if len(name) > MAX_CLASS_NAME_LENGTH:
        return f"has a class name of more than {MAX_CLASS_NAME_LENGTH} characters"
    if to_printable(name) != name:
        return "has a class name with control characters"
    if _NEGATIVE_NUMBER.fullmatch(name):
        return (
            f"has the class {name}, a negative number: number classes from 0, and put images "
            "without a label into unlabeled"
        )
    return None


def equal_number_problems(names: Iterable[str]) -> dict[str, str]:
    """Return the names that are one number in several spellings, with what is wrong.

    ``01`` or ``+1`` beside ``1`` may be one class or two, so neither is assumed.
    """
    by_number: dict[int, list[str]] = defaultdict(list)
    for name in sorted(set(names)):
        number = _number_of(name)
        if number is not None:
            by_number[number].append(name)
    return {
        name: f"is the same number as the class {spellings[-1]}: use one spelling for one class"
        for spellings in by_number.values()
        for name in spellings[:-1]
    }


def _number_of(name: str) -> int | None:
    number = _INTEGER.fullmatch(name.removeprefix("+"))
    return None if number is None else int(number.group(1))
