"""The stack in the environments of users: names of folders, locales, full disks, signals.

`test_stack_…` start the whole stack and run with `make test-all`. A test that needs a right which
this user or container lacks, such as that to mount a file system, is skipped.
"""

import os
import resource
import shutil
import signal
import socket
import stat
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from stillhouse.client import Client
from stillhouse.local.data_dir import LAYOUT
from stillhouse.local.supervise.proc import process_tree
from tests.helpers import wait_until
from tests.stillhouse.commands.up_process import Up, end_all
from tests.stillhouse.local.helpers import running_processes

Json = dict[str, Any]
CANARY = "canary-4711"
SECRET_FILES = ("api-key", "secret-key", "postgres-password")
PROXY = f"http://user:{CANARY}@127.0.0.1:9"
FILL_STEP_BYTES = 2**20

pytestmark = pytest.mark.timeout(400)


@pytest.fixture
def start() -> Iterator[Callable[..., Up]]:
    """Start `stillhouse up`; end what still runs after the test."""
    started: list[Up] = []

    def start_up(*arguments: Any, **keywords: Any) -> Up:
        started.append(Up(*arguments, **keywords))
        return started[-1]

    yield start_up
    end_all(started)


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Mount a new file system in memory; skip the test where that is not permitted."""
    mounted: list[Path] = []

    def mount_memory(megabytes: int, *options: str) -> Path:
        folder = tmp_path / f"disk-{len(mounted)}"
        folder.mkdir()
        settings = ",".join([f"size={megabytes}m", *options])
        command = ["mount", "-t", "tmpfs", "-o", settings, "none", str(folder)]
        if shutil.which("mount") is None or subprocess.run(command, check=False).returncode:
            pytest.skip("this user may not mount a file system")
        mounted.append(folder)
        return folder

    yield mount_memory
    for folder in mounted:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def environment(**changes: str) -> dict[str, str]:
    """The variables of this process without settings of the stack, with changes."""
    inherited = {name: os.environ[name] for name in os.environ if "STILLHOUSE" not in name}
    return inherited | changes


class Fault(NamedTuple):
    """A reason why the stack cannot start."""

    folder: Path
    message: str
    options: tuple[str, ...] = ("--port", "0")


def _data_folder(folder: Path, **files: str) -> Path:
    """A data folder whose secrets are canaries."""
    folder.mkdir(parents=True)
    for name in SECRET_FILES:
        (folder / name).write_text(f"{CANARY}-{name}\n")
    for name, text in files.items():
        (folder / name).write_text(text)
    return folder


def _another_postgres(folder: Path) -> Fault:
    _data_folder(folder, version=f"{LAYOUT}\n")
    (folder / "postgres").mkdir()
    (folder / "postgres" / "PG_VERSION").write_text("12\n")
    return Fault(folder, "has a database of Postgres 12, but Postgres")


def _file(folder: Path) -> Fault:
    folder.write_text(CANARY)
    return Fault(folder, "cannot be used: Not a directory")


FAULTS: dict[str, Callable[[Path], Fault]] = {
    "file": _file,
    "newer layout": lambda path: Fault(_data_folder(path, version="99"), "a newer Stillhouse"),
    "damaged version": lambda path: Fault(_data_folder(path, version=CANARY), "holds no number"),
    "another version of Postgres": _another_postgres,
    "not UTF-8": lambda path: Fault(Path(os.fsdecode(b"%b-\xe9" % bytes(path))), "is not UTF-8"),
    "no home": lambda path: Fault(Path("~nobody-4711/data"), "you have no home folder"),
    "another machine's address": lambda path: Fault(
        _data_folder(path), "Cannot listen on 192.0.2.1", ("--host", "192.0.2.1", "--port", "0")
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_start_that_fails_prints_one_line_without_secrets(
    tmp_path: Path, start: Callable[..., Up], name: str
) -> None:
    assert_refused(start, FAULTS[name](tmp_path / "data"))


def test_start_on_a_busy_port_prints_one_line(tmp_path: Path, start: Callable[..., Up]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        options = ("--port", str(server.getsockname()[1]))
        assert_refused(start, Fault(_data_folder(tmp_path / "data"), "is taken by", options))


def test_start_on_a_full_or_read_only_disk_prints_one_line(
    mount: Callable[..., Path], start: Callable[..., Up]
) -> None:
    disk = mount(20)
    assert_refused(start, Fault(disk / "data", "20 MB left, and 135 MB are needed to start"))
    _fill(disk, 0)
    assert_refused(start, Fault(disk / "data", "cannot be used: No space left on device. Free"))
    assert_refused(start, Fault(mount(20, "ro") / "data", "cannot be used: Read-only file system"))


def assert_refused(start: Callable[..., Up], fault: Fault) -> None:
    up = start(fault.folder, *fault.options, env=environment(http_proxy=PROXY))
    output = up.end()
    assert up.process.returncode == 1, output
    last_line = output.splitlines()[-1]
    assert last_line.startswith("stillhouse: "), output
    assert fault.message in last_line
    assert CANARY not in output


def test_stack_works_in_a_hostile_environment(tmp_path: Path, start: Callable[..., Up]) -> None:
    """Packages with our names, the ASCII locale, no home, proxies, no umask, a strange folder."""
    project = tmp_path / "project"
    for package in ("api", "store", "worker", "kdcore"):
        (project / package).mkdir(parents=True)
        (project / package / "__init__.py").write_text("raise SystemExit('a package of the user')")
    folder = project / "a \"b\" 'c', sp ace + 100 % é 蒸"
    variables = environment(
        LC_ALL="C",
        PYTHONUTF8="0",
        PYTHONCOERCECLOCALE="0",
        PYTHONPATH=str(project),
        TMPDIR=str(tmp_path / "missing"),
        TZ="Asia/Kathmandu",
        http_proxy=PROXY,
        HTTPS_PROXY=PROXY,
    )
    del variables["HOME"]
    # `-m stillhouse.command_line` imports kdcore from the current folder, so that one is another.
    up = start(folder, env=variables, cwd=tmp_path, before=_no_umask)
    ingest_digits(up)
    members = up.members()
    modes = {path: path.stat().st_mode for path in (folder, *folder.iterdir())}
    assert {name for name, mode in modes.items() if stat.S_IMODE(mode) & 0o077} == set()
    os.killpg(up.process.pid, signal.SIGQUIT)
    output = up.end()
    assert (up.process.returncode, output.splitlines()[-1]) == (0, "stopped")
    assert running_processes(members) == []
    secrets = [(folder / name).read_text().strip() for name in SECRET_FILES]
    for text in (output, *(path.read_text() for path in (folder / "logs").iterdir())):
        assert not [secret for secret in (*secrets, CANARY) if secret in text]


def _no_umask() -> None:
    os.umask(0)


def test_stack_works_with_few_descriptors_little_shared_memory_and_ipv6(
    tmp_path: Path, start: Callable[..., Up]
) -> None:
    if not _has_ipv6():
        pytest.skip("this machine has no IPv6")
    mounts = "mount -t tmpfs -o size=1m none /dev/shm"
    prefix = ["unshare", "--mount", "sh", "-c", f'{mounts} && exec "$@"', "sh"]
    if subprocess.run([*prefix, "true"], check=False).returncode:
        pytest.skip("this user may not mount a file system")
    options = ("--port", "0", "--host", "::1")
    up = start(tmp_path / "data", *options, env=environment(), prefix=prefix, before=_limit_files)
    assert ingest_digits(up).startswith("http://[::1]:")
    up.process.terminate()
    assert up.end().endswith("stopped\n")


def _limit_files() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))


def _has_ipv6() -> bool:
    with suppress(OSError), socket.create_server(("::1", 0), family=socket.AF_INET6):
        return True
    return False


def test_stack_folder_can_be_linked_copied_after_a_kill_and_moved(
    tmp_path: Path, start: Callable[..., Up]
) -> None:
    long_name = tmp_path / ("d" * 180)
    long_name.mkdir()
    link = tmp_path / "link"
    link.symlink_to(long_name)
    first = start(link, env=environment())
    assert_key_works(first)
    key = _read_key(first)
    kill_everything(first)
    copy = tmp_path / "copy"
    shutil.copytree(long_name, copy, ignore=shutil.ignore_patterns("run"))
    original = start(link, env=environment())
    assert_key_works(original)
    assert _read_key(original) == key
    members = original.members()
    # In the copy, this file names processes of the original, which must not be ended.
    shutil.copy(link / "running", copy)
    copied = start(copy, env=environment())
    assert_key_works(copied)
    assert _read_key(copied) == key
    assert running_processes(members) == list(members)
    for up in (original, copied):
        up.process.terminate()
        assert up.end().endswith("stopped\n")
        assert up.process.returncode == 0
    moved = start(copy.rename(tmp_path / "moved"), env=environment())
    assert_key_works(moved)
    assert _read_key(moved) == key
    moved.process.send_signal(signal.SIGHUP)
    assert moved.end().endswith("stopped\n")


def _read_key(up: Up) -> str:
    return (up.folder / "api-key").read_text().strip()


def assert_key_works(up: Up) -> None:
    """Wait until a new stack is ready, and assert that it accepts the key of its folder."""
    url = up.line("ready")
    with Client(url, _read_key(up)) as client:
        assert client.get("/v1/jobs")["data"] == []


def kill_everything(up: Up) -> None:
    """Kill the supervisor, its watchdog and every server at once."""
    os.kill(up.process.pid, signal.SIGSTOP)
    for pid in process_tree([up.process.pid]):
        with suppress(ProcessLookupError):  # a backend ends with its postmaster
            os.kill(pid, signal.SIGKILL)
    up.process.wait()


def test_stack_reports_an_invalid_setting_without_secrets(
    tmp_path: Path, start: Callable[..., Up]
) -> None:
    up = start(tmp_path / "data", env=environment(STILLHOUSE_POLL_S=CANARY))
    output = up.end()
    assert "stillhouse: migrate failed with exit status 1: the settings are invalid: " in output
    assert "STILLHOUSE_POLL_S: Input should be a valid number" in output
    secrets = [(up.folder / name).read_text().strip() for name in SECRET_FILES[1:]]
    assert not [secret for secret in (*secrets, CANARY) if secret in output]


def test_stack_on_a_full_disk_says_so_and_goes_on_when_there_is_space(
    mount: Callable[..., Path], start: Callable[..., Up]
) -> None:
    disk = mount(400)
    quick = {"HEARTBEAT_S": "0.5", "MAINTENANCE_INTERVAL_S": "0.5", "REMINDER_INTERVAL_S": "1"}
    settings = {f"STILLHOUSE_{name}": value for name, value in quick.items()}
    up = start(
        disk / "data", env=environment(STILLHOUSE_MIN_FREE_BYTES=f"{100 * 2**20}") | settings
    )
    url = up.line("ready")
    _fill(disk, 60 * 2**20)
    assert "MB must be freed" in up.line("jobs wait: the disk of the workers is full")
    with Client(url, (up.folder / "api-key").read_text()) as client:
        dataset = client.post("/v1/datasets", {"name": "digits", "source": "builtin:digits"})
        assert dataset["state"] == "ingesting"
        assert "the disk of the workers is full: " in dataset["waiting_reason"]
        checks = httpx.get(f"{url}/readyz", trust_env=False).json()["checks"]
        assert "MB must be freed" in checks["worker_disk_space"]
        workers = client.get("/v1/workers")["data"]
        assert {worker["missing_disk_bytes"] > 0 for worker in workers} == {True}
        _fill(disk, 0)
        _kill_child(up, "postgres")
        up.line("postgres ended with exit status")
        assert "waiting for space" in up.lines[-1]
        for filler in disk.glob("filler-*"):
            filler.unlink()
        wait_until(lambda: _is_ready(url), 120, "Postgres runs again")
        assert client.wait(dataset)["waiting_reason"] is None
    up.line("the disk has space again: jobs go on")
    up.process.terminate()
    assert up.end().endswith("stopped\n")


def _is_ready(url: str) -> bool:
    with suppress(httpx.TransportError):
        return httpx.get(f"{url}/readyz", trust_env=False).status_code == 200
    return False


def _kill_child(up: Up, program: str) -> None:
    """Kill the process of a program that the supervisor started, and its children."""
    for pid in process_tree([up.process.pid]):
        with suppress(OSError):
            name = Path(f"/proc/{pid}/comm").read_text().strip()
            parent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]
            if name == program and int(parent) == up.process.pid:
                os.kill(pid, signal.SIGKILL)


def _fill(disk: Path, free_bytes: int) -> None:
    """Write a file until the disk has only ``free_bytes`` left."""
    with (disk / f"filler-{free_bytes}").open("wb") as filler, suppress(OSError):
        while (left := shutil.disk_usage(disk).free - free_bytes) > 0:
            filler.write(bytes(min(left, FILL_STEP_BYTES)))
            filler.flush()


def ingest_digits(up: Up) -> str:
    """Wait until the stack runs, let it ingest a data set, and return its address."""
    url = up.line("ready")
    with Client(url, (up.folder / "api-key").read_text()) as client:
        dataset = client.post("/v1/datasets", {"name": "digits", "source": "builtin:digits"})
        assert client.wait(dataset)["state"] == "ready"
    return url
