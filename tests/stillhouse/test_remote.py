"""A job from the command line: what a script sees of it."""

import hashlib
import json
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import TrainedJob

Json = dict[str, Any]
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def stillhouse(trained_job: TrainedJob, api_url: str) -> Run:
    key = trained_job.client.headers["authorization"].removeprefix("Bearer ")

    def run(*arguments: str, stdin: str | None = None, **settings: str) -> Any:
        return subprocess.run(
            [sys.executable, "-m", "stillhouse.cli", *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            env={"STILLHOUSE_URL": api_url, "STILLHOUSE_API_KEY": key, "PATH": ""} | settings,
        )

    return run


def test_a_job_is_submitted_awaited_and_taken_home(
    stillhouse: Run, trained_job: TrainedJob, run_queue: Callable[[str], None], tmp_path: Path
) -> None:
    (tmp_path / "job.json").write_text(json.dumps(trained_job.body | {"name": "from a script"}))
    accepted = stillhouse("submit", str(tmp_path / "job.json"))
    assert accepted.returncode == 0, accepted.stderr
    job_id = accepted.stdout.strip()
    working = threading.Thread(target=run_queue, args=("train",))
    working.start()
    ended = stillhouse("wait", job_id, "--output", str(tmp_path / "home"))
    working.join()
    assert ended.returncode == 0, ended.stderr
    student = (tmp_path / "home" / "student.safetensors").read_bytes()
    # The same recipe on the same data: the same bytes as the job that was posted by HTTP.
    assert hashlib.sha256(student).hexdigest() == trained_job.artifact["sha256"]


def test_a_cancelled_job_is_not_done(stillhouse: Run, trained_job: TrainedJob) -> None:
    job_id = stillhouse("submit", "-", stdin=json.dumps(trained_job.body)).stdout.strip()
    for action, state in (("pause", "paused"), ("resume", "queued"), ("cancel", "cancelled")):
        done = stillhouse(action, job_id)
        assert (done.returncode, done.stdout) == (0, f"{state}\n"), done.stderr
    refused = stillhouse("retry", job_id)
    assert (refused.returncode, "is cancelled cannot be retried" in refused.stderr) == (2, True)
    ended = stillhouse("wait", job_id)
    assert (ended.returncode, "cancelled" in ended.stderr) == (1, True)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ('{"dataset": "ds_x", "student": {"architecture": "nothing"}}', "/student/architecture"),
        ("[]", "one JSON object"),
        ("{", "Expecting"),
    ],
)
def test_what_is_refused_is_told(stillhouse: Run, body: str, said: str) -> None:
    refused = stillhouse("submit", "-", stdin=body)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert said in refused.stderr


def test_a_service_that_is_away_is_told(stillhouse: Run) -> None:
    refused = stillhouse("wait", "job_x", STILLHOUSE_URL="http://127.0.0.1:9")
    assert (refused.returncode, "cannot be reached" in refused.stderr) == (2, True)
