"""Nothing happens at a failpoint unless a test asks; then it happens once."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from kdcore.runtime import failpoints

PASS = "from kdcore.runtime.failpoints import failpoint; failpoint('here'); print('passed')"


def passing(folder: Path | None) -> "subprocess.CompletedProcess[str]":
    environment = {failpoints.ENV_VARIABLE: str(folder)} if folder else {}
    return subprocess.run(
        [sys.executable, "-c", PASS], env=environment, capture_output=True, text=True, check=False
    )


def test_without_the_variable_nothing_happens(tmp_path: Path) -> None:
    (tmp_path / "here").write_text("kill")
    assert passing(None).stdout == "passed\n"


def test_a_place_is_met_once(tmp_path: Path) -> None:
    (tmp_path / "here").write_text("kill")
    assert passing(tmp_path).returncode == -signal.SIGKILL
    assert passing(tmp_path).stdout == "passed\n"


def test_a_place_can_raise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(failpoints.ENV_VARIABLE, str(tmp_path))
    failpoints._folder.cache_clear()
    (tmp_path / "here").write_text("raise no room")
    with pytest.raises(OSError, match="no room"):
        failpoints.failpoint("here")
    failpoints.failpoint("here")
    monkeypatch.delenv(failpoints.ENV_VARIABLE)
    failpoints._folder.cache_clear()
