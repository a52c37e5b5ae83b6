"""`DataDir`: the data folder's files, its layout version and its secrets.

lock  version  api-key  secret-key  postgres-password  running  postgres/  valkey/  objects/  work/
logs/  run/ (sockets, unless their paths would be too long)
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import secrets
import shutil
import stat
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import platformdirs

from stillhouse.local.errors import DataDirError

Upgrades = Mapping[int, Callable[[Path], None]]
LAYOUT = 1
# One function per layout: `UPGRADES[1]` would turn layout 1 into layout 2.
UPGRADES: Upgrades = {}
FULL_DISK = (errno.ENOSPC, errno.EDQUOT)
# A socket's address holds 104 bytes on macOS and 108 on Linux; the longest file name needs 20.
MAX_SOCKET_DIR_BYTES = 80
# Postgres and libpq read a comma as the end of a folder and a quote as the start of a name.
SOCKET_DIR = re.compile(rb"[A-Za-z0-9/ ._+%@=~-]+")


def default_data_dir() -> Path:
    """Return `stillhouse` in the user's data folder.

    On Linux `~/.local/share/stillhouse`, on macOS `~/Library/Application Support/stillhouse`.
    """
    return platformdirs.user_data_path("stillhouse", appauthor=False)


class DataDir:
    """Paths inside one data folder.

    Args:
        root: the folder; `~` is expanded.
        layout: the layout version of this code.
        upgrades: one function per older layout, which turns it into the next one.

    Raises DataDirError if `~` or the folder's name cannot be read.
    """

    def __init__(self, root: Path, layout: int = LAYOUT, upgrades: Upgrades = UPGRADES) -> None:
        self.root = _absolute(root)
        self._layout = layout
        self._upgrades = upgrades
        self.lock = self.root / "lock"
        self.version = self.root / "version"
        self.api_key = self.root / "api-key"
        self.process_registry = self.root / "running"
        self.postgres = self.root / "postgres"
        self.postgres_moved_marker = self.root / "postgres-away"
        self.valkey = self.root / "valkey"
        self.objects = self.root / "objects"
        self.work = self.root / "work"
        self.logs = self.root / "logs"

    def create(self) -> None:
        """Create the folder with mode 0700 unless it exists, and check that the user owns it.

        Raises DataDirError.
        """
        try:
            make_private_folder(self.root)
            owner = self.root.stat().st_uid
            make_private_folder(self.logs)
            self._check_writable()
        except OSError as error:
            advice = "Free some space, or choose" if error.errno in FULL_DISK else "Choose"
            raise DataDirError(
                f"The data folder {self.root} cannot be used: {error.strerror}. "
                f"{advice} another one with --data-dir."
            ) from None
        for path in (self.version, self.postgres):
            if path.exists():
                owner = path.stat().st_uid
                if owner != os.geteuid():
                    raise DataDirError(
                        f"{path} belongs to user {owner} and you are user {os.geteuid()}. Run as "
                        "its owner, or choose another folder with --data-dir."
                    )

    def _check_writable(self) -> None:
        """Write and delete a file. Raises OSError."""
        probe = self.root / ".write-check"
        probe.write_bytes(b"stillhouse\n" * 400)
        probe.unlink()

    def prepare(self) -> None:
        """Check the layout, upgrade an older one, create the subfolders. The caller has the lock.

        Raises DataDirError.
        """
        self._check_version()
        for path in (self.valkey, self.objects, self.work):
            make_private_folder(path)

    def secret(self, name: str) -> str:
        """Return the secret in the file `name` (mode 0600); the first call creates it."""
        path = self.root / name
        with suppress(FileNotFoundError):
            return path.read_text(encoding="utf-8").strip()
        value = secrets.token_hex(32)
        write_private(path, f"{value}\n")
        return value

    def scratch(self) -> Path:
        """Create and return a folder in the system's temporary folder (mode 0711)."""
        path = self._scratch_path()
        with suppress(FileExistsError):
            path.mkdir(mode=0o711)
            # The umask removes bits from mkdir's mode.
            path.chmod(0o711)
        if not _is_current_users(path):
            raise DataDirError(f"{path} belongs to another user: remove it, or set TMPDIR.")
        return path

    def remove_scratch(self) -> None:
        """Delete the folder of `scratch`, unless Postgres's files are still in it."""
        path = self._scratch_path()
        if path.exists() and _is_current_users(path) and not self.postgres_moved_marker.exists():
            shutil.rmtree(path, ignore_errors=True)

    def _scratch_path(self) -> Path:
        # The name depends on the data folder alone, so that a restart finds it after a crash.
        name = f"stillhouse-{os.geteuid()}-{hashlib.sha256(bytes(self.root)).hexdigest()[:12]}"
        with suppress(FileNotFoundError):  # no temporary folder can be written
            path = Path(tempfile.gettempdir()) / name
            if _may_hold_sockets(path / "run"):
                return path
        return Path("/tmp") / name  # noqa: S108 - `scratch` checks the owner

    def sockets(self) -> Path:
        """Return the folder for sockets, emptied.

        It is inside the data folder if its path is short and every server can read it.
        """
        path = self.root / "run"
        if not _may_hold_sockets(path):
            path = self.scratch() / "run"
        make_private_folder(path)
        for leftover in path.iterdir():
            leftover.unlink()
        return path

    def _check_version(self) -> None:
        try:
            version = int(self.version.read_text())
        except FileNotFoundError:
            if self.postgres.exists():
                raise DataDirError(
                    f"{self.root} has a `postgres` folder but no `version` file, so it is no data "
                    "folder of Stillhouse. Choose another one with --data-dir."
                ) from None
            version = self._layout
            write_private(self.version, f"{version}\n")
        except ValueError:
            raise DataDirError(
                f"{self.version} holds no number; it should be {self._layout}."
            ) from None
        if version > self._layout:
            raise DataDirError(
                f"{self.root} was written by a newer Stillhouse (layout {version}, this one knows "
                f"{self._layout}). Use the newer version, or choose another folder with --data-dir."
            )
        for layout in range(version, self._layout):
            self._upgrades[layout](self.root)
            write_private(self.version, f"{layout + 1}\n")


def _absolute(root: Path) -> Path:
    try:
        path = root.expanduser().absolute()
    except RuntimeError:
        raise DataDirError(
            f"The data folder {root} has a ~, but you have no home folder: set HOME, or choose a "
            "folder with --data-dir."
        ) from None
    try:
        bytes(path).decode("utf-8")
    except UnicodeDecodeError:
        raise DataDirError(
            f"The name of the data folder {bytes(path)!r} is not UTF-8; choose another folder with "
            "--data-dir."
        ) from None
    return path


def _may_hold_sockets(path: Path) -> bool:
    return len(bytes(path)) <= MAX_SOCKET_DIR_BYTES and bool(SOCKET_DIR.fullmatch(bytes(path)))


def make_private_folder(path: Path) -> None:
    """Create a folder with mode 0700 in any umask; an existing one keeps its mode."""
    with suppress(FileExistsError):
        path.mkdir(parents=True)
        path.chmod(0o700)
    if not path.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))


def _is_current_users(path: Path) -> bool:
    status = path.lstat()
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid()


def write_private(path: Path, text: str, *, sync: bool = True) -> None:
    """Write a file atomically, readable by its owner alone (mode 0600).

    With `sync` it survives a power failure.
    """
    temporary = path.with_name(f"{path.name}.new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    # A path in the text gets its bytes on the disk, also where the locale is ASCII.
    with os.fdopen(descriptor, "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write(text)
        if sync:
            file.flush()
            os.fsync(file.fileno())
    temporary.replace(path)
