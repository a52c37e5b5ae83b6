"""Draw validation and test splits that an upload does not have."""

import hashlib
from collections import defaultdict

from kdcore.data.ingest.base import LabeledImage
from kdcore.data.types import SplitName
from kdcore.runtime.errors import UserError

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
