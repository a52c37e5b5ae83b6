"""`stillhouse demo`, to its end and interrupted."""

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
    """Return the processes whose command line or environment names the folder."""
    pids = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            text = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
        except OSError:
            continue  # the process has just ended, or belongs to another user
        if str(folder).encode() in text:
            pids.append(int(entry.name))
    return pids


@pytest.mark.timeout(600)
def test_demo_passes_its_checks_and_leaves_no_process(tmp_path: Path) -> None:
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


@pytest.mark.parametrize("output_line", ["Starting", "ready", "training the teacher"])
def test_ctrl_c_leaves_no_process(output_line: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    command = [STILLHOUSE, "demo", "--output", tmp_path / "output"]
    with log.open("w") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=output, env=os.environ | {"PYTHONUNBUFFERED": "1"}
        )
    try:
        wait_until(
            lambda: output_line in log.read_text() or process.poll() is not None, 120, output_line
        )
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=120) == 130, log.read_text()
        wait_until(lambda: not processes_of(tmp_path), 60, "all processes have ended")
    finally:
        process.kill()
        process.wait()
