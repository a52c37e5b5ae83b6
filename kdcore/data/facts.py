"""What is true of a decoded data set: counts, statistics and its digest."""

import hashlib
import json
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from kdcore.data.store import SPLITS, Arrays, SplitName
from kdcore.spec.assets import DatasetInfo, Split
from kdcore.spec.catalogue import Normalisation

_DIGITS = 6


def describe(
    classes: Sequence[str], splits: Mapping[SplitName, Arrays], split_seed: int
) -> DatasetInfo:
    """Everything that ingestion reports of the arrays of all three splits."""
    _, channels, side, _ = splits["train"].images.shape
    return DatasetInfo(
        classes=tuple(classes),
        splits={split: _count(classes, splits[split]) for split in SPLITS},
        in_channels=channels,
        image_size=side,
        normalisation=normalisation(splits["train"].images),
        split_seed=split_seed,
        digest=digest(classes, splits),
    )


def normalisation(images: npt.NDArray[np.uint8]) -> Normalisation:
    """Mean and deviation per channel of (N, C, H, W), scaled to 0..1, from exact integer sums.

    A channel without any variation gets a deviation of 1: it must not be divided by zero.
    """
    means, deviations = [], []
    values = np.arange(256, dtype=np.float64) / 255
    for channel in range(images.shape[1]):
        counts = np.zeros(256, np.int64)
        for image in np.array_split(images[:, channel], max(1, len(images) // 1024)):
            counts += np.bincount(image.reshape(-1), minlength=256)
        mean = float((values * counts).sum() / counts.sum())
        variance = float(((values - mean) ** 2 * counts).sum() / counts.sum())
        means.append(round(mean, _DIGITS))
        deviations.append(round(variance**0.5, _DIGITS) or 1.0)
    return Normalisation(mean=tuple(means), std=tuple(deviations))


def digest(classes: Sequence[str], splits: Mapping[SplitName, Arrays]) -> str:
    """sha256 of classes, splits, targets and pixels: equal for equal data, however it was sent."""
    found = hashlib.sha256()
    for split in SPLITS:
        arrays = splits[split]
        head = {"classes": list(classes), "split": split, "shape": arrays.images.shape}
        found.update(json.dumps(head, sort_keys=True).encode() + b"\n")
        found.update(np.ascontiguousarray(arrays.targets.astype("<i8")).data)
        found.update(np.ascontiguousarray(arrays.images).data)
    return found.hexdigest()


def _count(classes: Sequence[str], arrays: Arrays) -> Split:
    counts = np.bincount(arrays.targets, minlength=len(classes))
    per_class = {name: int(count) for name, count in zip(classes, counts, strict=True)}
    return Split(count=len(arrays.targets), per_class=per_class)
