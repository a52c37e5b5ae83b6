"""Ingests the data set of a recipe into a store that training maps into memory.

The run's folder has the store and a fingerprint of its source, so that a second run reuses it.
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
from kdcore.recipes.config import RecipeDataset
from kdcore.runtime.atomic_files import atomic_write, sha256_of
from kdcore.runtime.cancellation import CancellationToken
from kdcore.runtime.errors import UserError
from kdcore.runtime.event_writer import EventWriter
from kdcore.schema.asset_info import DatasetFacts

_UPLOAD = "archive"
_FINGERPRINT_FILE = "made-of.json"


class PreparedDataset(NamedTuple):
    """A data set that the engine can open."""

    file: DatasetFile
    facts: DatasetFacts
    test_source: str = ""
    """What an evaluation measures: the number of test images, and what they were read from."""


def prepare_dataset(
    config: RecipeDataset,
    base: Path,
    folder: Path,
    cancellation: CancellationToken,
    *,
    for_evaluation: bool = False,
) -> PreparedDataset:
    """Return the data set, ingested into ``folder`` unless its store is up to date.

    With ``for_evaluation``, a set whose only split is test is measured whole. Relative paths start
    from ``base``. Raises ``UserError`` with all that is wrong with the data.
    """
    if (config.path is None) == (config.source is None):
        raise UserError("dataset_invalid", "the data set needs either a path or a source, not both")
    if config.path is None:
        return _load_or_ingest(config, None, base, folder, cancellation, for_evaluation)
    path = base / Path(config.path).expanduser()
    if not path.exists():
        raise UserError(
            "dataset_invalid",
            f"there is no file or folder {path}",
            hint="name a file, a folder, or a source such as `builtin:digits`",
        )
    if path.suffix == ".safetensors":
        return _load_prepared(path, _source_of(path))
    return _load_or_ingest(config, path, base, folder, cancellation, for_evaluation)


def _load_or_ingest(
    config: RecipeDataset,
    path: Path | None,
    base: Path,
    folder: Path,
    cancellation: CancellationToken,
    for_evaluation: bool,
) -> PreparedDataset:
    store_path = folder / "artifacts" / "dataset.safetensors"
    fingerprint_path, source = folder / _FINGERPRINT_FILE, config.source or _UPLOAD
    settings = _settings_of(config) | ({"for_evaluation": True} if for_evaluation else {})
    fingerprint = {"dataset": settings, "path": str(path), "bytes": _fingerprint(path)}
    if not (
        store_path.exists()
        and fingerprint_path.exists()
        and _read_fingerprint(fingerprint_path) == fingerprint
    ):
        folder.mkdir(parents=True, exist_ok=True)
        fingerprint_path.unlink(missing_ok=True)
        with contextlib.ExitStack() as stack:
            events = stack.enter_context(
                contextlib.closing(EventWriter(folder / "events.jsonl", folder))
            )
            request = IngestRequest(
                source=source,
                path=str(_as_single_file(path, folder, cancellation, stack)) if path else None,
                file_name=path.name if path else None,
                for_evaluation=for_evaluation,
                root=str(base / Path(config.root).expanduser()) if config.root else None,
                image_size=config.image_size,
                split_seed=config.split_seed,
                on_bad_image=config.on_bad_image,
                on_duplicates=config.on_duplicates,
            )
            ingest(request, folder, events, cancellation)
        fingerprint_path.write_text(json.dumps(fingerprint))
    return _load_prepared(store_path, source)


def _settings_of(config: RecipeDataset) -> dict[str, Any]:
    """Return the settings of an ingestion; those of later versions only if they are set."""
    settings = config.model_dump()
    for name in ("on_bad_image", "on_duplicates"):
        if settings[name] == RecipeDataset.model_fields[name].default:
            del settings[name]
    return settings


def _read_fingerprint(path: Path) -> dict[str, Any]:
    """Return a stored fingerprint; the first version wrote ``asked`` instead of ``dataset``."""
    fields: dict[str, Any] = json.loads(path.read_text())
    return {"dataset" if name == "asked" else name: value for name, value in fields.items()}


def _source_of(store_path: Path) -> str:
    """Return the source of a store that an earlier run wrote: augmentation must not flip digits."""
    try:
        fingerprint = _read_fingerprint(store_path.parents[1] / _FINGERPRINT_FILE)
        return fingerprint["dataset"]["source"] or _UPLOAD
    except (OSError, ValueError, LookupError, TypeError):
        return _UPLOAD


def _load_prepared(path: Path, source: str) -> PreparedDataset:
    info = store.load_dataset(path).info
    unlabeled = info.splits.get("unlabeled")
    facts = DatasetFacts(
        source=source,
        num_classes=len(info.classes),
        in_channels=info.in_channels,
        image_size=info.image_size,
        num_train=info.splits["train"].count,
        num_unlabeled=unlabeled.count if unlabeled else 0,
        classes=info.classes,
    )
    measured = f"{info.splits['test'].count} test images"
    if test_source := _read_test_source(path.parents[1] / "events.jsonl"):
        measured += f" ({test_source})"
    return PreparedDataset(DatasetFile(path=str(path), sha256=sha256_of(path)), facts, measured)


def _read_test_source(events: Path) -> str:
    """Return what the newest ingestion in a folder read test from; empty if it is unknown."""
    try:
        lines = events.read_text(encoding="utf-8").splitlines()
        summaries = [summary for line in lines if (summary := json.loads(line).get("summary"))]
        return str(summaries[-1]["splits"]["test"]["source"])
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return ""


def _fingerprint(path: Path | None) -> str:
    """Digest of names, sizes and times, because reading a large data set would take minutes."""
    digest = hashlib.sha256()
    for file in _files(path) if path else ():
        facts = file.stat()
        digest.update(f"{file}\0{facts.st_size}\0{facts.st_mtime_ns}\n".encode(errors="replace"))
    return digest.hexdigest()


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    walked = os.walk(path, followlinks=False)
    return sorted(Path(folder, name) for folder, _, names in walked for name in names)


def _as_single_file(
    path: Path, folder: Path, cancellation: CancellationToken, stack: contextlib.ExitStack
) -> Path:
    """Return ``path``, or its folder as an archive that is deleted when ``stack`` closes."""
    if path.is_file():
        return path
    packed = folder / "folder.zip"
    stack.callback(packed.unlink, missing_ok=True)
    with (
        atomic_write(packed) as partial,
        zipfile.ZipFile(partial, "w", strict_timestamps=False) as out,
    ):
        for file in _files(path):
            cancellation.check_cancelled()
            out.write(file, file.relative_to(path))
    return packed


def write_arrays(dataset: Any, folder: Path) -> Path:
    """Write ``(images, labels)`` or a dict of arrays as an ``.npz`` file and return its path.

    Images are uint8, (N, H, W) or (N, H, W, C). The file is named by its content, so equal arrays
    are written once.
    """
    import numpy as np

    arrays_by_name = (
        dataset
        if isinstance(dataset, dict)
        else dict(zip(("images", "labels"), dataset, strict=True))
    )
    arrays = {name: np.asarray(values) for name, values in arrays_by_name.items()}
    digest = hashlib.sha256()
    for name, values in sorted(arrays.items()):
        digest.update(f"{name} {values.dtype} {values.shape}\n".encode())
        digest.update(np.ascontiguousarray(values).data.cast("B"))
    path = folder / f"arrays-{digest.hexdigest()[:16]}.npz"
    if not path.exists():
        with atomic_write(path) as partial, partial.open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)
    return path
