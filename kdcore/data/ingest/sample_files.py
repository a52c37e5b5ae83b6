"""SampleFiles: images and labels of WebDataset samples, by their keys; labels in ``.cls``, json."""

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from kdcore.data.class_labels import InvalidLabelError, class_name_of, class_name_problem
from kdcore.data.decode import ImageHeader
from kdcore.data.ingest.splits import (
    UNLABELED_WORDS,
    ShardSplits,
    folder_word,
    may_mean_same,
    resolve_words,
)
from kdcore.data.types import SubsetName
from kdcore.protocol.events import ErrorDetail
from kdcore.runtime.errors import error_detail, to_printable

LABEL_SUFFIXES = (".cls", ".json")
CAPTION_SUFFIX = ".txt"
"""Texts beside images, which are captions more often than labels."""
JSON_FIELDS = ("label", "cls", "class_id", "class", "class_name", "target", "category")
"""Fields of ``.json`` that are labels; the first one that exists is read."""
SPLIT_FIELDS = ("split", "subset", "partition", "set", "fold")
"""Fields of ``.json`` and columns of Parquet whose words for splits are read."""
_MAX_LABEL_BYTES = 1 << 20
_MAX_WORD = 100

Path = tuple[str, ...]


class Label(NamedTuple):
    """The label in one file."""

    text: str
    """Empty without a label."""
    json_field: str | None = None
    missing: str | None = None
    """What the file has instead of a label."""
    split: str | None = None
    """The word for a split in a field of ``.json``."""


class Sample(NamedTuple):
    """One usable sample."""

    image: Path
    header: ImageHeader
    label: str
    """Empty for unlabeled images alone."""
    split: str | None
    """The word for a split in a field of ``.json``."""


@dataclass
class _Group:
    """The files of one key."""

    images: list[Path] = field(default_factory=list)
    labels: list[Path] = field(default_factory=list)


@dataclass
class SampleFiles:
    """The images and labels of an upload, in any order."""

    images: dict[Path, ImageHeader | None] = field(default_factory=dict)
    """None for a broken image, which is reported elsewhere."""
    labels: dict[Path, Label | None] = field(default_factory=dict)
    """None for a broken label, which is reported elsewhere."""
    num_captions: int = 0
    bad_image_labels: dict[Path, str] = field(default_factory=dict)
    """The labels of broken images; :meth:`samples` fills them in."""
    warnings: list[str] = field(default_factory=list)
    """Filled in by :meth:`samples`, too."""

    def samples(
        self, is_unlabeled: Callable[[Path], bool], problems: list[ErrorDetail]
    ) -> Iterator[Sample]:
        """Yield every usable sample; add the others to ``problems`` by key.

        ``is_unlabeled`` takes a key and says whether its label does not matter.
        """
        missing: list[ErrorDetail] = []
        num_labeled = 0
        for key, group in self._groups().items():
            problem = _group_problem(group)
            headers = [self.images[path] for path in group.images]
            label = self._label_of(group)
            word = self._split_of(group)
            unlabeled = is_unlabeled(key) or word in UNLABELED_WORDS
            if problem is not None:
                problems.append(error_detail("/".join(key), problem))
            elif headers[0] is None or label is None:
                if label is not None and label.text and not unlabeled:
                    self.bad_image_labels[group.images[0]] = label.text
            elif not unlabeled and not label.text:
                missing.append(error_detail("/".join(key), self._missing_detail(group, label)))
            elif not unlabeled and (problem := class_name_problem(label.text)) is not None:
                problems.append(error_detail("/".join(key), problem))
            else:
                num_labeled += not unlabeled
                yield Sample(group.images[0], headers[0], "" if unlabeled else label.text, word)
        problems.extend(_shorten(missing) if num_labeled == 0 else missing)
        problems.extend(self._field_problems())
        problems.extend(self._compare_labels())

    def _groups(self) -> dict[Path, _Group]:
        groups = _group_by(first_dot_key, self.images, self.labels)
        if all(len(group.images) < 2 for group in groups.values()):
            return groups
        other = _group_by(_last_dot_key, self.images, self.labels)
        complete = all(len(group.images) == 1 and group.labels for group in other.values())
        return other if complete else groups

    def _label_of(self, group: _Group) -> Label | None:
        """Return the label of ``.cls``, else that of ``.json``; None if a file is broken."""
        labels = [self.labels[path] for path in sorted(group.labels, key=suffix_of)]
        if None in labels:
            return None
        return next((label for label in labels if label is not None), Label(""))

    def _split_of(self, group: _Group) -> str | None:
        labels = [label for path in group.labels if (label := self.labels[path]) is not None]
        return next((label.split for label in labels if label.split), None)

    def _compare_labels(self) -> list[ErrorDetail]:
        """Return a problem if ``.cls`` and ``.json`` contradict each other; else warn of others.

        Other names in ``.json`` are no contradiction, if each belongs to one class of ``.cls``, or
        each class to one of them.
        """
        pairs: dict[tuple[str, str], str] = {}
        for key, group in self._groups().items():
            texts = {
                suffix_of(path): label.text
                for path in group.labels
                if (label := self.labels[path]) is not None and label.text
            }
            if len(texts) == 2:
                pairs.setdefault((texts[".cls"], texts[".json"]), "/".join(key))
        differing = [pair for pair in pairs if pair[0] != pair[1]]
        if not differing:
            return []
        classes, others = {first for first, _ in pairs}, {second for _, second in pairs}
        wrong = [pair for pair in differing if pair[1] in classes]
        if not wrong and len(pairs) > max(len(classes), len(others)):
            wrong = differing
        if wrong:
            first, second = wrong[0]
            detail = f"has the label {first} in .cls, but {second} in .json; remove one of them"
            return [error_detail(pairs[wrong[0]], detail)]
        first, second = differing[0]
        self.warnings.append(
            "the labels in .cls are the classes; the others in .json are not read, for example "
            f"{second} beside {first}"
        )
        return []

    def assign_splits(
        self, samples: Sequence[Sample], shards: ShardSplits, problems: list[ErrorDetail]
    ) -> tuple[list[SubsetName], dict[SubsetName, str]]:
        """Return the split of each sample, and the sources of those that ``.json`` names.

        Fields and names that contradict each other, and missing fields, are added to ``problems``.
        """
        means = resolve_words(sample.split for sample in samples)
        splits: list[SubsetName] = []
        sources: dict[SubsetName, str] = {}
        missing: list[str] = []
        for sample in samples:
            folder, name = sample.image[:-1], "/".join(sample.image)
            word, split = shards.words[folder], shards.by_folder[folder]
            if sample.split and word and not may_mean_same(sample.split, word):
                detail = (
                    f"has the split {sample.split} in .json, but {word} in the name of a folder"
                )
                problems.append(error_detail(name, f"{detail} or shard; use one of them"))
            elif sample.split and not word:
                split = means[sample.split]
                sources[split] = "a field of .json"
            elif means and not word:
                missing.append(name)
            splits.append(split)
        if missing:
            detail = f"is missing in {len(missing)} samples, for example {missing[0]}; add it"
            problems.append(error_detail("the split in .json", detail))
        return splits, sources

    def _missing_detail(self, group: _Group, label: Label) -> str:
        if group.labels:
            return f"has no label: {suffix_of(group.labels[0])[1:]} {label.missing}"
        captions = "; a .txt file is not read as a label" if self.num_captions else ""
        return f"has no label: put a .cls file of the same name beside it, or remove it{captions}"

    def _field_problems(self) -> list[ErrorDetail]:
        """Return a problem if the labels come from different fields of ``.json``."""
        examples: dict[str, str] = {}
        for path, label in self.labels.items():
            if label is not None and label.json_field is not None and suffix_of(path) == ".json":
                examples.setdefault(label.json_field, "/".join(path))
        if len(examples) < 2:
            return []
        listed = ", ".join(f"{name} in {path}" for name, path in examples.items())
        detail = f"is the label in some files and missing in others: {listed}; use one field"
        return [error_detail(f"the field {max(examples, key=JSON_FIELDS.index)}", detail)]


