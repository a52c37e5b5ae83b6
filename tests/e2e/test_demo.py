"""The demo as a user runs it, and as a user interrupts it."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers import wait_until

STILLHOUSE = Path(sys.executable).with_name("stillhouse")


def processes_of(folder: Path) -> list[int]:
    """Processes whose command line or environment names the folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            text = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
        except OSError:
            continue  # it has just ended, or is another user's
        if str(folder).encode() in text:
            found.append(int(entry.name))
    return found


@pytest.mark.timeout(600)
def test_the_demo_holds_what_it_says_and_leaves_nothing_behind(tmp_path: Path) -> None:
    output = tmp_path / "output"
    command = [STILLHOUSE, "demo", "--output", output, "--epochs", "3"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    for word in ("teacher", "student", "undistilled", "top-1", "agreement", "latency"):
        assert word in done.stdout
    assert re.search(r"it\s+has\s+[\d.]+ % on the\s+test\s+images,\s+as\s+reported", done.stdout)
    assert {"student.safetensors", "config.json", "model_card.md", "report.json"} <= {
        path.name for path in output.iterdir()
    }
    assert not processes_of(tmp_path)


@pytest.mark.parametrize("after", ["Starting", "ready", "training the teacher"])
def test_ctrl_c_leaves_no_process_behind(after: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    command = [STILLHOUSE, "demo", "--output", tmp_path / "output"]
    with log.open("w") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=output, env=os.environ | {"PYTHONUNBUFFERED": "1"}
        )
    try:
        wait_until(lambda: after in log.read_text() or process.poll() is not None, 120, after)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 130, log.read_text()
        wait_until(lambda: not processes_of(tmp_path), 30, "all processes are gone")
    finally:
        process.kill()
        process.wait()
