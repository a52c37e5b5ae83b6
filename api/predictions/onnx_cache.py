"""OnnxCache: a disk cache of ONNX files, named by digest; the least recently used are deleted."""

import contextlib
import os
import shutil
import time
from pathlib import Path

from store import object_store

_STALE_S = 3600
"""Age of leftovers of a killed process: no prediction takes a minute."""
_MAX_ATTEMPTS = 3


class OnnxCache:
    """ONNX files in ``work_dir/onnx``; several processes may share the folder.

    The folders of running predictions lie beside it, because hard links need the same disk.
    """

    def __init__(self, work_dir: Path, max_bytes: int) -> None:
        self._folder = work_dir / "onnx"
        self._predictions = work_dir / "predictions"
        self._max_bytes = max_bytes

    def predictions_dir(self) -> Path:
        """The parent of the folders of running predictions."""
        self._predictions.mkdir(parents=True, exist_ok=True)
        return self._predictions

    def link(self, key: str, sha256: str, size: int, target: Path) -> None:
        """Link the object ``key`` to ``target``, which survives a deletion from the cache.

        Raises:
            ObjectStoreUnavailableError: the object store does not respond, or its object is missing
                or damaged.
        """
        path = self._folder / sha256
        for _ in range(_MAX_ATTEMPTS):
            if _try_link(path, target):
                return
            self._folder.mkdir(parents=True, exist_ok=True)
            self._make_room(size)
            try:
                object_store.fetch([key], path, sha256)
            except object_store.CorruptBlobError as error:
                raise object_store.ObjectStoreUnavailableError(str(error)) from error
        raise object_store.ObjectStoreUnavailableError(
            f"other predictions deleted {path} from the cache {_MAX_ATTEMPTS} times"
        )

    def _make_room(self, size: int) -> None:
        """Delete leftovers, and the least recently used files until ``size`` bytes fit."""
        old = time.time() - _STALE_S
        files = []
        for path in self._folder.iterdir():
            with contextlib.suppress(FileNotFoundError):  # another process deletes files, too
                stat = path.stat()
                if path.suffix != ".part":
                    files.append((stat.st_mtime, stat.st_size, path))
                elif stat.st_mtime < old:
                    path.unlink()
        free_bytes = self._max_bytes - size - sum(file_size for _, file_size, _ in files)
        for _, file_size, path in sorted(files):
            if free_bytes >= 0:
                break
            path.unlink(missing_ok=True)
            free_bytes += file_size
        for leftover in self.predictions_dir().iterdir():
            with contextlib.suppress(FileNotFoundError):
                if leftover.stat().st_mtime < old:
                    shutil.rmtree(leftover, ignore_errors=True)


def _try_link(path: Path, target: Path) -> bool:
    try:
        os.utime(path)
        target.hardlink_to(path)
    except FileNotFoundError:
        return False
    return True
