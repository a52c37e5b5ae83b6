"""The supervisor and its watchdog, with small stand-ins for the parts."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stillhouse.local.environment import child_environment
from stillhouse.local.errors import ProcessFailedError, StartCancelledError
from stillhouse.local.supervise import restart_policy, spawn
from stillhouse.local.supervise.proc import process_start_time, process_tree
from stillhouse.local.supervise.process_registry import ProcessRegistry
from stillhouse.local.supervise.process_spec import ProcessSpec, StopStage
from stillhouse.local.supervise.supervisor import Supervisor
from stillhouse.local.supervise.watchdog_client import WatchdogClient

SLEEP = "import time; time.sleep(60)"


def python(name: str, code: str, **more: object) -> ProcessSpec:
    return ProcessSpec(name, (sys.executable, "-c", code), child_environment(), **more)  # type: ignore[arg-type]


def until(true: Callable[[], object], within_s: float = 10.0) -> None:
    deadline = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline, f"still not so after {within_s} s"
        time.sleep(0.02)


@pytest.fixture
def failures() -> list[str]:
    return []


@pytest.fixture
def guard(tmp_path: Path) -> Iterator[WatchdogClient]:
    guard = WatchdogClient(tmp_path / "watchdog.log", child_environment())
    guard.open()
    yield guard
    guard.close()


@pytest.fixture
def supervisor(tmp_path: Path, guard: WatchdogClient, failures: list[str]) -> Iterator[Supervisor]:
    roster = ProcessRegistry(tmp_path / "running", guard)
    supervisor = Supervisor(tmp_path, roster, on_failure=failures.append)
    yield supervisor
    supervisor.force_stop()
    supervisor.stop()


def test_a_killed_part_is_started_again(supervisor: Supervisor) -> None:
    running = supervisor.start(python("sleeper", SLEEP))
    supervisor.await_ready(running)
    first = running.pid
    os.kill(first, signal.SIGKILL)
    until(lambda: running.pid not in (0, first))
    assert running.starts == 2
    assert process_start_time(first) is None
    assert supervisor.failure is None


def test_ten_deaths_in_a_minute_are_the_end(
    supervisor: Supervisor, failures: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restart_policy, "LONGEST_WAIT_S", 0.01)
    part = ProcessSpec(
        "broken", ("/bin/sh", "-c", "echo no such luck; exit 7"), child_environment()
    )
    running = supervisor.start(part)
    until(lambda: failures)
    assert running.starts == 10
    assert "broken died 10 times in 60 s (the last time it ended with exit status 7)" in failures[0]
    assert "no such luck" in failures[0]
    with pytest.raises(ProcessFailedError, match="giving up"):
        supervisor.await_ready(running)


def test_a_program_that_does_not_exist_is_a_failure_with_its_name(
    supervisor: Supervisor, failures: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restart_policy, "LONGEST_WAIT_S", 0.01)
    supervisor.start(ProcessSpec("ghost", ("/nonexistent/program",), child_environment()))
    until(lambda: failures)
    assert "/nonexistent/program" in failures[0]


def test_waits_grow_and_old_deaths_are_forgotten() -> None:
    now = 0.0
    deaths = restart_policy.RestartPolicy(clock=lambda: now)
    waits = [deaths.delay_after_death_s() for _ in range(9)]
    assert waits[:5] == [0.1, 0.2, 0.4, 0.8, 1.6]
    assert set(waits[5:]) == {2.0}
    now = 61.0
    assert deaths.delay_after_death_s() == 0.1
    now = 61.5
    assert [deaths.delay_after_death_s() for _ in range(9)][-1] is None


def test_apps_end_before_the_broker_and_the_broker_before_the_database(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    report = tmp_path / "order"
    for name, stage, number in (
        ("database", StopStage.DATABASE, signal.SIGINT),
        ("broker", StopStage.BROKER, signal.SIGTERM),
        ("app", StopStage.APPS, signal.SIGTERM),
    ):
        code = (
            f"import signal, sys, time, os\n"
            f"def end(*_):\n"
            f"    time.sleep(0.1); open({str(report)!r}, 'a').write('{name} '); sys.exit()\n"
            f"signal.signal({int(number)}, end); print('armed', flush=True); time.sleep(60)"
        )
        log = tmp_path / f"{name}.log"
        supervisor.await_ready(
            supervisor.start(
                python(
                    name,
                    code,
                    stage=stage,
                    stop_signal=number,
                    ready=lambda log=log: "armed" in log.read_text(),
                )
            )
        )
    supervisor.stop()
    assert report.read_text().split() == ["app", "broker", "database"]


def _start_stubborn(supervisor: Supervisor, stubborn: Path, grace_s: float) -> dict[int, str]:
    log = stubborn.with_name("stubborn.log")
    part = ProcessSpec(
        "stubborn",
        (sys.executable, str(stubborn)),
        child_environment(),
        grace_s=grace_s,
        is_ready=lambda: "armed" in log.read_text(),
    )
    running = supervisor.start(part)
    supervisor.await_ready(running)
    members = process_tree([running.pid])
    assert len(members) == 2
    return members


def test_who_ignores_the_request_is_killed_with_all_descendants(
    supervisor: Supervisor, stubborn: Path
) -> None:
    members = _start_stubborn(supervisor, stubborn, grace_s=0.5)
    began = time.monotonic()
    supervisor.stop()
    assert 0.5 <= time.monotonic() - began < 3
    assert [pid for pid, born in members.items() if process_start_time(pid) == born] == []


def test_in_a_hurry_nobody_is_waited_for(supervisor: Supervisor, stubborn: Path) -> None:
    members = _start_stubborn(supervisor, stubborn, grace_s=30)
    supervisor.force_stop()
    began = time.monotonic()
    supervisor.stop()
    assert time.monotonic() - began < 3
    assert [pid for pid, born in members.items() if process_start_time(pid) == born] == []


def test_a_stop_while_waiting_or_running_once_is_heard(supervisor: Supervisor) -> None:
    running = supervisor.start(python("never", SLEEP, ready=lambda: False))
    until(lambda: running.pid)
    supervisor.stop()
    with pytest.raises(StartCancelledError):
        supervisor.await_ready(running)
    with pytest.raises(StartCancelledError):
        supervisor.run(python("late", "print(1)"))
    assert process_start_time(running.pid) is None


def test_running_once_gives_status_and_output(supervisor: Supervisor, tmp_path: Path) -> None:
    code = "import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)"
    done = supervisor.run(python("once", code))
    assert (done.returncode, done.stdout, done.stderr) == (3, "out\n", "err\n")
    assert (tmp_path / "once.log").read_text() == "err\n"


def test_behind_a_closed_gate_nothing_runs(tmp_path: Path) -> None:
    """A supervisor killed right after it started a process leaves one that goes by itself."""
    made = tmp_path / "made"
    part = ProcessSpec("gated", ("/bin/sh", "-c", f"echo x > {made}"), child_environment())
    process = spawn.spawn(part, subprocess.DEVNULL, subprocess.DEVNULL)
    time.sleep(0.2)
    assert process.poll() is None
    assert process.stdin
    process.stdin.close()
    assert process.wait(5) == 1
    assert not made.exists()
