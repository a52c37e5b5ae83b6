"""Labels from file names: folders are classes, optionally below split folders.

A folder ``unlabeled/`` beside the split folders or the classes holds images without labels, in any
subfolders.
"""

from typing import NamedTuple

from kdcore.data.class_labels import (
    class_name_problem,
    equal_number_problems,
    order_class_names,
)
from kdcore.data.ingest.archives.safe_zip import NESTED_MESSAGE, ArchiveMember
from kdcore.data.ingest.base import LabeledImage
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
"""Names of split folders, in lower case; upper case is accepted too."""
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
UNSUPPORTED_SUFFIXES = (".gif", ".tif", ".tiff", ".heic", ".avif", ".jp2", ".ppm", ".pgm", ".svg")
_LAYOUT_HINT = "put the images into class folders: <class>/*.png, or train/<class>/*.png"


class ArchiveLayout(NamedTuple):
    """The labeled images of an archive, by their names."""

    images: list[LabeledImage]
    """Sorted by split, class and name."""
    problems: list[ErrorDetail]
    ignored: list[str]
    """Other files, such as a README."""


def parse_layout(members: list[ArchiveMember]) -> ArchiveLayout:
    """Label the images of an archive. A single folder around all others is ignored."""
    problems: list[ErrorDetail] = []
    ignored: list[str] = []
    images: list[ArchiveMember] = []
    for member in members:
        name = member.path_parts[-1].lower()
        if name.endswith(IMAGE_SUFFIXES):
            images.append(member)
        elif name.endswith(UNSUPPORTED_SUFFIXES):
            detail = "is not in a supported image format; use PNG, JPEG, BMP or WEBP"
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
    """Return the classes: ``known``, or in the order of :func:`order_class_names`.

    Classes without training images and two spellings of one number are added to ``problems``.
    Raises :class:`UserError` ``dataset_invalid`` without any training image and for a single class.
    """
    trained = {image.label for image in images if image.split == "train"}
    classes = list(known) if known is not None else list(order_class_names(trained))
    if not trained and not problems:
        missing = "no images in train/" if images else "no images"
        raise UserError("dataset_invalid", f"the archive has {missing}", hint=_LAYOUT_HINT)
    labels = {(i.split, i.label) for i in images if i.split != "unlabeled"}
    labels |= {("train", label) for label in classes}
    respelled = equal_number_problems(label for _, label in labels)
    problems.extend(error_detail(name, problem) for name, problem in respelled.items())
    untrained = sorted(pair for pair in labels if pair[1] not in trained and not respelled)
    for split, label in untrained if trained else ():
        problems.append(error_detail(f"{split}/{label}", "is a class without training images"))
    if len(classes) == 1 and not problems:
        raise UserError(
            "dataset_invalid",
            f"all images are in one class, {to_printable(classes[0])!r}; at least two are needed",
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
    splits = {SPLIT_FOLDERS.get(folder) for folder in first} - {"unlabeled"}
    has_splits = "train" in splits or (bool(splits) and None not in splits)
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
    folder_split = SPLIT_FOLDERS.get(folder) if len(parts) > 1 else None
    split: SubsetName = "train"
    if folder_split == "unlabeled":
        return LabeledImage(image.path_parts, folder_split, "", image)
    if has_splits:
        if folder_split is None:
            return error_detail(
                "/".join(parts), "is beside train/, val/ and test/; move it into one of them"
            )
        split, parts = folder_split, parts[1:]
    if len(parts) < 2:
        return error_detail("/".join(image.path_parts), "is not in a class folder")
    problem = class_name_problem(parts[0])
    if problem is not None:
        return error_detail("/".join(image.path_parts), problem)
    return LabeledImage(image.path_parts, split, parts[0], image)
