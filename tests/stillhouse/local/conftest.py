"""Fixtures for the tests of the local stack."""

from pathlib import Path

import pytest

# Ignores SIGTERM, as does its child in another session.
STUBBORN_PROGRAM = (
    "import signal, subprocess, sys, time\n"
    "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    "if len(sys.argv) == 1:\n"
    "    subprocess.Popen([sys.executable, __file__, 'child'], start_new_session=True)\n"
    "    print('armed', flush=True)\n"
    "time.sleep(600)\n"
)


@pytest.fixture
def stubborn_program(tmp_path: Path) -> Path:
    path = tmp_path / "stubborn.py"
    path.write_text(STUBBORN_PROGRAM)
    return path
