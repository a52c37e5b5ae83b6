"""The decoded data set: one safetensors file that every run maps into memory.

Tensors ``<split>/images`` (N, C, H, W) uint8 and ``<split>/targets`` (N,) int64 for the splits
train, val and test, and one metadata key, ``stillhouse``, with :class:`DatasetInfo` as sorted JSON.
One key only, because safetensors orders several differently in each process. The file's bytes are
a function of the content alone, so equal data sets share one object in a store by digest.

Format: https://github.com/huggingface/safetensors#format. Written here without the library, which
would hold a second copy of every tensor; read with it.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open

from kdcore.errors import UserFault
from kdcore.files import replacing
from kdcore.spec.assets import DatasetInfo

if TYPE_CHECKING:
    # Ingestion writes stores and needs no torch: it starts in a tenth of the time without it.
    import torch

SplitName = Literal["train", "val", "test"]
SPLITS: tuple[SplitName, ...] = ("train", "val", "test")
_KEY = "stillhouse"


class Arrays(NamedTuple):
    """One decoded split."""

    images: npt.NDArray[np.uint8]
    """(N, C, H, W)"""
    targets: npt.NDArray[np.int64]
    """(N,), indices into the data set's classes."""


def write(path: Path, splits: Mapping[SplitName, Arrays], info: DatasetInfo) -> str:
    """Write the store to ``path`` by atomic rename; return the file's sha256."""
    # Targets first: eight-byte values stay aligned whatever the number of pixels.
    tensors: dict[str, npt.NDArray[Any]] = {f"{s}/targets": splits[s].targets for s in SPLITS}
    tensors |= {f"{s}/images": splits[s].images for s in SPLITS}
    digest = hashlib.sha256()
    with replacing(path) as partial, partial.open("wb") as file:
        for part in (_header(tensors, info), *map(_bytes, tensors.values())):
            digest.update(part.data)
            file.write(part.data)
    return digest.hexdigest()


def load(path: Path) -> "DatasetStore":
    """Map the store at ``path``. Raises UserFault ``dataset_invalid`` if it is not one."""
    return DatasetStore(path)


class DatasetStore:
    """A store on disk; tensors are mapped, so reading a split costs no memory of its own."""

    info: DatasetInfo

    def __init__(self, path: Path) -> None:
        try:
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                self.info = DatasetInfo.model_validate_json(metadata[_KEY])
                self._tensors: dict[str, torch.Tensor] = {
                    name: file.get_tensor(name)
                    for name in file.keys()  # noqa: SIM118
                }
                missing = [s for s in SPLITS if f"{s}/images" not in self._tensors]
        except (SafetensorError, KeyError, ValidationError) as error:
            raise UserFault(
                "dataset_invalid", f"{path.name} is not a store that ingestion wrote: {error}"
            ) from error
        if missing:
            raise UserFault("dataset_invalid", f"{path.name} lacks the splits {missing}")

    def images(self, split: SplitName) -> "torch.Tensor":
        """(N, C, H, W) uint8, read-only by agreement."""
        return self._tensors[f"{split}/images"]

    def targets(self, split: SplitName) -> "torch.Tensor":
        """(N,) int64."""
        return self._tensors[f"{split}/targets"]


def _header(tensors: Mapping[str, npt.NDArray[Any]], info: DatasetInfo) -> npt.NDArray[np.uint8]:
    text = json.dumps(info.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
    header: dict[str, Any] = {"__metadata__": {_KEY: text}}
    offset = 0
    for name, array in tensors.items():
        kind = {"uint8": "U8", "int64": "I64"}[array.dtype.name]
        end = offset + array.nbytes
        header[name] = {"dtype": kind, "shape": array.shape, "data_offsets": (offset, end)}
        offset = end
    encoded = json.dumps(header, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % 8)
    return np.frombuffer(len(encoded).to_bytes(8, "little") + encoded, dtype=np.uint8)


def _bytes(array: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    # A view of the array's own memory; the format is little-endian like every machine we run on.
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)
