"""ONNX files on this machine: fetched once, named by their digest, the least used forgotten."""

import contextlib
import os
import shutil
import time
from pathlib import Path

from store import object_store
from store.settings import settings

_STALE_S = 3600
"""What is as old as this was left by a process that was killed: no prediction takes a minute."""
_MAX_ATTEMPTS = 3


def link_cached(key: str, sha256: str, size: int, target: Path) -> None:
    """Give the file of this digest the name ``target``, too: it stays there when it is forgotten.

    Raises:
        OSError: the object store does not answer, or has not, or not undamaged, what it had.
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
    raise object_store.ObjectStoreUnavailableError(f"{path} was forgotten as soon as it was there")


def predictions_dir() -> Path:
    """The folder in which predictions have folders of their own, on the disk of the files."""
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
    """Delete the least recently used until there is room; and what killed processes have left."""
    old = time.time() - _STALE_S
    files = []
    for path in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):  # another process forgets, too
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
