"""Read stored data sets: one safetensors file of decoded images, which runs map into memory.

Tensors ``<split>/images`` (N, C, H, W) uint8 and ``<split>/targets`` (N,) int64 for the splits
train, val and test, ``unlabeled/images`` if there are images without labels, and one metadata key,
``stillhouse``, with :class:`DatasetInfo` as sorted JSON. There is only one key, because safetensors
orders several keys differently in each process. The bytes of a file depend on its content alone, so
equal data sets share one object in the object store.

Format: https://github.com/huggingface/safetensors#format. :mod:`kdcore.data.store_writer` writes
it. Files from before the American spelling are read as well.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError, safe_open

from kdcore.data.store_writer import METADATA_KEY, write_dataset
from kdcore.data.types import SPLITS, SUBSETS, SplitArrays, SplitName, SubsetName
from kdcore.runtime.errors import UserError
from kdcore.schema.asset_info import DatasetInfo
from kdcore.schema.old_spelling import with_current_spelling

if TYPE_CHECKING:
    # Ingestion imports this module and needs no torch, which takes most of the start-up time.
    import torch

__all__ = [
    "SPLITS",
    "SUBSETS",
    "MappedDataset",
    "SplitArrays",
    "SplitName",
    "SubsetName",
    "load_dataset",
    "write_dataset",
]


def load_dataset(path: Path) -> "MappedDataset":
    """Map the data set at ``path``. Raises :class:`UserError` ``dataset_invalid``."""
    return MappedDataset(path)


class MappedDataset:
    """A stored data set; its tensors are mapped, so they take no memory of the process."""

    info: DatasetInfo

    def __init__(self, path: Path) -> None:
        try:
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                self.info = _parse_info(metadata[METADATA_KEY])
                self._tensors: dict[str, torch.Tensor] = with_current_spelling(
                    # An open file of safetensors is not iterable.
                    {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                )
                missing = [s for s in SPLITS if f"{s}/images" not in self._tensors]
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            raise UserError(
                "dataset_invalid", f"{path.name} is not a stored data set: {error}"
            ) from error
        if missing:
            raise UserError("dataset_invalid", f"{path.name} lacks the splits {missing}")

    def images(self, split: SubsetName) -> "torch.Tensor":
        """Return (N, C, H, W) uint8, not to be changed; no rows without unlabeled images."""
        if split == "unlabeled" and "unlabeled/images" not in self._tensors:
            return self._tensors["train/images"][:0]
        return self._tensors[f"{split}/images"]

    def targets(self, split: SplitName) -> "torch.Tensor":
        """Return the class indices (N,) int64."""
        return self._tensors[f"{split}/targets"]


def _parse_info(text: str) -> DatasetInfo:
    fields = with_current_spelling(json.loads(text))
    fields["splits"] = with_current_spelling(fields["splits"])
    return DatasetInfo.model_validate(fields)
