"""PixelDigests: find images that are in a data set more than once, by their decoded pixels."""

from collections.abc import Iterator, Sequence

import numpy as np

from kdcore.data.ingest.base import LabeledImage, Pixels
from kdcore.data.ingest.ingest_summary import SummaryBuilder
from kdcore.data.types import SPLITS, SubsetName

_EXAMPLES = 5
_SHARED: tuple[tuple[SubsetName, SubsetName], ...] = (
    *(("test", "train"), ("test", "val"), ("val", "train")),
    *(("test", "unlabeled"), ("val", "unlabeled")),
)
"""Splits that should have no images in common."""


class PixelDigests:
    """Digests of the decoded pixels of ``count`` images."""

    def __init__(self, count: int) -> None:
        self._digests = np.zeros(count, np.int64)
        self._has_digest = np.zeros(count, bool)

    def add(self, position: int, pixels: Pixels) -> None:
        """Compute the digest of pixels (C, S, S)."""
        # Python's keyed hash has 64 bits, never leaves this process, and is the fastest one.
        self._digests[position] = hash(pixels.tobytes())
        self._has_digest[position] = True

    def groups(self) -> list[list[int]]:
        """Return the positions of equal images, in the order of the first; two or more in each."""
        positions = np.flatnonzero(self._has_digest)
        order = positions[np.argsort(self._digests[positions], kind="stable")]
        ordered = self._digests[order]
        starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
        ends = np.r_[starts[1:], len(ordered)]
        repeated = ends - starts > 1
        return sorted(
            order[start:end].tolist()
            for start, end in zip(starts[repeated], ends[repeated], strict=True)
        )


def positions_to_drop(images: Sequence[LabeledImage], groups: list[list[int]]) -> set[int]:
    """Return the training images that are copies; images of val and test always stay.

    Of an image with two labels, no copy stays in train. Otherwise the first one stays, unless the
    image is in val or test.
    """
    dropped: set[int] = set()
    for group in groups:
        labeled = [position for position in group if images[position].split != "unlabeled"]
        train = [position for position in labeled if images[position].split == "train"]
        has_two_labels = len({images[position].label for position in labeled}) > 1
        drops_all = has_two_labels or len(train) < len(labeled)
        dropped.update(train if drops_all else train[1:])
    return dropped


def add_warnings(
    summary: SummaryBuilder, images: Sequence[LabeledImage], groups: list[list[int]]
) -> None:
    """Warn of images that splits share, of images with two labels, and of copies in a split."""
    for pair in _SHARED:
        _warn_shared(summary, images, groups, pair)
    two_labels = [group for group in groups if len(_labels(images, group)) > 1]
    if two_labels:
        count = _count(len(two_labels), "image has", "images have")
        _warn(summary, f"{count} two labels", (_names(images, group) for group in two_labels))
    for split in SPLITS:
        copies = [copy for group in groups for copy in _copies_in(images, group, split)]
        if copies:
            count = _count(len(copies), f"image of {split} repeats", f"images of {split} repeat")
            text = f"{count} others of {split}"
            _warn(summary, text, (_names(images, copy) for copy in copies))


def _copies_in(
    images: Sequence[LabeledImage], group: list[int], split: SubsetName
) -> Iterator[tuple[int, int]]:
    """Yield each image of a split that has the label of an earlier one, after that one."""
    first: dict[str, int] = {}
    for position in group:
        if images[position].split == split:
            earlier = first.setdefault(images[position].label, position)
            if earlier != position:
                yield earlier, position


def _warn_shared(
    summary: SummaryBuilder,
    images: Sequence[LabeledImage],
    groups: list[list[int]],
    pair: tuple[SubsetName, SubsetName],
) -> None:
    split, other = pair
    shared = []
    for group in groups:
        first_other = next((p for p in group if images[p].split == other), None)
        if first_other is not None:
            shared += [[p, first_other] for p in group if images[p].split == split]
    if shared:
        total = sum(image.split == split for image in images)
        text = f"{len(shared)} of {total} {split} images are in {other}, too"
        if other == "train":
            text += f", so accuracies on {split} are too high"
        _warn(summary, text, (_names(images, positions) for positions in shared))


def _warn(summary: SummaryBuilder, text: str, examples: Iterator[str]) -> None:
    few = [example for example, _ in zip(examples, range(_EXAMPLES), strict=False)]
    summary.add_warning(f"{text}, for example {'; '.join(few)}")


def _labels(images: Sequence[LabeledImage], group: list[int]) -> set[str]:
    return {images[position].label for position in group} - {""}


def _names(images: Sequence[LabeledImage], group: Sequence[int]) -> str:
    return " = ".join(images[position].name for position in group[:3])


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"
