"""From names in an archive to labeled images: folders are classes, perhaps below split folders.

A folder ``unlabeled/``, beside the split folders or the classes, holds images without labels, in
any arrangement of its own.
"""

from typing import NamedTuple

from kdcore.data.ingest.base import MAX_CLASS_NAME_LENGTH, LabeledImage
from kdcore.data.ingest.safe_zip import NESTED_MESSAGE, ArchiveMember
from kdcore.data.types import SubsetName
from kdcore.protocol.events import ErrorDetail
from kdcore.runtime.errors import UserError, error_detail, to_printable
from kdcore.schema.old_spelling import old_spelling

SPLIT_FOLDERS: dict[str, SubsetName] = {
    "train": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "unlabeled": "unlabeled",
    old_spelling("unlabeled"): "unlabeled",
}
"""Names of folders, whatever their capitals."""
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
UNSUPPORTED_SUFFIXES = (".gif", ".tif", ".tiff", ".heic", ".avif", ".jp2", ".ppm", ".pgm", ".svg")
_LAYOUT_HINT = "put the images into class folders: <class>/*.png, or train/<class>/*.png"


class ArchiveLayout(NamedTuple):
    """What the names of an archive say."""

    images: list[LabeledImage]
    """In the order of split, class and name, whatever the order in the archive."""
    problems: list[ErrorDetail]
    ignored: list[str]
    """Files that are no images, such as a README."""


def parse_layout(members: list[ArchiveMember]) -> ArchiveLayout:
    """Label the images of an archive. One folder around everything is tolerated."""
    problems: list[ErrorDetail] = []
    ignored: list[str] = []
    images: list[ArchiveMember] = []
    for member in members:
        name = member.path_parts[-1].lower()
        if name.endswith(IMAGE_SUFFIXES):
            images.append(member)
        elif name.endswith(UNSUPPORTED_SUFFIXES):
            detail = "is an image of a kind not read here; send PNG, JPEG, BMP or WEBP"
            problems.append(error_detail("/".join(member.path_parts), detail))
        elif name.endswith(".tar"):
            problems.append(error_detail("/".join(member.path_parts), NESTED_MESSAGE))
        else:
            ignored.append("/".join(member.path_parts))
    labeled = _label_images(_strip_common_folder(images), problems)
    labeled.sort(key=lambda image: (image.split, image.label, image.path_parts))
    return ArchiveLayout(labeled, problems, ignored)


def check_classes(
    images: list[LabeledImage], problems: list[ErrorDetail], known: tuple[str, ...] | None = None
) -> list[str]:
    """The classes, as ``known`` or sorted; adds to the problems those without training images.

    Raises UserFault where there is no training image at all or only one class.
    """
    trained = {image.label for image in images if image.split == "train"}
    classes = list(known) if known is not None else sorted(trained)
    if not trained and not problems:
        where = "no images in train/" if images else "no images"
        raise UserError("dataset_invalid", f"the archive has {where}", hint=_LAYOUT_HINT)
    labels = {(i.split, i.label) for i in images if i.split != "unlabeled"}
    labels |= {("train", label) for label in classes}
    strange = sorted(pair for pair in labels if pair[1] not in trained)
    for split, label in strange if trained else ():
        problems.append(error_detail(f"{split}/{label}", "is a class without training images"))
    if len(classes) == 1 and not problems:
        raise UserError(
            "dataset_invalid",
            f"all images are of one class, {to_printable(classes[0])!r}; two or more are needed",
            hint=_LAYOUT_HINT,
        )
    return classes


def _strip_common_folder(images: list[ArchiveMember]) -> list[ArchiveMember]:
    first = {image.path_parts[0] for image in images}
    if len(first) != 1 or first.pop().casefold() in SPLIT_FOLDERS:
        return images
    if any(len(image.path_parts) < 3 for image in images):
        return images
    return [ArchiveMember(image.info, image.path_parts[1:]) for image in images]


def _label_images(images: list[ArchiveMember], problems: list[ErrorDetail]) -> list[LabeledImage]:
    first = {image.path_parts[0].casefold() for image in images if len(image.path_parts) > 1}
    named = {SPLIT_FOLDERS.get(folder) for folder in first} - {"unlabeled"}
    has_splits = "train" in named or (bool(named) and None not in named)
    labeled = []
    for image in images:
        labeled_image = _label_image(image, has_splits)
        if isinstance(labeled_image, LabeledImage):
            labeled.append(labeled_image)
        else:
            problems.append(labeled_image)
    return labeled


def _label_image(image: ArchiveMember, has_splits: bool) -> LabeledImage | ErrorDetail:
    folder, parts = image.path_parts[0].casefold(), image.path_parts
    named = SPLIT_FOLDERS.get(folder) if len(parts) > 1 else None
    split: SubsetName = "train"
    if named == "unlabeled":
        return LabeledImage(image.path_parts, named, "", image)
    if has_splits:
        if named is None:
            return error_detail("/".join(parts), "lies beside train/, val/ and test/")
        split, parts = named, parts[1:]
    if len(parts) < 2:
        return error_detail("/".join(image.path_parts), "lies in no class folder")
    problem = class_name_problem(parts[0])
    if problem is not None:
        return error_detail("/".join(image.path_parts), problem)
    return LabeledImage(image.path_parts, split, parts[0], image)


def class_name_problem(name: str) -> str | None:
    """What is wrong with the name of a class."""
    if len(name) > MAX_CLASS_NAME_LENGTH:
        return f"has a class name of more than {MAX_CLASS_NAME_LENGTH} characters"
    if to_printable(name) != name:
        return "has a class name with control characters"
    return None
