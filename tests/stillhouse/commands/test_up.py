"""The command `stillhouse up`: its output, its signals, and that no process is left."""

import os
import signal
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from tests.stillhouse.commands.up_process import Up, end_all
from tests.stillhouse.local.helpers import running_processes


@pytest.fixture
def ups() -> Iterator[list[Up]]:
    started: list[Up] = []
    yield started
    end_all(started)


def command_lines(members: dict[int, str]) -> list[str]:
    paths = (Path(f"/proc/{pid}/cmdline") for pid in members)
    return [path.read_bytes().replace(b"\0", b" ").decode() for path in paths if path.exists()]


def watchdog_of(members: dict[int, str]) -> int:
    """The process of the stack that got its program on standard input."""
    for pid in members:
        with suppress(OSError):  # a process may have ended since it was listed
            if Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[1:2] == [b"-"]:
                return pid
    raise AssertionError("the stack has no watchdog")


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads command lines in /proc")
def test_start_competitors_kill_and_restart(tmp_path: Path, ups: list[Up]) -> None:
    folder = tmp_path / "data"
    ups.append(first := Up(folder))
    url, members = _assert_complete(first)
    key = (folder / "api-key").read_text()
    _assert_competitors_refused(ups, first, url, tmp_path / "other")

    # A successor of a killed stack waits until its processes have ended, and has its data. The
    # watchdog ends them; it is stopped until the successor waits.
    watchdog = watchdog_of(members)
    os.kill(watchdog, signal.SIGSTOP)
    first.process.kill()
    ups.append(successor := Up(folder))
    successor.line("waiting for the previous owner")
    os.kill(watchdog, signal.SIGCONT)
    url = successor.line("ready")
    assert running_processes(members) == []
    assert (folder / "api-key").read_text() == key
    members = successor.members()
    successor.process.terminate()
    assert successor.end().endswith("stopped\n")
    assert successor.process.returncode == 0
    assert running_processes(members) == []


def _assert_complete(up: Up) -> tuple[str, dict[int, str]]:
    url = up.line("ready")
    assert httpx.get(f"{url}/readyz", trust_env=False).status_code == 200
    key = (up.folder / "api-key").read_text()
    assert key == f"{key.strip()}\n"
    assert stat.S_IMODE((up.folder / "api-key").stat().st_mode) == 0o600
    assert up.line("dashboard").startswith(f"{url}/")
    members = up.members()
    lines = command_lines(members)
    for words in (
        "celery -A worker.celery_app worker",
        "-Q prepare",
        "-m worker.maintenance",
        "-m api",
    ):
        assert any(words in line for line in lines), words
    return url, members


def _assert_competitors_refused(ups: list[Up], first: Up, url: str, other: Path) -> None:
    """Start one stack on the same port and one on the same folder: each prints one sentence."""
    ups.append(elsewhere := Up(other, "--port", url.rpartition(":")[2]))
    ups.append(second := Up(first.folder))
    assert "is taken by another program" in elsewhere.end()
    assert elsewhere.process.returncode == 1
    assert not (other / "postgres").exists()
    assert f"in use by process {first.process.pid}, started" in second.end()
    assert second.process.returncode == 1


@pytest.mark.parametrize(
    "moment", ["creating the database", "preparing the tables", "starting the API"]
)
def test_ctrl_c_during_the_start_leaves_no_process(
    tmp_path: Path, ups: list[Up], moment: str
) -> None:
    ups.append(up := Up(tmp_path / "data"))
    up.line(moment)
    members = up.members()
    os.killpg(up.process.pid, signal.SIGINT)
    output = up.end()
    assert "stillhouse:" not in output
    # On a busy machine the stack may be ready before the signal, and then the exit status is 0.
    ready = any(line.strip().startswith("ready") for line in output.splitlines())
    assert up.process.returncode == (0 if ready else 128 + signal.SIGINT)
    assert running_processes(members) == []
    assert (tmp_path / "data" / "running").read_text() == ""


def test_newer_folder_is_refused_in_one_line(tmp_path: Path, ups: list[Up]) -> None:
    (tmp_path / "version").write_text("99\n")
    ups.append(up := Up(tmp_path))
    output = up.end()
    assert up.process.returncode == 1
    assert output.startswith(f"stillhouse: {tmp_path} was written by a newer Stillhouse")
    assert output.count("\n") == 1
