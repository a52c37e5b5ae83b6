"""Compute the facts of a data set: counts, mean and standard deviation, digest."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from kdcore.data.types import (
    SPLITS,
    SUBSETS,
    Images,
    SplitArrays,
    SplitName,
    SubsetName,
    iter_chunks,
)
from kdcore.schema.asset_info import DatasetInfo, SplitInfo
from kdcore.schema.catalog import Normalization
from kdcore.schema.old_spelling import old_spelling

_DECIMALS = 6


class DatasetOutline(NamedTuple):
    """The facts of a data set that are known before its pixels are decoded."""

    classes: Sequence[str]
    targets: Mapping[SplitName, npt.NDArray[np.int64]]
    num_unlabeled: int
    in_channels: int
    image_size: int
    split_seed: int
    sixteen_bit_range: int | None = None


def describe(
    classes: Sequence[str], subsets: Mapping[SubsetName, SplitArrays], split_seed: int
) -> DatasetInfo:
    """Return the facts of the arrays of all splits."""
    _, channels, side, _ = subsets["train"].images.shape
    targets = {split: subsets[split].targets for split in SPLITS}
    num_unlabeled = len(subsets["unlabeled"].images) if "unlabeled" in subsets else 0
    return add_statistics(
        info_without_statistics(
            DatasetOutline(classes, targets, num_unlabeled, channels, side, split_seed)
        ),
        subsets,
    )


def info_without_statistics(dataset_outline: DatasetOutline) -> DatasetInfo:
    """Return the facts that need no pixels, with placeholders for statistics and digest."""
    splits: dict[SubsetName, SplitInfo] = {
        split: _split_counts(dataset_outline.classes, dataset_outline.targets[split])
        for split in SPLITS
    }
    if dataset_outline.num_unlabeled:
        splits["unlabeled"] = SplitInfo(count=dataset_outline.num_unlabeled, per_class={})
    return DatasetInfo(
        classes=tuple(dataset_outline.classes),
        splits=splits,
        in_channels=dataset_outline.in_channels,
        image_size=dataset_outline.image_size,
        normalization=Normalization(
            mean=(0.0,) * dataset_outline.in_channels, std=(1.0,) * dataset_outline.in_channels
        ),
        split_seed=dataset_outline.split_seed,
        sixteen_bit_range=dataset_outline.sixteen_bit_range,
        digest=hashlib.sha256().hexdigest(),
    )


def add_statistics(
    partial_info: DatasetInfo, subsets: Mapping[SubsetName, SplitArrays]
) -> DatasetInfo:
    """Return ``partial_info`` with the statistics and the digest of the pixels."""
    return partial_info.model_copy(
        update={
            "normalization": compute_normalization(subsets["train"].images),
            "digest": content_digest(partial_info.classes, subsets),
        }
    )


def compute_normalization(images: Images) -> Normalization:
    """Return mean and standard deviation of each channel of (N, C, H, W), scaled to 0..1.

    They come from exact integer sums. A constant channel gets the deviation 1, because images are
    divided by it.
    """
    counts = np.zeros((images.shape[1], 256), np.int64)
    for _, piece in iter_chunks(images):
        for channel in range(images.shape[1]):
            plane = Image.fromarray(piece[:, channel].reshape(-1, images.shape[-1]))
            counts[channel] += plane.histogram()  # three times as fast as numpy's
    means, deviations = [], []
    values = np.arange(256, dtype=np.float64) / 255
    for count in counts:
        mean = float((values * count).sum() / count.sum())
        variance = float(((values - mean) ** 2 * count).sum() / count.sum())
        means.append(round(mean, _DECIMALS))
        deviations.append(round(variance**0.5, _DECIMALS) or 1.0)
    return Normalization(mean=tuple(means), std=tuple(deviations))


def content_digest(classes: Sequence[str], subsets: Mapping[SubsetName, SplitArrays]) -> str:
    """Return the SHA-256 of classes, splits, targets and pixels: equal for equal data.

    The digest hashes the old spelling of ``unlabeled``, so that it stays what it was.
    """
    hasher = hashlib.sha256()
    for part in SUBSETS:
        if part not in subsets:
            continue
        arrays = subsets[part]
        head = {"classes": list(classes), "split": old_spelling(part), "shape": arrays.images.shape}
        hasher.update(json.dumps(head, sort_keys=True).encode() + b"\n")
        hasher.update(np.ascontiguousarray(arrays.targets.astype("<i8")).data)
        for _, piece in iter_chunks(arrays.images):
            hasher.update(piece.data)
    return hasher.hexdigest()


def _split_counts(classes: Sequence[str], targets: npt.NDArray[np.int64]) -> SplitInfo:
    counts = np.bincount(targets, minlength=len(classes))
    per_class = {name: int(count) for name, count in zip(classes, counts, strict=True)}
    return SplitInfo(count=len(targets), per_class=per_class)
