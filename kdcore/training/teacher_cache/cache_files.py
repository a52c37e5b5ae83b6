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
from kdcore.runtime.files import replacing, sha256_of


class Found(NamedTuple):
    """Answers on the disk, and what is told of them."""

    rows: dict[str, Tensor]
    """By name, one row for each sample."""
    sha256: str
    seconds: float
    """That asking took."""

    @property
    def size_bytes(self) -> int:
        """Of all rows."""
        return sum(each.nbytes for each in self.rows.values())


def write(path: Path, rows: dict[str, Tensor], seconds: float) -> Found:
    """Keep ``rows``, and give them back as the file has them."""
    with replacing(path) as partial:
        save_file({name: each.contiguous() for name, each in rows.items()}, partial)
        digest = sha256_of(partial)
    with replacing(path.with_suffix(".json")) as partial:
        partial.write_text(json.dumps({"sha256": digest, "seconds": seconds}))
    # From the file, so that memory holds what is looked at; it may have been cleared away.
    with contextlib.suppress(FileNotFoundError, SafetensorError):
        rows = load_file(path)
    return Found(rows, digest, seconds)


def read(path: Path, events: EventWriter) -> Found | None:
    """What a whole file holds; None where there is none, and a damaged one goes."""
    beside = path.with_suffix(".json")
    found = None
    try:
        told = json.loads(beside.read_text())
        if sha256_of(path) == told["sha256"]:
            found = Found(load_file(path), told["sha256"], float(told["seconds"]))
    except (FileNotFoundError, SafetensorError, KeyError, TypeError, ValueError):
        pass
    if found is None:
        if path.exists() and beside.exists():
            message = f"a teacher's kept answers are damaged: it is asked again ({path.name})"
            events.log("warning", message)
        return None
    with contextlib.suppress(OSError):  # whoever needs room takes what was not used for longest
        os.utime(path)
        os.utime(beside)
    return found
