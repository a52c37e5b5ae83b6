"""The data folder: what lies where, its layout version, its secrets.

lock  version  api-key  secret-key  postgres-password  running  postgres/  valkey/  objects/  work/
logs/  run/ (sockets, unless the path is too long for them)
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from stillhouse.local.errors import DataDirError

LAYOUT = 1
# From a layout to the next one: `UPGRADES[1]` would turn layout 1 into layout 2.
UPGRADES: Mapping[int, Callable[[Path], None]] = {}
# A socket's address holds 104 bytes on macOS and 108 on Linux; the longest name in it needs 20.
MAX_SOCKET_DIR_BYTES = 80


def default_data_dir() -> Path:
    """`$XDG_DATA_HOME/stillhouse`, else `~/.local/share/stillhouse`."""
    base = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(base) / "stillhouse"


class DataDir:
    """Paths inside one data folder."""

    def __init__(self, root: Path) -> None:
        self.root = root.expanduser().absolute()
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
        """Make the folder if there is none (only for us), and check that it is ours to use."""
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            owner = self.root.stat().st_uid
            self.logs.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise DataDirError(
                f"The data folder {self.root} cannot be used: {error.strerror}. "
                "Choose another one with --data-dir."
            ) from None
        for path in (self.version, self.postgres):
            if path.exists():
                owner = path.stat().st_uid
                if owner != os.geteuid():
                    raise DataDirError(
                        f"{path} belongs to user {owner} and you are user {os.geteuid()}. Run as "
                        "its owner, or choose another folder with --data-dir."
                    )

    def prepare(self) -> None:
        """Check the layout, upgrade an older one, make the folders. The lock is held."""
        self._check_version()
        for path in (self.valkey, self.objects, self.work):
            path.mkdir(mode=0o700, exist_ok=True)

    def secret(self, name: str, make: Callable[[], str] = lambda: secrets.token_hex(32)) -> str:
        """The secret kept in the file `name` (mode 0600), made on first use."""
        path = self.root / name
        with suppress(FileNotFoundError):
            return path.read_text().strip()
        value = make()
        write_private(path, f"{value}\n")
        return value

    def scratch(self) -> Path:
        """A folder that others may enter but not list, in the system's temporary folder."""
        path = self._scratch_path()
        with suppress(FileExistsError):
            path.mkdir(mode=0o711)
            # mkdir's mode is cut by the umask.
            path.chmod(0o711)
        if not _is_ours(path):
            raise DataDirError(f"{path} is someone else's; remove it, or set TMPDIR elsewhere.")
        return path

    def remove_scratch(self) -> None:
        """Delete the folder outside, unless Postgres's files are still in it."""
        path = self._scratch_path()
        if path.exists() and _is_ours(path) and not self.postgres_moved_marker.exists():
            shutil.rmtree(path, ignore_errors=True)

    def _scratch_path(self) -> Path:
        # Always the same for one data folder, so a crash leaves no second one.
        name = f"stillhouse-{os.geteuid()}-{hashlib.sha256(bytes(self.root)).hexdigest()[:12]}"
        base = Path(tempfile.gettempdir())
        if len(bytes(base)) + len(name) + 5 > MAX_SOCKET_DIR_BYTES:
            base = Path("/tmp")  # noqa: S108 - what is made there is checked to be ours
        return base / name

    def sockets(self) -> Path:
        """The folder for sockets: inside the data folder where their addresses fit."""
        path = self.root / "run"
        if len(bytes(path)) > MAX_SOCKET_DIR_BYTES:
            path = self.scratch() / "run"
        path.mkdir(mode=0o700, exist_ok=True)
        for left in path.iterdir():
            left.unlink()
        return path

    def _check_version(self) -> None:
        try:
            version = int(self.version.read_text())
        except FileNotFoundError:
            if self.postgres.exists():
                raise DataDirError(
                    f"{self.root} holds a `postgres` folder but no `version` file, so it is no "
                    "data folder of Stillhouse. Choose another one with --data-dir."
                ) from None
            version = LAYOUT
            write_private(self.version, f"{LAYOUT}\n")
        except ValueError:
            raise DataDirError(f"{self.version} holds no number; it should say {LAYOUT}.") from None
        if version > LAYOUT:
            raise DataDirError(
                f"{self.root} was written by a newer Stillhouse (layout {version}, this one knows "
                f"{LAYOUT}). Use the newer version, or choose another folder with --data-dir."
            )
        for layout in range(version, LAYOUT):
            UPGRADES[layout](self.root)
            write_private(self.version, f"{layout + 1}\n")


def _is_ours(path: Path) -> bool:
    status = path.lstat()
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid()


def write_private(path: Path, text: str) -> None:
    """Write a whole file that only its owner can read; a crash leaves the old one or the new."""
    temporary = path.with_name(f"{path.name}.new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
