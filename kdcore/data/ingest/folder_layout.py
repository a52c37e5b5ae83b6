"""Labels from file names: folders are classes, optionally below or above split folders.

A folder ``unlabeled/`` beside the split folders or the classes holds images without labels, in any
subfolders. Folders that wrap all others are skipped.
"""

import re
from collections import defaultdict
from collections.abc import Collection, Sequence
from typing import NamedTuple, Protocol

from kdcore.data.class_labels import (
    class_name_problem,
    equal_number_problems,
    normalize_text,
    order_class_names,
)
from kdcore.data.ingest.archives.member_names import encoding_problem
from kdcore.data.ingest.base import LabeledImage
from kdcore.data.ingest.splits import SPLIT_NAMES_HINT, folder_word, resolve_words, table_word
from kdcore.data.types import SubsetName
from kdcore.protocol.events import ErrorDetail
from kdcore.runtime.errors import UserError, error_detail, join_names, to_printable

_MAX_WRAPPERS = 20
_FOLD = re.compile(r"(fold|split|part|batch|cv)[-_ ]?\d+", re.IGNORECASE)
"""Names of parts of a data set, which are hardly names of classes."""
LAYOUT_HINT = "put the images into class folders: <class>/*.png, or train/<class>/*.png"


class LocatedFile(Protocol):
    """A file of an archive or of a folder."""

    @property
    def path_parts(self) -> tuple[str, ...]:
        """Folders and file name."""
        ...


class FolderLayout(NamedTuple):
    """The labeled images of an upload, by their names."""

    images: list[LabeledImage]
    """Sorted by split, class and name; ``location`` is the file."""
    problems: list[ErrorDetail]
    sources: dict[SubsetName, str]
    """The folders of each split."""
    warnings: list[str]


class _Image(NamedTuple):
    """An image and its path below the folders that wrap all images."""

    file: LocatedFile
    parts: tuple[str, ...]

    @property
    def name(self) -> str:
        return "/".join(self.file.path_parts)


class _Folders(NamedTuple):
    """What the folders of an upload mean."""

    splits: dict[str, SubsetName]
    """The split of each folder that names one: folders of the top level, or below the classes."""
    class_first: bool = False
    """Whether the split folders lie in the class folders."""
    num_wrappers: int = 0
    """Folders between a split folder and its class folders."""


def parse_layout(files: Sequence[LocatedFile]) -> FolderLayout:
    """Label images by their folders.

    Raises :class:`UserError` ``dataset_invalid`` if the folders can be read in two ways.
    """
    images, wrapper = _unwrap([_Image(file, file.path_parts) for file in files])
    warnings: list[str] = []
    folders = _read_folders(images, warnings)
    labeled, problems = [], []
    for image in images:
        labeled_image = _label_image(image, folders)
        if isinstance(labeled_image, LabeledImage):
            labeled.append(labeled_image)
        else:
            problems.append(labeled_image)
    warnings += _inner_folder_warnings(images, folders)
    warnings += _spelling_warnings(images, folders)
    labeled.sort(key=lambda image: (image.split, image.label, image.path_parts))
    return FolderLayout(labeled, problems, _sources(labeled, folders, wrapper), warnings)


def _unwrap(images: list[_Image]) -> tuple[list[_Image], str]:
    """Strip folders that wrap all others; return them as text, too."""
    wrapper = ""
    for _ in range(_MAX_WRAPPERS):
        nested = [image for image in images if len(image.parts) > 1]
        first = {image.parts[0] for image in nested}
        if len(first) != 1 or folder_word(*first) or all(len(i.parts) < 3 for i in nested):
            break
        wrapper += f"{first.pop()}/"
        images = [i._replace(parts=i.parts[1:]) if len(i.parts) > 1 else i for i in images]
    return images, wrapper


def _read_folders(images: list[_Image], warnings: list[str]) -> _Folders:
    depths: dict[str, int] = {}
    for image in images:
        if len(image.parts) > 1:
            depths[image.parts[0]] = max(len(image.parts), depths.get(image.parts[0], 0))
    words = {folder: word for folder in depths if (word := folder_word(folder))}
    named = [folder for folder, word in words.items() if resolve_words([word])[word] != "unlabeled"]
    if named and _are_splits(named, depths, warnings):
        means = resolve_words(words.values())
        splits = {folder: means[word] for folder, word in words.items()}
        return _Folders(splits, num_wrappers=_count_wrappers(images, splits))
    unlabeled: dict[str, SubsetName] = dict.fromkeys(words.keys() - set(named), "unlabeled")
    if not named and (folders := _splits_in_names(images, depths.keys() - unlabeled, warnings)):
        return folders._replace(splits=folders.splits | unlabeled)
    labeled = [image for image in images if image.parts[0] not in unlabeled]
    return _Folders(unlabeled | _splits_below_classes(labeled, warnings), class_first=True)


