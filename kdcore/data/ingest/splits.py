"""Splits of an upload: those that its folders, shards and arrays name, and those that are drawn."""

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from kdcore.data.ingest.base import LabeledImage
from kdcore.data.types import SplitName, SubsetName
from kdcore.runtime.errors import UserError, join_names, to_printable
from kdcore.schema.old_spelling import old_spelling

_WORDS: dict[str, SubsetName] = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing", "holdout"), "test"),
    **dict.fromkeys(("unlabeled", old_spelling("unlabeled")), "unlabeled"),
}
UNLABELED_WORDS = frozenset(word for word, split in _WORDS.items() if split == "unlabeled")
_EVALUATION = ("eval", "evaluation")
"""Words for test or, beside another word for test, for val."""
SPLIT_WORDS = frozenset((*_WORDS, *_EVALUATION))
"""All words for splits, in lower case."""
_SHARD = re.compile(r"\.(tar|tgz|tbz2|txz|parquet)\b", re.IGNORECASE)
_NEUTRAL = {"set", "data", "dataset", "split", "folder", "dir", "files", "images", "imgs", "img"}
"""Words that say nothing about the split, as in ``training_set``."""
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+")
SPLIT_NAMES_HINT = (
    "training images are read from train or training, validation images from val, valid, "
    "validation or dev, test images from test, testing or holdout; use one word for each split"
)


def words_in(name: str) -> list[str]:
    """Return the words for splits in the name of a folder or shard, in lower case."""
    words = [word.casefold() for word in _WORD.findall(_join_holdout(name))]
    return [word for word in words if word in _WORDS or word in _EVALUATION]


def folder_word(name: str) -> str | None:
    """Return the word if a folder's name is a word for a split, as in ``Val`` or ``train_set``."""
    words = {word.casefold() for word in _WORD.findall(_join_holdout(name))} - _NEUTRAL
    word = words.pop() if len(words) == 1 else ""
    return word if word in _WORDS or word in _EVALUATION else None


def first_folder_word(folders: Iterable[str]) -> str | None:
    """Return the word of the first folder that is one for a split."""
    return next((word for folder in folders if (word := folder_word(folder))), None)


def may_mean_same(first: str, second: str) -> bool:
    """Return whether two words may mean one split; those for evaluation mean val or test."""
    return bool(_meanings(first) & _meanings(second))


def _meanings(word: str) -> set[SubsetName]:
    return {"val", "test"} if word in _EVALUATION else {_WORDS[word]}


def table_word(name: str) -> str | None:
    """Return the word for a split in the name of a table, if it has one: ``train.csv``."""
    words = set(words_in(name))
    return words.pop() if len(words) == 1 else None


def shard_word(name: str) -> str | None:
    """Return the word for a split in a shard's name, as in ``imagenet-val-0001.tar``.

    Raises :class:`UserError` ``dataset_invalid`` for words of different splits.
    """
    words = list(dict.fromkeys(words_in(name)))
    if len({_WORDS.get(word, "test") for word in words}) > 1:
        raise UserError(
            "dataset_invalid",
            f"the name {to_printable(name)} has words for several splits: {' and '.join(words)}",
            hint="rename it, or put it into a folder train/, val/ or test/",
        )
    return words[0] if words else None


def resolve_words(words: Iterable[str | None]) -> dict[str, SubsetName]:
    """Return the split that each word of an upload means.

    ``eval`` means test unless there is another word for test, then val. Raises :class:`UserError`
    ``dataset_invalid`` if two words mean one split.
    """
    present = sorted({word for word in words if word})
    means = {word: _WORDS[word] for word in present if word in _WORDS}
    evaluation: SubsetName = "val" if "test" in means.values() else "test"
    means |= dict.fromkeys((word for word in present if word in _EVALUATION), evaluation)
    for split in sorted(set(means.values())):
        synonyms = [word for word in present if means[word] == split]
        if len(synonyms) > 1:
            understood = ", ".join(f"{word} means {means[word]}" for word in present)
            raise UserError(
                "dataset_invalid",
                f"{' and '.join(synonyms)} both name the {split} split ({understood})",
                hint=f"merge or rename them; {SPLIT_NAMES_HINT}",
            )
    return means


