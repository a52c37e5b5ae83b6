"""Match the classes of a data set with the classes of a model, by their names.

A class map has, for each class of the data set in order, the index of the same class of the model.
"""

import functools
import json
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

_IMAGENET_PATH = Path(__file__).parents[1] / "imagenet_classes.json"
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
    None where one side has no names.
    """
    if not classes or not model_names or len(model_names) != num_model_classes:
        return None
    best: tuple[int | None, ...] = ()
    for keys_of in _KEYS:
        indices = _match_keys(keys_of(tuple(classes)), keys_of(tuple(model_names)))
        if not best or indices.count(None) < best.count(None):
            best = indices
        if None not in best:
            break
    unmatched = [name for name, index in zip(classes, best, strict=True) if index is None]
    return ClassMatch(best, tuple(unmatched), num_model_classes)


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
        return (
            f"the {noun} has no class named {list_names(match.unmatched)}: these classes are "
            "matched by their order, which may be wrong; if it is, set class_map, or upload the "
            "model with the data set's class names"
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


def _match_keys(
    keys: Sequence[str | None], model_keys: Sequence[str | None]
) -> tuple[int | None, ...]:
    """Return the index of each key in ``model_keys``; None for one that is not unique there."""
    counts, data_counts = Counter(model_keys), Counter(keys)
    index_of = {key: index for index, key in enumerate(model_keys) if counts[key] == 1}
    return tuple(
        index_of.get(key) if key is not None and data_counts[key] == 1 else None for key in keys
    )


def _exact_keys(names: tuple[str, ...]) -> Sequence[str | None]:
    return names


def _normalized_keys(names: tuple[str, ...]) -> Sequence[str | None]:
    return [_normalize(name) for name in names]


def _normalize(name: str) -> str:
    text = unicodedata.normalize("NFC", name).casefold()
    words = " ".join(text.replace("_", " ").replace("-", " ").split())
    return str(int(words)) if words.isascii() and words.isdecimal() else words


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
"""From exact names to looser ones; the first that matches all classes counts."""