def _are_splits(named: list[str], depths: dict[str, int], warnings: list[str]) -> bool:
    """Return whether folders with the names of splits are splits, and not classes."""
    listed = join_names([f"{folder}/" for folder in sorted(named)])
    if any(depths[folder] > 2 for folder in named):
        return True
    others = [f for f in sorted(depths) if f not in named and not folder_word(f)]
    if others and len(named) == 1:
        warnings.append(
            f"{listed} is read as a class, not as a split, because its images lie directly in it, "
            f"like those of {join_names([f'{folder}/' for folder in others])}"
        )
        return False
    raise UserError(
        "dataset_invalid",
        f"no class folders are in {listed}, which name splits",
        hint=f"put class folders into them: {named[0]}/<class>/*.png; {SPLIT_NAMES_HINT}",
    )


def _splits_in_names(
    images: list[_Image], tops: Collection[str], warnings: list[str]
) -> _Folders | None:
    """Return the splits of folders such as ``seg_train/`` and ``seg_test/``, or None.

    They are splits, and not classes, if they hold the same class folders and no other folder does.
    Raises :class:`UserError` ``dataset_invalid`` for folders such as ``fold1/`` and ``fold2/``.
    """
    words = {folder: word for folder in sorted(tops) if (word := table_word(folder))}
    splits = {folder: resolve_words([word])[word] for folder, word in words.items()}
    num_wrappers = _count_wrappers(images, splits)
    classes: dict[str, set[str]] = {folder: set() for folder in tops}
    for image in images:
        if image.parts[0] in classes and len(image.parts) > 2 + num_wrappers:
            classes[image.parts[0]].add(image.parts[1 + num_wrappers])
    _check_folds(classes)
    trained = {name for folder in splits if splits[folder] == "train" for name in classes[folder]}
    sharing = {folder for folder, names in classes.items() if not trained.isdisjoint(names)}
    if sharing != splits.keys() or len(set(splits.values())) < 2:
        return None
    listed = join_names([f"{folder}/" for folder in splits])
    warnings.append(f"{listed} are read as splits, because they hold the same class folders")
    means = resolve_words(words.values())
    return _Folders({folder: means[word] for folder, word in words.items()}, False, num_wrappers)


def _check_folds(classes: dict[str, set[str]]) -> None:
    inner = next(iter(classes.values()), set())
    if len(inner) < 2 or len(classes) < 2 or not all(map(_FOLD.fullmatch, classes)):
        return
    if all(names == inner for names in classes.values()):
        outer = join_names([f"{folder}/" for folder in sorted(classes)])
        raise UserError(
            "dataset_invalid",
            f"{outer} hold the same folders, {join_names(sorted(inner))}: the outer folders may be "
            "classes, or parts of the data set",
            hint="put the parts into train/, val/ and test/, or merge them; rename them if they "
            "are classes",
        )


def _inner_folder_warnings(images: list[_Image], folders: _Folders) -> list[str]:
    """Warn of folders in class folders, which are not classes."""
    inner: dict[str, set[str]] = defaultdict(set)
    for image in images:
        below = _class_path(image, folders)
        if len(below) > 1 and not (folders.class_first and below[1] in folders.splits):
            inner[below[0]].add(below[1])
    if not inner:
        return []
    classes = {path[0] for image in images if (path := _class_path(image, folders))}
    first, outer = next(iter(inner.values())), join_names(sorted(inner))
    are_equal = inner.keys() == classes and all(names == first for names in inner.values())
    if are_equal and len(classes) > 1 and len(first) > 1:
        return [
            f"the classes are {outer}, and all of them hold the folders "
            f"{join_names(sorted(first))}; if these are the classes, put them on top"
        ]
    paths = sorted(f"{label}/{name}/" for label, names in inner.items() for name in names)
    return [f"folders in the class folders of {outer} are not read as classes: {join_names(paths)}"]


def _spelling_warnings(images: list[_Image], folders: _Folders) -> list[str]:
    """Warn of folders that are one class, because only blanks distinguish their names."""
    spellings: dict[str, set[str]] = defaultdict(set)
    for image in images:
        for folder in _class_path(image, folders)[:1]:
            spellings[normalize_text(folder)].add(folder)
    return [
        f"the class {label} has {len(names)} folders whose names differ only in blanks around them"
        for label, names in sorted(spellings.items())
        if len(names) > 1
    ]


def _class_path(image: _Image, folders: _Folders) -> tuple[str, ...]:
    """Return the class folder of an image and the folders in it; nothing without a class."""
    split = folders.splits.get(image.parts[0]) if len(image.parts) > 1 else None
    if split == "unlabeled" or (split is None and not folders.class_first):
        return ()
    return image.parts[0 if folders.class_first else 1 + folders.num_wrappers : -1]


