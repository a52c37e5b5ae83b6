"""Disk cache of ONNX files, named by their digest; the least recently used are deleted."""

import contextlib
import os
import shutil
import time
from pathlib import Path

from store import object_store
from store.settings import settings

_STALE_S = 3600
"""Age of leftovers of a killed process: no prediction takes a minute."""
_MAX_ATTEMPTS = 3


def link_cached(key: str, sha256: str, size: int, target: Path) -> None:
    """Link the file of this digest to ``target``, which survives a deletion from the cache.

    Raises:
        ObjectStoreUnavailableError: the object store does not respond, or its object is missing or
            damaged.
    """
    folder = settings().work_dir / "onnx"
    path = folder / sha256
    for _ in range(_MAX_ATTEMPTS):
        if _try_link(path, target):
            return
        folder.mkdir(parents=True, exist_ok=True)
        _make_room(folder, size)
        try:
            object_store.fetch([key], path, sha256)
        except object_store.CorruptBlobError as error:
            raise object_store.ObjectStoreUnavailableError(str(error)) from error
    raise object_store.ObjectStoreUnavailableError(
        f"other predictions deleted {path} from the cache {_MAX_ATTEMPTS} times"
    )


def predictions_dir() -> Path:
    """The parent of the temporary folders of predictions, on the same disk as the cache."""
    folder = settings().work_dir / "predictions"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _try_link(path: Path, target: Path) -> bool:
    try:
        os.utime(path)
        target.hardlink_to(path)
    except FileNotFoundError:
        return False
    return True


def _make_room(folder: Path, size: int) -> None:
    """Delete leftovers, and the least recently used files until ``size`` bytes fit."""
    old = time.time() - _STALE_S
    files = []
    for path in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):  # another process deletes files, too
            stat = path.stat()
            if path.suffix != ".part":
                files.append((stat.st_mtime, stat.st_size, path))
            elif stat.st_mtime < old:
                path.unlink()
    free_bytes = settings().onnx_cache_bytes - size - sum(file_size for _, file_size, _ in files)
    for _, file_size, path in sorted(files):
        if free_bytes >= 0:
            break
        path.unlink(missing_ok=True)
        free_bytes += file_size
    for leftover in predictions_dir().iterdir():
        with contextlib.suppress(FileNotFoundError):
            if leftover.stat().st_mtime < old:
                shutil.rmtree(leftover, ignore_errors=True)