def _join_holdout(name: str) -> str:
    return re.sub(r"hold[-_ ]?out", "holdout", name, flags=re.IGNORECASE)


class ShardSplits(NamedTuple):
    """The splits of WebDataset shards, and of folders in them."""

    by_folder: dict[tuple[str, ...], SubsetName]
    """By folders, shards among them; train for those without a word."""
    sources: dict[SubsetName, str]
    """The folders or shards of each split."""
    words: dict[tuple[str, ...], str | None]
    """The words of the paths."""


def assign_shards(folders: Iterable[tuple[str, ...]]) -> ShardSplits:
    """Return the split of each path of folders and shards, without the file's name.

    A folder's word counts before that of a shard's name. Raises :class:`UserError`
    ``dataset_invalid`` if words contradict each other.
    """
    words = {parts: _path_word(parts) for parts in folders}
    means = resolve_words(word for word, _ in words.values())
    by_folder = {parts: means[word] if word else "train" for parts, (word, _) in words.items()}
    names: dict[SubsetName, set[str]] = defaultdict(set)
    for parts, split in by_folder.items():
        names[split].add(words[parts][1])
    sources = {split: _join_shards(names[split]) for split in names}
    return ShardSplits(by_folder, sources, {parts: word for parts, (word, _) in words.items()})


def is_unlabeled_path(folders: tuple[str, ...]) -> bool:
    """Return whether the images of a folder or shard need no labels."""
    word = _path_word(folders)[0]
    return word is not None and _WORDS.get(word) == "unlabeled"


def _path_word(parts: tuple[str, ...]) -> tuple[str | None, str]:
    """Return the word that decides, and the folder or shard that has it."""
    shards = []
    for position, part in enumerate(parts):
        path = "/".join(parts[: position + 1])
        if _SHARD.search(part):
            shards.append((shard_word(part), path))
        elif word := folder_word(part):
            return word, f"{path}/"
    named = next((shard for shard in shards if shard[0]), None)
    return named or (None, shards[0][1] if shards else "the tar archive")


def _join_shards(names: Iterable[str]) -> str:
    """Join names; ``a-000.tar`` to ``a-007.tar`` become ``a-{000..007}.tar``."""
    series: dict[tuple[str, str], list[str]] = defaultdict(list)
    for name in sorted(names):
        number = re.fullmatch(r"(.*?)(\d+)(\D*)", name)
        series[(number[1], number[3]) if number else (name, "")].append(number[2] if number else "")
    joined = []
    for (start, end), numbers in series.items():
        first, last = numbers[0], numbers[-1]
        is_range = len(numbers) > 1 and int(last) - int(first) == len(numbers) - 1
        middle = [f"{{{first}..{last}}}"] if is_range and len(first) == len(last) else numbers
        joined += [f"{start}{part}{end}" for part in middle]
    return join_names(joined)


_MAX_COPIES = 1000


def find_only_split(images: list[LabeledImage], source: str, file_name: str | None) -> str | None:
    """Return the one labeled split if it is not train, or if the file's name is another split's.

    ``source`` names what the training images were read from; a word for a split in it counts
    before the name of the file.
    """
    present = {image.split for image in images} - {"unlabeled"}
    if len(present) != 1:
        return None
    if present == {"train"}:
        word = table_word(file_name or "")
        means = resolve_words([] if words_in(source) else [word])
        present = set(means.values()) - {"unlabeled"} or present
    return next(iter(present - {"train"}), None)


