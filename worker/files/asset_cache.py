"""The asset cache: data sets, models and students by SHA-256, shared by the runs of a machine."""

import contextlib
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from store import object_store
from store.settings import settings
from store.tables import Dataset, Model

MAX_AGE_S = 7 * 24 * 3600


def fetch_cached(key: str, sha256: str) -> Path:
    """The path of the local file with this digest, fetched and checked if the cache lacks it.

    Raises:
        CorruptBlobError: the stored bytes have another digest.
        FileNotFoundError: there is no such object.
    """
    folder = settings().work_dir / "cache"
    path = folder / sha256
    try:
        os.utime(path)
    except FileNotFoundError:
        folder.mkdir(parents=True, exist_ok=True)
        _evict_old(folder)
        object_store.fetch([key], path, sha256)
    return path


def fetch_asset(asset: Dataset | Model) -> str:
    """Path of a data set's or model's bytes in the cache.

    Raises FileNotFoundError for an asset without bytes.
    """
    if asset.object_key is None or asset.sha256 is None:
        raise FileNotFoundError(f"{asset.id} has no bytes in the object store")
    return str(fetch_cached(asset.object_key, asset.sha256))


def model_file_fields(model: Model) -> dict[str, Any]:
    """The fields of :class:`kdcore.protocol.requests.ModelFile`, with the weights in the cache."""
    return {
        "path": fetch_asset(model),
        "sha256": model.sha256,
        "architecture": model.architecture,
        "num_classes": model.num_classes,
        "in_channels": model.in_channels,
        "input_size": model.input_size,
        "normalization": model.normalization,
        "class_names": model.class_names,
        "normalization_declared": model.normalization_declared,
        "input_size_declared": model.input_size_declared,
        "reported_top1": model.reported_top1,
        "outputs": model.outputs,
    }


def ensure_free_space() -> bool:
    """Delete cached files, the oldest first, until a run has room. Returns whether it has."""
    settings().work_dir.mkdir(parents=True, exist_ok=True)
    for _, path in sorted(_files_by_age()):
        if has_space_for(0):
            break
        path.unlink(missing_ok=True)  # an engine that reads the file has it open
    return has_space_for(0)


def has_space_for(size_bytes: int) -> bool:
    """Whether ``size_bytes`` more leave the space that a run needs. Deletes nothing."""
    return _free_bytes() >= settings().min_free_bytes + size_bytes


def missing_bytes() -> int:
    """Bytes that must be freed before a run has room; 0 if it has, or if cached files can go."""
    settings().work_dir.mkdir(parents=True, exist_ok=True)
    missing = settings().min_free_bytes - _free_bytes()
    if missing > 0:
        for _, path in _files_by_age():
            with contextlib.suppress(FileNotFoundError):
                missing -= path.stat().st_size
    return max(0, missing)


def _files_by_age() -> Iterator[tuple[float, Path]]:
    # Files that are being written have hidden names.
    for path in (settings().work_dir / "cache").glob("[!.]*"):
        with contextlib.suppress(FileNotFoundError):  # another slot may delete it, too
            yield path.stat().st_mtime, path


def _free_bytes() -> int:
    return shutil.disk_usage(settings().work_dir).free


def _evict_old(folder: Path) -> None:
    oldest = time.time() - MAX_AGE_S
    for path in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):  # another slot may delete it, too
            if path.stat().st_mtime < oldest:
                path.unlink()
