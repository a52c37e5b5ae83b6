"""What is true of a decoded data set: counts, statistics and its digest."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from kdcore.data.types import PARTS, SPLITS, Arrays, Images, PartName, SplitName, chunks
from kdcore.schema.asset_info import DatasetInfo, Split
from kdcore.schema.catalog import Normalisation

_DIGITS = 6


class Plan(NamedTuple):
    """What is known of a data set before its pixels are."""

    classes: Sequence[str]
    targets: Mapping[SplitName, npt.NDArray[np.int64]]
    num_unlabelled: int
    in_channels: int
    image_size: int
    split_seed: int


def describe(
    classes: Sequence[str], parts: Mapping[PartName, Arrays], split_seed: int
) -> DatasetInfo:
    """Everything that ingestion reports of the arrays of all splits."""
    _, channels, side, _ = parts["train"].images.shape
    targets = {split: parts[split].targets for split in SPLITS}
    unlabelled = len(parts["unlabelled"].images) if "unlabelled" in parts else 0
    return completed(outline(Plan(classes, targets, unlabelled, channels, side, split_seed)), parts)


def outline(plan: Plan) -> DatasetInfo:
    """The facts that need no pixels; statistics and digest are still to come."""
    splits: dict[PartName, Split] = {
        split: _count(plan.classes, plan.targets[split]) for split in SPLITS
    }
    if plan.num_unlabelled:
        splits["unlabelled"] = Split(count=plan.num_unlabelled, per_class={})
    return DatasetInfo(
        classes=tuple(plan.classes),
        splits=splits,
        in_channels=plan.in_channels,
        image_size=plan.image_size,
        normalisation=Normalisation(mean=(0.0,) * plan.in_channels, std=(1.0,) * plan.in_channels),
        split_seed=plan.split_seed,
        digest=hashlib.sha256().hexdigest(),
    )


def completed(outlined: DatasetInfo, parts: Mapping[PartName, Arrays]) -> DatasetInfo:
    """The same with the statistics and the digest of its pixels."""
    return outlined.model_copy(
        update={
            "normalisation": normalisation(parts["train"].images),
            "digest": digest(outlined.classes, parts),
        }
    )


def normalisation(images: Images) -> Normalisation:
    """Mean and deviation per channel of (N, C, H, W), scaled to 0..1, from exact integer sums.

    A channel without any variation gets a deviation of 1: it must not be divided by zero.
    """
    counts = np.zeros((images.shape[1], 256), np.int64)
    for _, piece in chunks(images):
        for channel in range(images.shape[1]):
            counts[channel] += np.bincount(piece[:, channel].reshape(-1), minlength=256)
    means, deviations = [], []
    values = np.arange(256, dtype=np.float64) / 255
    for count in counts:
        mean = float((values * count).sum() / count.sum())
        variance = float(((values - mean) ** 2 * count).sum() / count.sum())
        means.append(round(mean, _DIGITS))
        deviations.append(round(variance**0.5, _DIGITS) or 1.0)
    return Normalisation(mean=tuple(means), std=tuple(deviations))


def digest(classes: Sequence[str], parts: Mapping[PartName, Arrays]) -> str:
    """sha256 of classes, splits, targets and pixels: equal for equal data, however it was sent."""
    found = hashlib.sha256()
    for part in PARTS:
        if part not in parts:
            continue
        arrays = parts[part]
        head = {"classes": list(classes), "split": part, "shape": arrays.images.shape}
        found.update(json.dumps(head, sort_keys=True).encode() + b"\n")
        found.update(np.ascontiguousarray(arrays.targets.astype("<i8")).data)
        for _, piece in chunks(arrays.images):
            found.update(piece.data)
    return found.hexdigest()


def _count(classes: Sequence[str], targets: npt.NDArray[np.int64]) -> Split:
    counts = np.bincount(targets, minlength=len(classes))
    per_class = {name: int(count) for name, count in zip(classes, counts, strict=True)}
    return Split(count=len(targets), per_class=per_class)