def _copy_for_training(images: list[LabeledImage]) -> list[tuple[int, LabeledImage]]:
    """Return positions of test images with their copies in train and val, where both are empty.

    A stored data set needs both splits; an evaluation measures neither. Each class has a copy.
    """
    first = {image.label: n for n, image in reversed(list(enumerate(images))) if image.label}
    test = [n for n, image in enumerate(images) if image.split == "test"]
    step = max(1, len(test) // _MAX_COPIES)
    positions = sorted({*first.values(), *test[::step]})
    return [(n, images[n]._replace(split=split)) for split in ("train", "val") for n in positions]


def is_test_only(images: Iterable[LabeledImage]) -> bool:
    """Return whether all labeled images are test: the set of an evaluation."""
    return {image.split for image in images} - {"unlabeled"} == {"test"}


SPLIT_FRACTIONS: dict[SplitName, float] = {"test": 0.2, "val": 0.1}
"""Share of each class's training images that a missing split gets."""


def draw_missing_splits(images: list[LabeledImage], seed: int) -> list[LabeledImage]:
    """Draw missing splits from the training images, stratified by class; keep the order.

    The draw of an image depends on the seed, its class and its name alone, so it is the same on
    every machine and for every order of the upload. Validation gets at least one image of each
    class with two or more; training keeps at least one. Raises :class:`UserError`
    ``dataset_invalid`` if a split stays empty.
    """
    present = {image.split for image in images}
    missing = [split for split in SPLIT_FRACTIONS if split not in present]
    by_class: dict[str, list[int]] = defaultdict(list)
    for position, image in enumerate(images):
        if image.split == "train":
            by_class[image.label].append(position)
    drawn = list(images)
    for positions in by_class.values():
        positions.sort(key=lambda position: _draw_key(images[position], seed))
        start = 0
        for split, count in _counts(len(positions), missing):
            for position in positions[start : start + count]:
                drawn[position] = images[position]._replace(split=split)
            start += count
    for split in missing:
        if not any(image.split == split for image in drawn):
            raise UserError(
                "dataset_invalid",
                f"there are too few images to draw a {split} split; "
                f"add images (three in a class are enough), or put some into {split}/",
            )
    return drawn


def _counts(available: int, missing: list[SplitName]) -> list[tuple[SplitName, int]]:
    counts = {split: round(SPLIT_FRACTIONS[split] * available) for split in missing}
    if "val" in counts:
        counts["val"] = max(counts["val"], 1)
    # Training keeps one image. Validation comes before test, because it selects the best epoch.
    remaining = available - 1
    for split in ("val", "test"):
        if split in counts:
            counts[split] = min(counts[split], remaining)
            remaining -= counts[split]
    return list(counts.items())


def _draw_key(image: LabeledImage, seed: int) -> bytes:
    # Only the path from the class folder on counts, so folders around it do not matter.
    parts = image.path_parts
    if image.label in parts:
        class_path = parts[len(parts) - parts[::-1].index(image.label) - 1 :]
    else:
        class_path = (image.label, *parts)
    text = f"{seed}/{'/'.join(class_path)}"
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


class ImagePlan(NamedTuple):
    """Where images are stored."""

    drawn: list[LabeledImage]
    """Every image of the upload once, with its split."""
    stored: list[LabeledImage]
    """The same, and then copies of test images where all images are test."""
    rows: list[int]
    """The row of each stored image in its split."""
    targets: list[list[int]]
    """For each image of ``drawn`` its indices in ``stored``."""


def plan_images(images: Sequence[LabeledImage], seed: int) -> ImagePlan:
    """Draw the missing splits, or copy test images where all images are test."""
    targets = [[position] for position in range(len(images))]
    if not is_test_only(images):
        drawn = draw_missing_splits(list(images), seed)
        return ImagePlan(drawn, drawn, _rows(drawn), targets)
    stored = list(images)
    for position, copy in _copy_for_training(list(images)):
        targets[position].append(len(stored))
        stored.append(copy)
    return ImagePlan(list(images), stored, _rows(stored), targets)


def _rows(images: Sequence[LabeledImage]) -> list[int]:
    """Return the row of each image in its split."""
    before: Counter[SubsetName] = Counter()
    rows = []
    for image in images:
        rows.append(before[image.split])
        before[image.split] += 1
    return rows
