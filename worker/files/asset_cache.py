"""What a run needs from the object store, in a content-addressed cache that the runs share."""

import contextlib
import hashlib
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from store import object_store
from store.settings import settings

MAX_AGE_S = 7 * 24 * 3600


def fetch_cached(key: str, sha256: str) -> Path:
    """The local file with this digest; fetched, and checked, if it is not there yet.

    Raises:
        blobs.CorruptBlobError: the stored bytes are not those that were put.
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


def _is_intact(path: Path, sha256: str) -> bool:
    """Whether the file is there with the bytes that its name promises: disks fail, too."""
    if not path.exists():
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == sha256


def ensure_free_space() -> bool:
    """Whether the work folder has room for a run; what is cached goes, the oldest first."""
    settings().work_dir.mkdir(parents=True, exist_ok=True)
    for _, path in sorted(_files_by_age()):
        if has_space_for(0):
            break
        path.unlink(missing_ok=True)  # an engine that reads it has it open
    return has_space_for(0)


def has_space_for(size_bytes: int) -> bool:
    """Whether so much more leaves the room that a run needs; nothing is cleared away for it."""
    return _free_bytes() >= settings().min_free_bytes + size_bytes


def _files_by_age() -> Iterator[tuple[float, Path]]:
    # What somebody is about to write there has a hidden name.
    for path in (settings().work_dir / "cache").glob("[!.]*"):
        with contextlib.suppress(FileNotFoundError):  # another slot clears away, too
            yield path.stat().st_mtime, path


def _free_bytes() -> int:
    return shutil.disk_usage(settings().work_dir).free


def _evict_old(folder: Path) -> None:
    oldest = time.time() - MAX_AGE_S
    for path in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):  # another slot forgets, too
            if path.stat().st_mtime < oldest:
                path.unlink()
