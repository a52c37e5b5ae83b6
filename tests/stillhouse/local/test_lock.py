"""The lock of a data folder: who has it, and how long a second process waits."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stillhouse.local.errors import DataDirInUseError
from stillhouse.local.supervise.lock import DataDirLock

# Keeps the lock until its standard input ends.
OWNER_PROGRAM = """
import sys
from pathlib import Path
from stillhouse.local.supervise.lock import DataDirLock
lock = DataDirLock(Path(sys.argv[1]))
lock.acquire()
lock.update_owner_info(url="http://127.0.0.1:8123")
if "stopping" in sys.argv:
    lock.update_owner_info(stopping=True)
print("locked", flush=True)
sys.stdin.read()
"""

StartOwner = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start_owner(tmp_path: Path) -> Iterator[StartOwner]:
    owners: list[subprocess.Popen[str]] = []

    def start(*arguments: str) -> subprocess.Popen[str]:
        owner = subprocess.Popen(
            [sys.executable, "-c", OWNER_PROGRAM, str(tmp_path / "lock"), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        owners.append(owner)
        assert owner.stdout
        assert owner.stdout.readline() == "locked\n"
        return owner

    yield start
    for owner in owners:
        owner.communicate()


def test_running_owner_is_named(tmp_path: Path, start_owner: StartOwner) -> None:
    owner = start_owner()
    lock = DataDirLock(tmp_path / "lock", running_owner_wait_s=0.2)
    with pytest.raises(DataDirInUseError) as caught:
        lock.acquire()
    message = str(caught.value)
    assert f"{tmp_path} is in use by process {owner.pid}, started 20" in message
    assert "serving http://127.0.0.1:8123. Stop that process, or choose" in message


def test_lock_waits_for_a_stopping_owner(tmp_path: Path, start_owner: StartOwner) -> None:
    owner = start_owner("stopping")
    messages: list[str] = []

    def end_owner(message: str) -> None:
        messages.append(message)
        assert owner.stdin
        owner.stdin.close()

    lock = DataDirLock(tmp_path / "lock")
    lock.acquire(on_message=end_owner)
    owner.stdin = None
    assert json.loads((tmp_path / "lock").read_text())["pid"] == os.getpid()
    assert messages == [f"waiting for the previous owner of {tmp_path} to finish"]
    lock.release()


def test_owner_that_does_not_stop_is_named_after_the_wait(
    tmp_path: Path, start_owner: StartOwner
) -> None:
    owner = start_owner("stopping")
    lock = DataDirLock(tmp_path / "lock", stopping_owner_wait_s=0.5)
    messages: list[str] = []
    with pytest.raises(DataDirInUseError, match=f"process {owner.pid}"):
        lock.acquire(on_message=messages.append)
    assert messages == [f"waiting for the previous owner of {tmp_path} to finish"]


def test_inherited_descriptor_keeps_the_lock_of_a_dead_owner(tmp_path: Path) -> None:
    """The watchdog relies on it."""
    owner = (
        "import subprocess, sys; from pathlib import Path\n"
        "from stillhouse.local.supervise.lock import DataDirLock\n"
        "lock = DataDirLock(Path(sys.argv[1])); lock.acquire()\n"
        "heir = subprocess.Popen(['cat'], stdout=subprocess.DEVNULL, pass_fds=[lock.descriptor])\n"
        "print(heir.pid, flush=True); sys.stdin.readline()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", owner, str(tmp_path / "lock")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin
    assert process.stdout
    assert process.stdout.readline()
    process.kill()
    process.wait()
    with pytest.raises(DataDirInUseError):
        DataDirLock(tmp_path / "lock", stopping_owner_wait_s=0.2).acquire()
    process.stdin.close()  # `cat` reads the same pipe, and ends with it
    lock = DataDirLock(tmp_path / "lock")
    lock.acquire()
    lock.release()
    process.stdout.close()


def test_lock_can_be_released_twice(tmp_path: Path) -> None:
    lock = DataDirLock(tmp_path / "lock")
    lock.acquire()
    assert lock.descriptor >= 0
    lock.release()
    lock.release()
    assert lock.descriptor == -1
