"""Where Postgres's files lie: in the data folder, or lent to a user who cannot get in there."""

from __future__ import annotations

import fcntl
import os
import shutil
from pathlib import Path

from stillhouse.local.data_dir import DataDir, write_private
from stillhouse.local.errors import DataDirError


class PostgresDataDir:
    """The cluster's folder. Between two runs it is always `DIR/postgres`.

    For another user it is copied to the system's temporary folder and back at the end, because
    making the path above it passable would open other people's folders. `DIR/postgres-away` says
    that the copy is the true one, so a crash loses nothing.
    """

    def __init__(self, data_dir: DataDir) -> None:
        self._data_dir = data_dir
        self._permanent_path = data_dir.postgres
        self._marker = data_dir.postgres_moved_marker
        self._lock_descriptor = -1
        self.path = self._permanent_path

    def prepare(self, user: int | None) -> None:
        """Put the files where `user` (None: ourselves) can work with them."""
        if user is None:
            self.bring_back()
            return
        self.path = self._data_dir.scratch() / "postgres"
        self._lock_scratch()
        if self._marker.exists():
            away = Path(self._marker.read_text().strip())
            self._check_away(away)
            if away == self.path and _owner(away) == user:
                return
            self.bring_back()
            self.path = self._data_dir.scratch() / "postgres"
        if self._permanent_path.exists():
            _copy(self._permanent_path, self.path, user)
        elif self.path.exists():
            shutil.rmtree(self.path)
        self._mark()

    def bring_back(self) -> None:
        """Copy the files back into the data folder, if they are away. Postgres does not run."""
        self.path = self._permanent_path
        if not self._marker.exists():
            return
        away = Path(self._marker.read_text().strip())
        self._check_away(away)
        if away.exists():
            _copy(away, self._permanent_path, os.geteuid())
        self._marker.unlink()
        shutil.rmtree(away, ignore_errors=True)
        if self._lock_descriptor >= 0:
            os.close(self._lock_descriptor)
            self._lock_descriptor = -1

    def _mark(self) -> None:
        write_private(self._marker, f"{self.path}\n")

    def _check_away(self, away: Path) -> None:
        if not away.exists() and self._permanent_path.exists():
            raise DataDirError(
                f"Postgres's files were in {away} and are gone; {self._permanent_path} is "
                "the copy from "
                f"the last orderly stop. Put them back, or delete {self._marker} to use the copy."
            )

    def _lock_scratch(self) -> None:
        # systemd-tmpfiles leaves a folder alone on which somebody holds a lock.
        if self._lock_descriptor < 0:
            self._lock_descriptor = os.open(self._data_dir.scratch(), os.O_RDONLY)
            fcntl.flock(self._lock_descriptor, fcntl.LOCK_SH)


def _owner(path: Path) -> int | None:
    return path.stat().st_uid if path.exists() else None


def _copy(source: Path, target: Path, user: int) -> None:
    """Replace `target` by a copy of `source` that belongs to `user`; never half of one."""
    fresh = target.with_name(f"{target.name}.copy")
    old = target.with_name(f"{target.name}.old")
    for left in (fresh, old):
        if left.exists():
            shutil.rmtree(left)
    shutil.copytree(source, fresh, symlinks=True)
    for path in (fresh, *fresh.rglob("*")):
        os.chown(path, user, user, follow_symlinks=False)
        _to_disk(path)
    if target.exists():
        target.rename(old)
    fresh.rename(target)
    if old.exists():
        shutil.rmtree(old)


def _to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
