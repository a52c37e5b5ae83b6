"""ONNX files on this machine: fetched once, named by their digest, the least used forgotten."""

import contextlib
import os
import shutil
import time
from pathlib import Path

from store import object_store
from store.settings import settings

_LEFT_S = 3600
"""What is as old as this was left by a process that was killed: no prediction takes a minute."""
_TRIES = 3


def link(key: str, sha256: str, size: int, target: Path) -> None:
    """Give the file of this digest the name ``target``, too: it stays there when it is forgotten.

    Raises:
        OSError: the object store does not answer, or has not, or not undamaged, what it had.
    """
    folder = settings().work_dir / "onnx"
    path = folder / sha256
    for _ in range(_TRIES):
        if _linked(path, target):
            return
        folder.mkdir(parents=True, exist_ok=True)
        _make_room(folder, size)
        try:
            object_store.fetch([key], path, sha256)
        except object_store.CorruptBlobError as error:
            raise object_store.StoreAwayError(str(error)) from error
    raise object_store.StoreAwayError(f"{path} was forgotten as soon as it was there")


def scratch() -> Path:
    """The folder in which predictions have folders of their own, on the disk of the files."""
    folder = settings().work_dir / "predictions"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _linked(path: Path, target: Path) -> bool:
    try:
        os.utime(path)
        target.hardlink_to(path)
    except FileNotFoundError:
        return False
    return True


def _make_room(folder: Path, size: int) -> None:
    """Delete the least recently used until there is room; and what killed processes have left."""
    old = time.time() - _LEFT_S
    kept = []
    for path in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):  # another process forgets, too
            facts = path.stat()
            if path.suffix != ".part":
                kept.append((facts.st_mtime, facts.st_size, path))
            elif facts.st_mtime < old:
                path.unlink()
    room = settings().onnx_cache_bytes - size - sum(each for _, each, _ in kept)
    for _, each, path in sorted(kept):
        if room >= 0:
            break
        path.unlink(missing_ok=True)
        room += each
    for left in scratch().iterdir():
        with contextlib.suppress(FileNotFoundError):
            if left.stat().st_mtime < old:
                shutil.rmtree(left, ignore_errors=True)
