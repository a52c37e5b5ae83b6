"""Stand-ins that several tests of the local stack share."""

from pathlib import Path

import pytest

# Ignores the request to stop, and has a child in a session of its own that does so too.
STUBBORN = (
    "import signal, subprocess, sys, time\n"
    "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    "if len(sys.argv) == 1:\n"
    "    subprocess.Popen([sys.executable, __file__, 'child'], start_new_session=True)\n"
    "    print('armed', flush=True)\n"
    "time.sleep(60)\n"
)


@pytest.fixture
def stubborn(tmp_path: Path) -> Path:
    path = tmp_path / "stubborn.py"
    path.write_text(STUBBORN)
    return path
