"""From names in an archive to labelled images: folders are classes, perhaps below split folders.

A folder ``unlabelled/``, beside the split folders or the classes, holds images without labels, in
any arrangement of its own.
"""

from typing import NamedTuple

from kdcore.data.ingest.base import MAX_CLASS_NAME, Labelled
from kdcore.data.ingest.safe_zip import NESTED, Member
from kdcore.data.types import PartName
from kdcore.protocol.events import Item
from kdcore.runtime.errors import UserFault, item, printable

SPLIT_FOLDERS: dict[str, PartName] = {
    "train": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "unlabelled": "unlabelled",
    "unlabeled": "unlabelled",
}
"""Names of folders, whatever their capitals."""
IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
FOREIGN_IMAGES = (".gif", ".tif", ".tiff", ".heic", ".avif", ".jp2", ".ppm", ".pgm", ".svg")
_RIGHT = "put the images into class folders: <class>/*.png, or train/<class>/*.png"


class Layout(NamedTuple):
    """What the names of an archive say."""

    images: list[Labelled]
    """In the order of split, class and name, whatever the order in the archive."""
    problems: list[Item]
    ignored: list[str]
    """Files that are no images, such as a README."""


def arrange(members: list[Member]) -> Layout:
    """Label the images of an archive. One folder around everything is tolerated."""
    problems: list[Item] = []
    ignored: list[str] = []
    images: list[Member] = []
    for member in members:
        name = member.parts[-1].lower()
        if name.endswith(IMAGES):
            images.append(member)
        elif name.endswith(FOREIGN_IMAGES):
            detail = "is an image of a kind not read here; send PNG, JPEG, BMP or WEBP"
            problems.append(item("/".join(member.parts), detail))
        elif name.endswith(".tar"):
            problems.append(item("/".join(member.parts), NESTED))
        else:
            ignored.append("/".join(member.parts))
    labelled = _label(_unwrapped(images), problems)
    labelled.sort(key=lambda image: (image.split, image.label, image.parts))
    return Layout(labelled, problems, ignored)


def check_classes(
    images: list[Labelled], problems: list[Item], known: tuple[str, ...] | None = None
) -> list[str]:
    """The classes, as ``known`` or sorted; adds to the problems those without training images.

    Raises UserFault where there is no training image at all or only one class.
    """
    trained = {image.label for image in images if image.split == "train"}
    classes = list(known) if known is not None else sorted(trained)
    if not trained and not problems:
        where = "no images in train/" if images else "no images"
        raise UserFault("dataset_invalid", f"the archive has {where}", hint=_RIGHT)
    labels = {(i.split, i.label) for i in images if i.split != "unlabelled"}
    labels |= {("train", label) for label in classes}
    strange = sorted(pair for pair in labels if pair[1] not in trained)
    for split, label in strange if trained else ():
        problems.append(item(f"{split}/{label}", "is a class without training images"))
    if len(classes) == 1 and not problems:
        raise UserFault(
            "dataset_invalid",
            f"all images are of one class, {printable(classes[0])!r}; two or more are needed",
            hint=_RIGHT,
        )
    return classes


def _unwrapped(images: list[Member]) -> list[Member]:
    first = {image.parts[0] for image in images}
    if len(first) != 1 or first.pop().casefold() in SPLIT_FOLDERS:
        return images
    if any(len(image.parts) < 3 for image in images):
        return images
    return [Member(image.info, image.parts[1:]) for image in images]


def _label(images: list[Member], problems: list[Item]) -> list[Labelled]:
    first = {image.parts[0].casefold() for image in images if len(image.parts) > 1}
    named = {SPLIT_FOLDERS.get(folder) for folder in first} - {"unlabelled"}
    has_splits = "train" in named or (bool(named) and None not in named)
    labelled = []
    for image in images:
        found = _labelled(image, has_splits)
        if isinstance(found, Labelled):
            labelled.append(found)
        else:
            problems.append(found)
    return labelled


def _labelled(image: Member, has_splits: bool) -> Labelled | Item:
    folder, parts = image.parts[0].casefold(), image.parts
    named = SPLIT_FOLDERS.get(folder) if len(parts) > 1 else None
    split: PartName = "train"
    if named == "unlabelled":
        return Labelled(image.parts, named, "", image)
    if has_splits:
        if named is None:
            return item("/".join(parts), "lies beside train/, val/ and test/")
        split, parts = named, parts[1:]
    if len(parts) < 2:
        return item("/".join(image.parts), "lies in no class folder")
    problem = class_problem(parts[0])
    if problem is not None:
        return item("/".join(image.parts), problem)
    return Labelled(image.parts, split, parts[0], image)


def class_problem(name: str) -> str | None:
    """What is wrong with the name of a class."""
    if len(name) > MAX_CLASS_NAME:
        return f"has a class name of more than {MAX_CLASS_NAME} characters"
    if printable(name) != name:
        return "has a class name with control characters"
    return None
