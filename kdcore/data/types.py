"""Names of splits, and the arrays of a split in memory or in a file."""

from collections.abc import Iterator
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

SplitName = Literal["train", "val", "test"]
SubsetName = Literal["train", "val", "test", "unlabeled"]
SPLITS: tuple[SplitName, ...] = ("train", "val", "test")
SUBSETS: tuple[SubsetName, ...] = (*SPLITS, "unlabeled")
_CHUNK = 16 << 20


class Images(Protocol):
    """Images (N, C, H, W) uint8 in memory or in a file; a slice is an array."""

    @property
    def shape(self) -> Any: ...  # noqa: D102 - as in numpy

    def __len__(self) -> int: ...

    def __getitem__(self, rows: slice, /) -> npt.NDArray[Any]: ...


class SplitArrays(NamedTuple):
    """One decoded split."""

    images: Images
    """(N, C, H, W)"""
    targets: npt.NDArray[np.int64]
    """(N,), indices into the data set's classes; empty for images without labels."""


def iter_chunks(images: Images) -> Iterator[tuple[int, npt.NDArray[np.uint8]]]:
    """Yield the images in contiguous arrays of some megabytes, with the index of the first."""
    step = max(1, _CHUNK // max(1, int(np.prod(images.shape[1:]))))
    for start in range(0, len(images), step):
        yield start, np.ascontiguousarray(images[start : start + step])
