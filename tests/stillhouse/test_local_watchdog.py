"""What is left when the supervisor is killed: nothing."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from stillhouse.local.supervise.proc import process_start_time, process_tree
from stillhouse.local.supervise.process_registry import end_leftover_processes

SLEEP = "import time; time.sleep(60)"
OWNER = """
import sys, time
from pathlib import Path
from stillhouse.local.environment import kept_environment
from stillhouse.local.supervise.watchdog_client import Guard
from stillhouse.local.supervise.process_spec import Part
from stillhouse.local.supervise.process_registry import Roster
from stillhouse.local.supervise.supervisor import Supervisor
home = Path(sys.argv[1])
guard = Guard(home / "watchdog.log", kept_environment())
guard.open()
supervisor = Supervisor(home, Roster(home / "running", guard))
argv = (sys.executable, sys.argv[2])
part = Part("stubborn", argv, kept_environment(), grace_s=0.5,
            ready=lambda: "armed" in (home / "stubborn.log").read_text())
supervisor.await_ready(supervisor.start(part))
print(guard.pid, supervisor.running["stubborn"].pid, flush=True)
time.sleep(60)
"""


def until(true: Callable[[], object], within_s: float = 20.0) -> None:
    deadline = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline, f"still not so after {within_s} s"
        time.sleep(0.02)


def _owner(home: Path, stubborn: Path) -> tuple[subprocess.Popen[str], int, dict[int, str]]:
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(home), str(stubborn)], stdout=subprocess.PIPE, text=True
    )
    assert owner.stdout
    watchdog, part = (int(word) for word in owner.stdout.readline().split())
    return owner, watchdog, process_tree([owner.pid, part, watchdog])


def _kill(owner: subprocess.Popen[str]) -> None:
    owner.kill()
    owner.wait()
    assert owner.stdout
    owner.stdout.close()


def test_the_supervisors_own_death_leaves_nobody(tmp_path: Path, stubborn: Path) -> None:
    owner, _, members = _owner(tmp_path, stubborn)
    assert len(members) == 4  # owner, watchdog, part and the part's child in another session
    _kill(owner)
    until(lambda: all(process_start_time(pid) != born for pid, born in members.items()))


def test_a_killed_watchdog_is_replaced_and_knows_everything(tmp_path: Path, stubborn: Path) -> None:
    owner, watchdog, members = _owner(tmp_path, stubborn)
    os.kill(watchdog, signal.SIGKILL)
    until(lambda: len(process_tree([owner.pid])) == 4)
    time.sleep(0.3)  # the new one has yet to read what it is told
    _kill(owner)
    until(lambda: all(process_start_time(pid) != born for pid, born in members.items()))


def test_what_both_deaths_left_is_ended_by_the_next_owner(tmp_path: Path, stubborn: Path) -> None:
    owner, watchdog, members = _owner(tmp_path, stubborn)
    os.kill(owner.pid, signal.SIGSTOP)
    os.kill(watchdog, signal.SIGKILL)
    _kill(owner)
    # The watchdog is nobody's child any more: it is gone when the system has noticed.
    until(lambda: process_start_time(watchdog) != members[watchdog])
    left = {pid: born for pid, born in members.items() if process_start_time(pid) == born}
    assert len(left) == 2
    assert end_leftover_processes(tmp_path / "running") == 1
    assert all(process_start_time(pid) != born for pid, born in left.items())


def test_the_roster_never_ends_a_stranger_with_the_same_number(tmp_path: Path) -> None:
    stranger = subprocess.Popen([sys.executable, "-c", SLEEP], start_new_session=True)
    (tmp_path / "running").write_text(f"{stranger.pid} 0 15 1.0 some-other-birth\nnonsense\n")
    assert end_leftover_processes(tmp_path / "running") == 0
    assert stranger.poll() is None
    stranger.kill()
    stranger.wait()
