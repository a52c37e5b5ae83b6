"""Files of kept answers: whole with their digest beside them, or not there."""

import contextlib
import json
import os
from pathlib import Path
from typing import NamedTuple

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from kdcore.runtime.event_writer import EventWriter
from kdcore.runtime.files import atomic_write, sha256_of


class TeacherCacheEntry(NamedTuple):
    """Answers on the disk, and what is told of them."""

    tensors: dict[str, Tensor]
    """By name, one row for each sample."""
    sha256: str
    fill_s: float
    """That asking took."""

    @property
    def size_bytes(self) -> int:
        """Of all rows."""
        return sum(tensor.nbytes for tensor in self.tensors.values())


def write(path: Path, tensors: dict[str, Tensor], fill_s: float) -> TeacherCacheEntry:
    """Keep ``rows``, and give them back as the file has them."""
    with atomic_write(path) as partial:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, partial)
        digest = sha256_of(partial)
    with atomic_write(path.with_suffix(".json")) as partial:
        partial.write_text(json.dumps({"sha256": digest, "seconds": fill_s}))
    # From the file, so that memory holds what is looked at; it may have been cleared away.
    with contextlib.suppress(FileNotFoundError, SafetensorError):
        tensors = load_file(path)
    return TeacherCacheEntry(tensors, digest, fill_s)


def read(path: Path, events: EventWriter) -> TeacherCacheEntry | None:
    """What a whole file holds; None where there is none, and a damaged one goes."""
    sidecar = path.with_suffix(".json")
    entry = None
    try:
        metadata = json.loads(sidecar.read_text())
        if sha256_of(path) == metadata["sha256"]:
            entry = TeacherCacheEntry(
                load_file(path), metadata["sha256"], float(metadata["seconds"])
            )
    except (FileNotFoundError, SafetensorError, KeyError, TypeError, ValueError):
        pass
    if entry is None:
        if path.exists() and sidecar.exists():
            message = f"a teacher's kept answers are damaged: it is asked again ({path.name})"
            events.log("warning", message)
        return None
    with contextlib.suppress(OSError):  # whoever needs room takes what was not used for longest
        os.utime(path)
        os.utime(sidecar)
    return entry
