"""Match the classes of a data set with the classes of a model, by their names.

A class map has, for each class of the data set in order, the index of the same class of the model.
"""

import functools
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

_IMAGENET_PATH = Path(__file__).parents[1] / "tables" / "imagenet_classes.json"
_MAX_LISTED = 5
"""Class names that a sentence lists; further names are counted."""
ClassMap = tuple[int, ...]


class ClassMatch(NamedTuple):
    """Which class of a model each class of a data set is, as far as the names tell."""

    indices: tuple[int | None, ...]
    """The model's class for each class of the data set; None for a name that the model lacks."""
    unmatched: tuple[str, ...]
    """Names of the data set that the model lacks."""
    num_model_classes: int
    ignores_numbers: bool = False
    """Whether both sides have integers for names and the model lacks some of the data set's.

    The numbers may be counted from another start, so no class is matched by name.
    """

    @property
    def is_complete(self) -> bool:
        """Whether the model has every class of the data set."""
        return not self.unmatched

    @property
    def class_map(self) -> ClassMap | None:
        """The map by name; None where both have the same classes in the same order.

        Names that the model lacks get its remaining classes in order, which needs equal numbers of
        classes: with other numbers of classes, an incomplete match has no map either.
        """
        if not self.is_complete and len(self.indices) != self.num_model_classes:
            return None
        remaining = iter(sorted(set(range(self.num_model_classes)) - set(self.indices)))
        filled = tuple(next(remaining) if index is None else index for index in self.indices)
        return None if filled == tuple(range(self.num_model_classes)) else filled


def match_classes(
    classes: Sequence[str], model_names: Sequence[str] | None, num_model_classes: int
) -> ClassMatch | None:
    """Match the names of a data set's classes with those of a model.

    Names match if they are equal, else if they differ only in case, separators or leading zeros,
    else if they name the same class of ImageNet: a WordNet id, or torchvision's or timm's name.
    Each of these rounds matches what the earlier rounds left open. Whole numbers match only if the
    model has all of the data set's. None where one side has no names.
    """
    if not classes or not model_names or len(model_names) != num_model_classes:
        return None
    indices: list[int | None] = [None] * len(classes)
    for keys_of in _KEYS:
        if None not in indices:
            break
        _match_open(indices, keys_of(tuple(classes)), keys_of(tuple(model_names)))
    unmatched = tuple(name for name, index in zip(classes, indices, strict=True) if index is None)
    if unmatched and all(map(_is_integer, (*classes, *model_names))):
        nothing = (None,) * len(classes)
        return ClassMatch(nothing, unmatched, num_model_classes, ignores_numbers=True)
    return ClassMatch(tuple(indices), unmatched, num_model_classes)


def class_warning(
    noun: str,
    classes: Sequence[str],
    model_names: Sequence[str] | None,
    num_model_classes: int,
    class_map: ClassMap | None,
) -> str | None:
    """Return a sentence about names that contradict the ``class_map`` of a job, or None.

    ``noun`` is what the model is, such as teacher.
    """
    match = match_classes(classes, model_names, num_model_classes)
    if match is None or model_names is None:
        return None
    if class_map == match.class_map:
        if match.is_complete:
            return None
        if match.ignores_numbers:
            pairs = [
                f"{name} is {other}" for name, other in zip(classes, model_names, strict=False)
            ]
            return (
                f"the class names of the {noun} are other numbers than those of the data set: all "
                f"classes are matched by their order ({list_names(pairs)}), which may be wrong; if "
                f"it is, {_name_remedy(noun)}"
            )
        return (
            f"the {noun} has no class named {list_names(match.unmatched)}: these classes are "
            f"matched by their order, which may be wrong; if it is, {_name_remedy(noun)}"
        )
    indices = class_map or range(len(classes))
    wrong = [
        f"{name} is {model_names[index]}"
        for name, index, named in zip(classes, indices, match.indices, strict=False)
        if named is not None and index != named and index < len(model_names)
    ]
    if not wrong:
        return None
    return f"class_map contradicts the class names of the {noun}: {list_names(wrong)}"


def _name_remedy(noun: str) -> str:
    """Return how to correct the order of classes; only teachers have a class_map in a job."""
    names = f"set the class_names of the {noun} to the data set's names, in the order of its logits"
    return f"set class_map, or {names}" if noun == "teacher" else names


def is_order_known(
    classes: Sequence[str],
    model_names: Sequence[str] | None,
    num_model_classes: int,
    class_map: ClassMap | None,
) -> bool:
    """Whether a class map or the names of both sides decide the order of a model's classes."""
    match = match_classes(classes, model_names, num_model_classes)
    return class_map is not None or (match is not None and match.is_complete)


def list_names(names: Sequence[str]) -> str:
    """Return the first names and the number of the others."""
    listed = ", ".join(names[:_MAX_LISTED])
    more = len(names) - _MAX_LISTED
    return f"{listed} (and {more} more)" if more > 0 else listed


def _match_open(
    indices: list[int | None], keys: Sequence[str | None], model_keys: Sequence[str | None]
) -> None:
    """Fill in ``indices`` the open ones whose keys are unique among the open ones of both sides."""
    taken = set(indices)
    free = {index: key for index, key in enumerate(model_keys) if index not in taken}
    left = {n: key for n, key in enumerate(keys) if indices[n] is None and key is not None}
    counts, data_counts = Counter(free.values()), Counter(left.values())
    index_of = {key: index for index, key in free.items() if counts[key] == 1}
    for position, key in left.items():
        if data_counts[key] == 1:
            indices[position] = index_of.get(key)


def _exact_keys(names: tuple[str, ...]) -> Sequence[str | None]:
    return names


def _normalized_keys(names: tuple[str, ...]) -> Sequence[str | None]:
    return [_normalize(name) for name in names]


def _normalize(name: str) -> str:
    text = unicodedata.normalize("NFC", name).casefold()
    sign = "-" if re.match(r"\s*-[0-9]", text) else ""
    words = " ".join(text.replace("_", " ").replace("-", " ").split())
    return str(int(sign + words)) if words.isascii() and words.isdecimal() else sign + words


def _is_integer(name: str) -> bool:
    return re.fullmatch(r"-?[0-9]+", _normalize(name)) is not None


@functools.lru_cache(maxsize=8)
def _imagenet_keys(names: tuple[str, ...]) -> Sequence[str | None]:
    """Return the WordNet id of each name, or None."""
    rows = _imagenet_rows()
    for column in zip(*rows, strict=True):
        # Position decides, because timm has two classes named crane.
        if tuple(column) == names:
            return [row[0] for row in rows]
    id_of = _imagenet_ids()
    return [id_of.get(_normalize(name)) for name in names]


@functools.cache
def _imagenet_rows() -> list[tuple[str, str, str]]:
    text = _IMAGENET_PATH.read_text(encoding="utf-8")
    return [(row[0], row[1], row[2]) for row in json.loads(text)["classes"]]


@functools.cache
def _imagenet_ids() -> dict[str, str]:
    """Return the WordNet id of each name that names one class only."""
    ids: dict[str, set[str]] = {}
    for row in _imagenet_rows():
        for name in (*row, *row[2].split(", ")):
            ids.setdefault(_normalize(name), set()).add(row[0])
    return {name: wordnet_ids.pop() for name, wordnet_ids in ids.items() if len(wordnet_ids) == 1}


_KEYS: tuple[Callable[[tuple[str, ...]], Sequence[str | None]], ...] = (
    _exact_keys,
    _normalized_keys,
    _imagenet_keys,
)
"""From exact names to looser ones; each matches what the earlier ones left open."""
