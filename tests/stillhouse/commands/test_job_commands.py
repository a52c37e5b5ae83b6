"""Jobs from the command line: output and exit codes."""

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
RunStillhouse = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def stillhouse(trained_job: TrainedJob, api_url: str) -> RunStillhouse:
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


def test_job_is_submitted_and_its_files_are_downloaded(
    stillhouse: RunStillhouse,
    trained_job: TrainedJob,
    run_queue: Callable[[str], None],
    tmp_path: Path,
) -> None:
    (tmp_path / "job.json").write_text(json.dumps(trained_job.body | {"name": "from a script"}))
    accepted = stillhouse("submit", str(tmp_path / "job.json"))
    assert accepted.returncode == 0, accepted.stderr
    job_id = accepted.stdout.strip()
    worker = threading.Thread(target=run_queue, args=("train",))
    worker.start()
    ended = stillhouse("wait", job_id, "--output", str(tmp_path / "output"))
    worker.join()
    assert ended.returncode == 0, ended.stderr
    student = (tmp_path / "output" / "student.safetensors").read_bytes()
    # The same job on the same data gives the same bytes as the job submitted by HTTP.
    assert hashlib.sha256(student).hexdigest() == trained_job.artifact["sha256"]


def test_actions_print_the_state_and_wait_fails_for_a_cancelled_job(
    stillhouse: RunStillhouse, trained_job: TrainedJob
) -> None:
    job_id = stillhouse("submit", "-", stdin=json.dumps(trained_job.body)).stdout.strip()
    for action, state in (("pause", "paused"), ("resume", "queued"), ("cancel", "cancelled")):
        done = stillhouse(action, job_id)
        assert (done.returncode, done.stdout) == (0, f"{state}\n"), done.stderr
    refused = stillhouse("retry", job_id)
    assert (refused.returncode, "is cancelled cannot be retried" in refused.stderr) == (2, True)
    ended = stillhouse("wait", job_id)
    assert (ended.returncode, "cancelled" in ended.stderr) == (1, True)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ('{"dataset": "ds_x", "student": {"architecture": "nothing"}}', "/student/architecture"),
        ("[]", "one JSON object"),
        ("{", "Expecting"),
    ],
)
def test_refused_job_prints_the_reason(stillhouse: RunStillhouse, body: str, message: str) -> None:
    refused = stillhouse("submit", "-", stdin=body)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert message in refused.stderr


def test_unreachable_service_is_reported(stillhouse: RunStillhouse) -> None:
    refused = stillhouse("wait", "job_x", STILLHOUSE_URL="http://127.0.0.1:9")
    assert (refused.returncode, "cannot be reached" in refused.stderr) == (2, True)
