"""What an array holds, by its name: ``x_train`` and ``images`` are images, ``y_test`` labels.

Names are split into words. A word says the role (images, labels, names of classes) or the split;
numbers and words such as ``set`` say nothing.
"""

import re
from collections import defaultdict
from collections.abc import Mapping
from typing import Literal, NamedTuple

from kdcore.data.ingest.arrays.numpy_file import ArrayHeader
from kdcore.data.ingest.splits import SPLIT_WORDS, resolve_words
from kdcore.data.types import SubsetName

Role = Literal["images", "labels", "class_names"]

_IMAGE_WORDS = (("image", "images", "img", "imgs", "picture", "pictures", "pixels"), ("x",))
_LABEL_WORDS = (("label", "labels"), ("y",))
_LETTER_RANK = 1
"""Rank of ``x`` and ``y``."""
_VAGUE_IMAGE_WORDS = ("data", "input", "inputs", "features", "samples")
_VAGUE_LABEL_WORDS = ("target", "targets", "class", "classes", "category", "categories", "cls")
_RANKS: dict[str, tuple[Role, int]] = {
    **{word: ("images", rank) for rank, words in enumerate(_IMAGE_WORDS) for word in words},
    **{word: ("labels", rank) for rank, words in enumerate(_LABEL_WORDS) for word in words},
    **dict.fromkeys(_VAGUE_IMAGE_WORDS, ("images", 2)),
    **dict.fromkeys(_VAGUE_LABEL_WORDS, ("labels", 2)),
}
"""The role that a word says, and its rank: of several arrays, the lowest rank is read."""
_NAME_WORDS = ("name", "names")
_PLURAL_WORDS = ("classes", "categories")
"""Names of the classes where other arrays are the labels."""
_NEUTRAL_WORDS = (
    "all",
    "arr",
    "array",
    "dataset",
    "full",
    "npy",
    "set",
    "the",
    "uint",
    "float",
    "v",
)
_SHORT_SPLITS = {"tr": "train", "va": "val", "te": "test"}
"""Words beside ``x`` and ``y`` alone, as in ``Xtr``."""
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")


class ArrayMeaning(NamedTuple):
    """What the name of an array says."""

    role: Role
    split_word: str | None
    rank: int
    """Of the arrays with one role and split, that with the lowest rank is read."""


def parse_array_name(path: str) -> ArrayMeaning | None:
    """Return what a name says, with its folders; None if it says no role or contradicts itself.

    What the name of the file does not say, its folders may: ``labels/train.npy``.
    """
    folders, _, name = path.rpartition("/")
    words, folder_words = _words(name), _words(folders)
    splits = SPLIT_WORDS.intersection(words) or SPLIT_WORDS.intersection(folder_words)
    roles = _roles(words) or _roles(folder_words)
    if len(splits) > 1:
        return None
    split_word = next(iter(splits), None)
    if any(word in _NAME_WORDS for word in words):
        is_names = {role for role, _ in roles} == {"labels"} or set(words) <= {*_NAME_WORDS}
        return ArrayMeaning("class_names", None, 0) if is_names else None
    if len({role for role, _ in roles}) != 1:
        return None
    role, rank = min(roles, key=lambda pair: pair[1])
    known = {*_RANKS, *SPLIT_WORDS, *_NEUTRAL_WORDS}
    num_unknown = sum(not word.isdigit() and word not in known for word in words)
    if num_unknown and rank == _LETTER_RANK:
        return None  # x_position is no image
    return ArrayMeaning(role, split_word, rank + 10 * num_unknown)


def _words(name: str) -> list[str]:
    return [word for part in _WORD.findall(name) for word in _divide(part.lower())]


def _roles(words: list[str]) -> set[tuple[Role, int]]:
    return {_RANKS[word] for word in words if word in _RANKS}


def _divide(word: str) -> list[str]:
    """Divide ``xtrain`` and ``trainy`` into their two words."""
    pairs = [(word[:1], word[1:]), (word[-1:], word[:-1])]
    for letter, rest in pairs:
        split_word = _SHORT_SPLITS.get(rest, rest)
        if letter in ("x", "y") and split_word in SPLIT_WORDS:
            return [letter, split_word]
    return [word]


ArrayKey = tuple[Role, SubsetName]


class ArrayChoice(NamedTuple):
    """The arrays that are read, by role and split, and the names of the others."""

    chosen: dict[ArrayKey, str]
    ambiguous: dict[ArrayKey, list[str]]
    """Names of equal rank, of which none can be preferred."""
    others: list[str]


def choose_arrays(headers: Mapping[str, ArrayHeader | None]) -> ArrayChoice:
    """Choose one array for each role and split, by names with folders and without a suffix.

    ``headers`` has None for an array that cannot be used.

    Two arrays without words, such as ``arr_0`` and ``arr_1``, are told apart by their shapes.
    Raises :class:`UserError` ``dataset_invalid`` for two words for one split.
    """
    meanings = {name: parse_array_name(name) for name in headers}
    splits = resolve_words(meaning.split_word for meaning in meanings.values() if meaning)
    candidates: dict[ArrayKey, list[tuple[int, str]]] = defaultdict(list)
    choice = ArrayChoice({}, {}, [])
    for name, meaning in meanings.items():
        if meaning is None:
            choice.others.append(name)
        else:
            split = splits[meaning.split_word] if meaning.split_word else "train"
            candidates[meaning.role, split].append((meaning.rank, name))
    _move_class_names(candidates)
    for key, ranked in candidates.items():
        best = min(rank for rank, _ in ranked)
        equal = [name for rank, name in ranked if rank == best]
        choice.others.extend(name for rank, name in ranked if rank > best)
        if len(equal) == 1:
            choice.chosen[key] = equal[0]
        else:
            choice.ambiguous[key] = equal
    return choice if candidates else _choose_by_shape(headers)


def _move_class_names(candidates: dict[ArrayKey, list[tuple[int, str]]]) -> None:
    """Take ``classes`` beside ``labels`` for the names of the classes."""
    labels = candidates.get(("labels", "train"), [])
    plural = [pair for pair in labels if pair[1].lower() in _PLURAL_WORDS]
    if len(plural) == 1 and len(labels) > 1 and ("class_names", "train") not in candidates:
        labels.remove(plural[0])
        candidates["class_names", "train"] = plural


def _choose_by_shape(headers: Mapping[str, ArrayHeader | None]) -> ArrayChoice:
    """Tell an array of images and one of labels apart by shape, if their names say neither."""
    axes = {name: len(header.shape) for name, header in headers.items() if header is not None}
    images = [name for name, count in axes.items() if count >= 3]
    labels = [name for name, count in axes.items() if count in (1, 2)]
    is_unnamed = all(
        word.isdigit() or word in _NEUTRAL_WORDS for n in headers for word in _words(n)
    )
    if not is_unnamed or (len(images), len(labels)) != (1, 1):
        return ArrayChoice({}, {}, list(headers))
    return ArrayChoice({("images", "train"): images[0], ("labels", "train"): labels[0]}, {}, [])
