"""A failpoint acts only if a test has armed it, and then once."""

import signal
import subprocess
import sys
from pathlib import Path

from kdcore.runtime import failpoints

SCRIPT = """
from kdcore.runtime.failpoints import failpoint
for _ in range(2):
    try:
        failpoint("example")
        print("passed")
    except OSError as error:
        print(error)
"""


def run_twice(folder: Path | None) -> "subprocess.CompletedProcess[str]":
    """Pass the failpoint ``example`` twice in one process."""
    environment = {failpoints.ENV_VARIABLE: str(folder)} if folder else {}
    return subprocess.run(
        [sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=False
    )


def test_failpoint_does_nothing_without_the_variable(tmp_path: Path) -> None:
    (tmp_path / "example").write_text("kill")
    assert run_twice(None).stdout == "passed\npassed\n"


def test_failpoint_kills_once(tmp_path: Path) -> None:
    (tmp_path / "example").write_text("kill")
    assert run_twice(tmp_path).returncode == -signal.SIGKILL
    assert run_twice(tmp_path).stdout == "passed\npassed\n"


def test_failpoint_raises_once(tmp_path: Path) -> None:
    (tmp_path / "example").write_text("raise no room")
    assert run_twice(tmp_path).stdout == "no room\npassed\n"
