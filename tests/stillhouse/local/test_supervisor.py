"""The supervisor, with small programs in place of the servers."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import psutil
import pytest

from stillhouse.local.environment import child_environment
from stillhouse.local.errors import ProcessFailedError, StartCancelledError
from stillhouse.local.supervise.proc import process_identity, process_tree
from stillhouse.local.supervise.process_registry import ProcessRegistry
from stillhouse.local.supervise.process_spec import ProcessSpec, StopStage
from stillhouse.local.supervise.spawn import spawn
from stillhouse.local.supervise.supervisor import RestartPolicy, Supervisor
from stillhouse.local.supervise.watchdog import Watchdog
from tests.helpers import wait_until
from tests.stillhouse.local.helpers import running_processes

SLEEP = "import time; time.sleep(600)"


def python(name: str, code: str, **options: object) -> ProcessSpec:
    command = (sys.executable, "-c", code)
    return ProcessSpec(name, command, child_environment(), **options)


@pytest.fixture
def failures() -> list[str]:
    return []


@pytest.fixture
def supervisor(tmp_path: Path, failures: list[str]) -> Iterator[Supervisor]:
    watchdog = Watchdog(tmp_path / "watchdog.log", child_environment())
    watchdog.open()
    supervisor = Supervisor(
        tmp_path,
        ProcessRegistry(tmp_path / "running", watchdog),
        on_failure=failures.append,
        # Exits count for a minute; without a clock, a slow machine takes no longer.
        restart_policy=partial(RestartPolicy, max_delay_s=0.01, clock=lambda: 0.0),
    )
    yield supervisor
    supervisor.force_stop()
    supervisor.stop()
    watchdog.close()


def test_killed_process_is_started_again(supervisor: Supervisor) -> None:
    running = supervisor.start(python("sleeper", SLEEP))
    supervisor.await_ready(running)
    first = running.pid
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: running.pid not in (0, first), 60, "the process is started again")
    assert running.starts == 2
    assert process_identity(first) is None
    assert supervisor.failure is None


def test_supervisor_gives_up_after_ten_exits_in_a_minute(
    supervisor: Supervisor, failures: list[str]
) -> None:
    spec = ProcessSpec(
        "broken", ("/bin/sh", "-c", "echo no such luck; exit 7"), child_environment()
    )
    running = supervisor.start(spec)
    wait_until(lambda: failures != [], 60, "the supervisor gives up")
    assert running.starts == 10
    assert "broken died 10 times in 60 s (the last time it ended with exit status 7)" in failures[0]
    assert "no such luck" in failures[0]
    with pytest.raises(ProcessFailedError, match="giving up"):
        supervisor.await_ready(running)


def test_missing_program_is_named_in_the_failure(
    supervisor: Supervisor, failures: list[str]
) -> None:
    supervisor.start(ProcessSpec("ghost", ("/nonexistent/program",), child_environment()))
    wait_until(lambda: failures != [], 60, "the supervisor gives up")
    assert "/nonexistent/program" in failures[0]


def test_restart_delays_grow_and_old_exits_do_not_count() -> None:
    now = 0.0
    policy = RestartPolicy(clock=lambda: now)
    delays = [policy.next_delay_s() for _ in range(9)]
    assert delays[:5] == [0.1, 0.2, 0.4, 0.8, 1.6]
    assert set(delays[5:]) == {2.0}
    now = 61.0
    assert policy.next_delay_s() == 0.1
    now = 61.5
    assert [policy.next_delay_s() for _ in range(9)][-1] is None


def test_apps_stop_before_the_broker_and_the_broker_before_the_database(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    order = tmp_path / "order"
    for name, stage, number in (
        ("database", StopStage.DATABASE, signal.SIGINT),
        ("broker", StopStage.BROKER, signal.SIGTERM),
        ("app", StopStage.APPS, signal.SIGTERM),
    ):
        code = (
            f"import signal, sys, time, os\n"
            f"def end(*_):\n"
            f"    time.sleep(0.1); open({str(order)!r}, 'a').write('{name} '); sys.exit()\n"
            f"signal.signal({int(number)}, end); print('armed', flush=True); time.sleep(600)"
        )
        log = tmp_path / f"{name}.log"
        supervisor.await_ready(
            supervisor.start(
                python(
                    name,
                    code,
                    stage=stage,
                    stop_signal=number,
                    is_ready=lambda log=log: "armed" in log.read_text(),
                )
            )
        )
    supervisor.stop()
    assert order.read_text().split() == ["app", "broker", "database"]


def _start_stubborn(supervisor: Supervisor, program: Path, grace_s: float) -> dict[int, str]:
    log = program.with_name("stubborn.log")
    spec = ProcessSpec(
        "stubborn",
        (sys.executable, str(program)),
        child_environment(),
        grace_s=grace_s,
        is_ready=lambda: "armed" in log.read_text(),
    )
    running = supervisor.start(spec)
    supervisor.await_ready(running)
    members = process_tree([running.pid])
    assert len(members) == 2
    return members


def test_process_that_ignores_the_signal_is_killed_with_all_descendants(
    supervisor: Supervisor, stubborn_program: Path
) -> None:
    members = _start_stubborn(supervisor, stubborn_program, grace_s=0.5)
    supervisor.stop()
    assert running_processes(members) == []


def test_force_stop_does_not_wait_for_the_grace_time(
    supervisor: Supervisor, stubborn_program: Path
) -> None:
    # Longer than pytest waits for a test.
    members = _start_stubborn(supervisor, stubborn_program, grace_s=3600)
    supervisor.force_stop()
    supervisor.stop()
    assert running_processes(members) == []


def test_stop_cancels_await_ready_and_run(supervisor: Supervisor) -> None:
    running = supervisor.start(python("never", SLEEP, is_ready=lambda: False))
    wait_until(lambda: running.pid != 0, 60, "the process runs")
    supervisor.stop()
    with pytest.raises(StartCancelledError):
        supervisor.await_ready(running)
    with pytest.raises(StartCancelledError):
        supervisor.run(python("late", "print(1)"))
    assert process_identity(running.pid) is None


def test_run_returns_exit_status_and_output(supervisor: Supervisor, tmp_path: Path) -> None:
    code = "import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)"
    done = supervisor.run(python("once", code))
    assert (done.returncode, done.stdout, done.stderr) == (3, "out\n", "err\n")
    assert (tmp_path / "once.log").read_text() == "err\n"


def test_run_ends_a_program_that_takes_too_long(supervisor: Supervisor) -> None:
    with pytest.raises(ProcessFailedError, match=r"slow did not end within 0\.3 s"):
        supervisor.run(python("slow", SLEEP, grace_s=1.0), timeout_s=0.3)


def test_program_does_not_start_before_the_gate_opens(tmp_path: Path) -> None:
    """So a process ends by itself if its supervisor is killed right after starting it."""
    output = tmp_path / "output"
    spec = ProcessSpec("gated", ("/bin/sh", "-c", f"echo x > {output}"), child_environment())
    process = spawn(spec, subprocess.DEVNULL, subprocess.DEVNULL)
    shell = psutil.Process(process.pid)
    wait_until(lambda: shell.status() == psutil.STATUS_SLEEPING, 60, "the shell waits for a line")
    assert process.poll() is None
    assert process.stdin
    process.stdin.close()
    assert process.wait(60) == 1
    assert not output.exists()
