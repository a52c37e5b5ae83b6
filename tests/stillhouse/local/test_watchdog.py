"""No process is left when the supervisor is killed."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from stillhouse.local.supervise.proc import process_tree
from stillhouse.local.supervise.process_registry import end_leftover_processes
from tests.helpers import wait_until
from tests.stillhouse.local.helpers import running_processes

SLEEP = "import time; time.sleep(600)"
OWNER_PROGRAM = """
import sys, time
from pathlib import Path
from stillhouse.local.environment import child_environment
from stillhouse.local.supervise.process_registry import ProcessRegistry
from stillhouse.local.supervise.process_spec import ProcessSpec
from stillhouse.local.supervise.supervisor import Supervisor
from stillhouse.local.supervise.watchdog import Watchdog
home = Path(sys.argv[1])
watchdog = Watchdog(home / "watchdog.log", child_environment())
watchdog.open()
supervisor = Supervisor(home, ProcessRegistry(home / "running", watchdog))
argv = (sys.executable, sys.argv[2])
spec = ProcessSpec("stubborn", argv, child_environment(), grace_s=0.5,
                   is_ready=lambda: "armed" in (home / "stubborn.log").read_text())
supervisor.await_ready(supervisor.start(spec))
print(watchdog.pid, supervisor.processes["stubborn"].pid, flush=True)
time.sleep(600)
"""


def _start_owner(home: Path, program: Path) -> tuple[subprocess.Popen[str], int, dict[int, str]]:
    """Start an owner; return it, the watchdog's id and the identities of all its processes."""
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER_PROGRAM, str(home), str(program)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert owner.stdout
    watchdog, process = (int(word) for word in owner.stdout.readline().split())
    return owner, watchdog, process_tree([owner.pid, process, watchdog])


def _kill(owner: subprocess.Popen[str]) -> None:
    owner.kill()
    owner.wait()
    assert owner.stdout
    owner.stdout.close()


def _ignores_sigterm(pid: int) -> bool:
    """Whether a watchdog has started: it ignores SIGTERM from its first line on."""
    status = Path(f"/proc/{pid}/status").read_text()
    mask = next(line.split()[1] for line in status.splitlines() if line.startswith("SigIgn"))
    return bool(int(mask, 16) >> (signal.SIGTERM - 1) & 1)


def test_killed_supervisor_leaves_no_process(tmp_path: Path, stubborn_program: Path) -> None:
    owner, _, members = _start_owner(tmp_path, stubborn_program)
    assert len(members) == 4  # owner, watchdog, process and its child in another session
    _kill(owner)
    wait_until(lambda: not running_processes(members), 60, "all processes have ended")


def test_killed_watchdog_is_replaced_and_gets_every_target(
    tmp_path: Path, stubborn_program: Path
) -> None:
    owner, watchdog, members = _start_owner(tmp_path, stubborn_program)
    os.kill(watchdog, signal.SIGKILL)
    wait_until(lambda: len(process_tree([owner.pid])) == 4, 60, "a new watchdog runs")
    (successor,) = set(process_tree([owner.pid])) - set(members)
    wait_until(lambda: _ignores_sigterm(successor), 60, "the new watchdog has its program")
    _kill(owner)
    wait_until(lambda: not running_processes(members), 60, "all processes have ended")


def test_next_owner_ends_what_killed_supervisor_and_watchdog_left(
    tmp_path: Path, stubborn_program: Path
) -> None:
    owner, watchdog, members = _start_owner(tmp_path, stubborn_program)
    os.kill(owner.pid, signal.SIGSTOP)
    os.kill(watchdog, signal.SIGKILL)
    _kill(owner)
    # The watchdog's parent has ended, so another process reaps it.
    wait_until(lambda: watchdog not in running_processes(members), 60, "the watchdog has ended")
    assert len(running_processes(members)) == 2
    assert end_leftover_processes(tmp_path / "running") == 1
    assert not running_processes(members)


def test_foreign_process_with_a_registered_id_is_not_ended(tmp_path: Path) -> None:
    foreign = subprocess.Popen([sys.executable, "-c", SLEEP], start_new_session=True)
    (tmp_path / "running").write_text(f"{foreign.pid} 0 15 1.0 other-identity\nnonsense\n")
    assert end_leftover_processes(tmp_path / "running") == 0
    assert foreign.poll() is None
    foreign.kill()
    foreign.wait()
