"""From names in an archive to labelled images: folders are classes, perhaps below split folders."""

from typing import NamedTuple

from kdcore.data.archive import Member
from kdcore.data.store import SplitName
from kdcore.errors import UserFault, item, printable
from kdcore.spec.events import Item

_SPLIT_FOLDERS: dict[str, SplitName] = {
    "train": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
}
_IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
_FOREIGN_IMAGES = (".gif", ".tif", ".tiff", ".heic", ".avif", ".jp2", ".ppm", ".pgm", ".svg")
_MAX_CLASS_NAME = 200
_RIGHT = "put the images into class folders: <class>/*.png, or train/<class>/*.png"


class Labelled(NamedTuple):
    """One image file with its label."""

    member: Member
    split: SplitName
    label: str


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
        if name.endswith(_IMAGES):
            images.append(member)
        elif name.endswith(_FOREIGN_IMAGES):
            detail = "is an image of a kind not read here; send PNG, JPEG, BMP or WEBP"
            problems.append(item("/".join(member.parts), detail))
        else:
            ignored.append("/".join(member.parts))
    labelled = _label(_unwrapped(images), problems)
    labelled.sort(key=lambda image: (image.split, image.label, image.member.parts))
    return Layout(labelled, problems, ignored)


def check_classes(images: list[Labelled], problems: list[Item]) -> list[str]:
    """The sorted classes of the training split; adds the classes that only other splits have.

    Raises UserFault where there is no training image at all or only one class.
    """
    classes = sorted({image.label for image in images if image.split == "train"})
    if not classes and not problems:
        where = "no images in train/" if images else "no images"
        raise UserFault("dataset_invalid", f"the archive has {where}", hint=_RIGHT)
    strange = sorted({(i.split, i.label) for i in images if i.label not in classes})
    for split, label in strange if classes else ():
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
    if len(first) != 1 or first.pop().casefold() in _SPLIT_FOLDERS:
        return images
    if any(len(image.parts) < 3 for image in images):
        return images
    return [Member(image.info, image.parts[1:]) for image in images]


def _label(images: list[Member], problems: list[Item]) -> list[Labelled]:
    first = {image.parts[0].casefold() for image in images if len(image.parts) > 1}
    has_splits = "train" in first or (bool(first) and first <= set(_SPLIT_FOLDERS))
    labelled = []
    for image in images:
        parts = image.parts
        split: SplitName = "train"
        if has_splits:
            folder = parts[0].casefold()
            if folder not in _SPLIT_FOLDERS:
                problems.append(item("/".join(parts), "lies beside train/, val/ and test/"))
                continue
            split, parts = _SPLIT_FOLDERS[folder], parts[1:]
        problem = _class_problem(parts)
        if problem is None:
            labelled.append(Labelled(image, split, parts[0]))
        else:
            problems.append(item("/".join(image.parts), problem))
    return labelled


def _class_problem(parts: tuple[str, ...]) -> str | None:
    if len(parts) < 2:
        return "lies in no class folder"
    if len(parts[0]) > _MAX_CLASS_NAME:
        return f"has a class name of more than {_MAX_CLASS_NAME} characters"
    if printable(parts[0]) != parts[0]:
        return "has a class name with control characters"
    return None