def _group_by(
    key_of: Callable[[Path], Path], images: Iterable[Path], labels: Iterable[Path]
) -> dict[Path, _Group]:
    groups: dict[Path, _Group] = defaultdict(_Group)
    for path in images:
        groups[key_of(path)].images.append(path)
    for path in labels:
        groups[key_of(path)].labels.append(path)
    return groups


def first_dot_key(path: Path) -> Path:
    """Return the key of a file: its path up to the first dot of its name."""
    return (*path[:-1], path[-1].partition(".")[0])


def _last_dot_key(path: Path) -> Path:
    return (*path[:-1], path[-1].rpartition(".")[0])


def suffix_of(path: Path) -> str:
    """Return the last suffix of a file's name, in lower case: ``.cls``."""
    return "." + path[-1].rpartition(".")[2].lower()


def _group_problem(group: _Group) -> str | None:
    names = [path[-1] for path in group.images]
    if len(names) > 1:
        return f"has several images, {', '.join(names[:5])}; keep one"
    if not names:
        return f"has a label, {group.labels[0][-1]}, but no image"
    suffixes = [suffix_of(path) for path in group.labels]
    twice = next((suffix for suffix in suffixes if suffixes.count(suffix) > 1), None)
    return None if twice is None else f"has several {twice} files; keep one"


def _shorten(missing: list[ErrorDetail]) -> list[ErrorDetail]:
    """Return one item for all samples, if none of them has a label."""
    if len(missing) < 2:
        return missing
    first = missing[0]
    return [error_detail(first.name, f"{first.detail} ({len(missing) - 1} others have none, too)")]


def read_label(suffix: str, data: bytes) -> Label:
    """Read the label in a ``.cls`` or ``.json`` file. Raises :class:`InvalidLabelError`."""
    if len(data) > _MAX_LABEL_BYTES:
        raise InvalidLabelError(f"has {len(data)} bytes, too many for a label")
    if suffix == ".cls":
        text = class_name_of(data)
        return Label(text, missing=None if text else "is empty")
    try:
        values = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InvalidLabelError(f"is not JSON: {to_printable(str(error))}") from error
    if not isinstance(values, Mapping):
        return Label(class_name_of(values), missing="has no fields")
    split = _split_word(values)
    for name in JSON_FIELDS:
        if values.get(name) is not None:
            return Label(class_name_of(values[name]), name, f"has an empty {name}", split)
    fields = ", ".join(str(name) for name in list(values)[:8]) or "none"
    expected = "label, cls or class_id was expected"
    return Label("", missing=f"has the fields {fields}; {expected}", split=split)


def _split_word(values: Mapping[str, object]) -> str | None:
    """Return the word in a field of splits. Raises :class:`InvalidLabelError` for other texts."""
    for name in SPLIT_FIELDS:
        value = values.get(name)
        word = folder_word(value[:_MAX_WORD]) if isinstance(value, str) else None
        if word is not None:
            return word
        if name == "split" and value is not None:
            text = to_printable(str(value))[:_MAX_WORD]
            raise InvalidLabelError(
                f"has the split {text!r}; train, val, test or unlabeled was expected"
            )
    return None
