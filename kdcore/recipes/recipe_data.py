"""A data set from a path of this machine to a store that trainings map into memory.

An ingested store is kept in the run's folder with a fingerprint of what it was made of: a second
call takes it as it is.
"""

import contextlib
import hashlib
import json
import os
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

from kdcore.data import dataset as store
from kdcore.data.ingest.pipeline import ingest
from kdcore.protocol.requests import DatasetFile, IngestRequest
from kdcore.recipes.config import Data
from kdcore.runtime.cancellation import Stop
from kdcore.runtime.errors import UserFault
from kdcore.runtime.event_writer import EventWriter
from kdcore.runtime.files import replacing, sha256_of
from kdcore.schema.dataset_sources import SOURCES
from kdcore.schema.validation.partial_job import DatasetFacts

_UPLOAD = "archive"
_NOTE = "made-of.json"


class Taken(NamedTuple):
    """A data set, ready."""

    file: DatasetFile
    facts: DatasetFacts


def asked_of(dataset: str | Data) -> Data:
    """The long way to write a data set."""
    if isinstance(dataset, Data):
        return dataset
    known = dataset in SOURCES or dataset.startswith(("builtin:", "torchvision:"))
    return Data.model_validate({"source" if known else "path": dataset})


def take(asked: Data, base: Path, folder: Path, stop: Stop) -> Taken:
    """The data set ``asked``, ingested into ``folder`` where it is not there already.

    Relative paths are relative to ``base``. Raises ``UserFault`` with all that is wrong with it.
    """
    if (asked.path is None) == (asked.source is None):
        raise UserFault("dataset_invalid", "give either a path or a source of the data set")
    if asked.path is None:
        return _ingested(asked, None, base, folder, stop)
    path = base / Path(asked.path).expanduser()
    if not path.exists():
        raise UserFault("dataset_invalid", f"there is no file or folder {path}")
    if path.suffix == ".safetensors":
        return _taken(path, _source_of(path))
    return _ingested(asked, path, base, folder, stop)


def _ingested(asked: Data, path: Path | None, base: Path, folder: Path, stop: Stop) -> Taken:
    made = folder / "artifacts" / "dataset.safetensors"
    note, source = folder / _NOTE, asked.source or _UPLOAD
    fingerprint = {"asked": asked.model_dump(), "path": str(path), "bytes": _fingerprint(path)}
    if not (made.exists() and note.exists() and json.loads(note.read_text()) == fingerprint):
        folder.mkdir(parents=True, exist_ok=True)
        note.unlink(missing_ok=True)
        with contextlib.ExitStack() as stack:
            events = stack.enter_context(
                contextlib.closing(EventWriter(folder / "events.jsonl", folder))
            )
            request = IngestRequest(
                source=source,
                path=str(_one_file(path, folder, stop, stack)) if path else None,
                root=str(base / Path(asked.root).expanduser()) if asked.root else None,
                image_size=asked.image_size,
                split_seed=asked.split_seed,
            )
            ingest(request, folder, events, stop)
        note.write_text(json.dumps(fingerprint))
    return _taken(made, source)


def _source_of(store_path: Path) -> str:
    """What a store was made of, if an earlier run made it: digits are not to be mirrored."""
    try:
        note = json.loads((store_path.parents[1] / _NOTE).read_text())
        return note["asked"]["source"] or _UPLOAD
    except (OSError, ValueError, LookupError, TypeError):
        return _UPLOAD


def _taken(path: Path, source: str) -> Taken:
    info = store.load(path).info
    unlabelled = info.splits.get("unlabelled")
    facts = DatasetFacts(
        source=source,
        num_classes=len(info.classes),
        in_channels=info.in_channels,
        image_size=info.image_size,
        num_train=info.splits["train"].count,
        num_unlabelled=unlabelled.count if unlabelled else 0,
    )
    return Taken(DatasetFile(path=str(path), sha256=sha256_of(path)), facts)


def _fingerprint(path: Path | None) -> str:
    """Of names, sizes and times: reading every byte of a large set would take minutes."""
    found = hashlib.sha256()
    for file in _files(path) if path else ():
        facts = file.stat()
        found.update(f"{file}\0{facts.st_size}\0{facts.st_mtime_ns}\n".encode(errors="replace"))
    return found.hexdigest()


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    walked = os.walk(path, followlinks=False)
    return sorted(Path(folder, name) for folder, _, names in walked for name in names)


def _one_file(path: Path, folder: Path, stop: Stop, stack: contextlib.ExitStack) -> Path:
    """``path``, or the folder there as an archive that vanishes with ``stack``."""
    if path.is_file():
        return path
    packed = folder / "folder.zip"
    stack.callback(packed.unlink, missing_ok=True)
    with (
        replacing(packed) as partial,
        zipfile.ZipFile(partial, "w", strict_timestamps=False) as out,
    ):
        for file in _files(path):
            stop.check()
            out.write(file, file.relative_to(path))
    return packed


def of_arrays(dataset: Any, folder: Path) -> Path:
    """``(images, labels)``, or arrays by the names that an ``.npz`` may have, as such a file.

    Images are (N, H, W) or (N, H, W, C) uint8. The same arrays are not written twice.
    """
    import numpy as np

    named = (
        dataset
        if isinstance(dataset, dict)
        else dict(zip(("images", "labels"), dataset, strict=True))
    )
    arrays = {name: np.asarray(values) for name, values in named.items()}
    found = hashlib.sha256()
    for name, values in sorted(arrays.items()):
        found.update(f"{name} {values.dtype} {values.shape}\n".encode())
        found.update(np.ascontiguousarray(values).data.cast("B"))
    path = folder / f"arrays-{found.hexdigest()[:16]}.npz"
    if not path.exists():
        with replacing(path) as partial, partial.open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)
    return path
