"""Read and write teacher cache files: complete with their digest beside them, or absent."""

import contextlib
import os
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from kdcore.protocol.teacher_cache_files import TeacherCacheSidecar
from kdcore.runtime.event_writer import EventWriter
from kdcore.runtime.files import atomic_write, sha256_of
from kdcore.training.teacher_cache.codec import has_overflowed


class TeacherCacheEntry(NamedTuple):
    """Teacher outputs of one view, read from a file."""

    tensors: dict[str, Tensor]
    """Encoded outputs by name, each (num_samples, …)."""
    sha256: str
    """Digest of the file."""
    fill_s: float
    """Seconds that computing the outputs took."""

    @property
    def size_bytes(self) -> int:
        """Bytes of all tensors."""
        return sum(tensor.nbytes for tensor in self.tensors.values())


def write(path: Path, tensors: dict[str, Tensor], fill_s: float) -> TeacherCacheEntry:
    """Write ``tensors`` and their sidecar; return the entry as the file holds it."""
    with atomic_write(path) as partial:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, partial)
        digest = sha256_of(partial)
    with atomic_write(path.with_suffix(".json")) as partial:
        partial.write_text(TeacherCacheSidecar(sha256=digest, fill_s=fill_s).model_dump_json())
    # Mapped from the file, tensors take memory only where they are read. Another process may have
    # deleted the file to make room.
    with contextlib.suppress(FileNotFoundError, SafetensorError):
        tensors = load_file(path)
    return TeacherCacheEntry(tensors, digest, fill_s)


def read(path: Path, events: EventWriter) -> TeacherCacheEntry | None:
    """The entry of a complete file, or None; a damaged file is logged."""
    sidecar_path = path.with_suffix(".json")
    entry = None
    # Not a complete file: the caller computes the outputs.
    with contextlib.suppress(FileNotFoundError, SafetensorError, ValidationError):
        sidecar = TeacherCacheSidecar.model_validate_json(sidecar_path.read_bytes())
        if sha256_of(path) == sidecar.sha256:
            entry = TeacherCacheEntry(load_file(path), sidecar.sha256, sidecar.fill_s)
            if has_overflowed(entry.tensors):
                entry = None
    if entry is None:
        if path.exists() and sidecar_path.exists():
            events.log(
                "warning",
                f"the teacher cache file {path.name} is damaged: its outputs are computed again",
            )
        return None
    with contextlib.suppress(OSError):  # the files used last are deleted last
        os.utime(path)
        os.utime(sidecar_path)
    return entry