def _splits_below_classes(images: list[_Image], warnings: list[str]) -> dict[str, SubsetName]:
    """Return the splits of a tree ``<class>/<split>/*.png``; none for a tree of classes alone."""
    inner = {image.parts[1] for image in images if len(image.parts) > 2}
    words = {folder: word for folder in inner if (word := folder_word(folder))}
    if not words:
        return {}
    if len(words) < len(inner) or any(len(image.parts) == 2 for image in images):
        listed = join_names([f"{folder}/" for folder in sorted(words)])
        warnings.append(f"{listed} in class folders are not read as splits")
        return {}
    if any(len(image.parts) > 3 for image in images):
        raise UserError(
            "dataset_invalid",
            f"{join_names([f'{f}/' for f in sorted(words)])} lie in several folders: "
            f"{join_names(sorted({f'{image.parts[0]}/' for image in images}))}",
            hint=f"merge them: train/<class>/*.png; {SPLIT_NAMES_HINT}",
        )
    means = resolve_words(words.values())
    return {folder: means[word] for folder, word in words.items()}


def _count_wrappers(images: list[_Image], splits: dict[str, SubsetName]) -> int:
    """Return 1 if every split folder has one folder that wraps its class folders, else 0."""
    below: dict[str, list[tuple[str, ...]]] = defaultdict(list)
    for image in images:
        if splits.get(image.parts[0], "unlabeled") != "unlabeled" and len(image.parts) > 2:
            below[image.parts[0]].append(image.parts[1:])
    wrapped = bool(below) and all(
        len({parts[0] for parts in paths}) == 1 and min(map(len, paths)) > 2
        for paths in below.values()
    )
    return int(wrapped)


def _label_image(image: _Image, folders: _Folders) -> LabeledImage | ErrorDetail:
    parts, splits = image.parts, folders.splits
    split: SubsetName = "train"
    if len(parts) > 1 and splits.get(parts[0]) == "unlabeled":
        return LabeledImage(parts, "unlabeled", "", image.file)
    label_parts = parts[:-1]
    if folders.class_first:
        split = splits.get(parts[1], "train") if len(parts) > 2 else "train"
    elif len(parts) < 2 or parts[0] not in splits:
        listed = join_names([f"{folder}/" for folder in sorted(splits)])
        return error_detail(image.name, f"is beside the split folders {listed}; move it into one")
    else:
        split, label_parts = splits[parts[0]], parts[1 + folders.num_wrappers : -1]
    if not label_parts:
        return error_detail(image.name, "is not in a class folder; move it into one, or remove it")
    label = normalize_text(label_parts[0])
    problem = encoding_problem(label) or class_name_problem(label)
    if not label:
        problem = "is in a folder without a name; rename it"
    if problem is not None:
        return error_detail(image.name, problem)
    return LabeledImage(parts, split, "" if split == "unlabeled" else label, image.file)


def _sources(images: list[LabeledImage], folders: _Folders, wrapper: str) -> dict[SubsetName, str]:
    present = {image.split for image in images}
    sources: dict[SubsetName, str] = {}
    for split in present:
        names = sorted(folder for folder, part in folders.splits.items() if part == split)
        prefix = f"{wrapper}<class>/" if folders.class_first and split != "unlabeled" else wrapper
        sources[split] = ", ".join(f"{prefix}{name}/" for name in names) or (
            f"class folders in {wrapper}" if wrapper else "class folders"
        )
    return sources


def check_classes(
    images: list[LabeledImage],
    problems: list[ErrorDetail],
    known: tuple[str, ...] | None = None,
    bad_labels: Collection[str] = (),
) -> list[str]:
    """Return the classes: ``known``, or in the order of :func:`order_class_names`.

    Classes without training images and two spellings of one number are added to ``problems``,
    except for ``bad_labels``, the labels of bad images.
    Raises :class:`UserError` ``dataset_invalid`` for a single class.
    """
    trained = {image.label for image in images if image.split == "train"}
    classes = list(known) if known is not None else list(order_class_names(trained))
    labels = {(i.split, i.label) for i in images if i.split != "unlabeled"}
    labels |= {("train", label) for label in classes}
    respelled = equal_number_problems(label for _, label in labels)
    problems.extend(error_detail(name, problem) for name, problem in respelled.items())
    explained = trained.union(bad_labels)
    untrained = sorted(pair for pair in labels if pair[1] not in explained and not respelled)
    present = {image.label for image in images}
    for split, label in untrained if trained else ():
        detail = "is a class without training images"
        if label not in present:
            detail += "; take it out of the names of the classes, or add images"
        problems.append(error_detail(f"{split}/{label}", detail))
    if len(classes) == 1 and not problems:
        raise UserError(
            "dataset_invalid",
            f"all images are in one class, {to_printable(classes[0])!r}; at least two are needed",
            hint=LAYOUT_HINT,
        )
    return classes
