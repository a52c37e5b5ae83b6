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
            [sys.executable, "-m", "stillhouse.command_line", *arguments],
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


def test_data_set_is_created_from_a_source_or_a_file(
    stillhouse: RunStillhouse, source_folder: Path, tmp_path: Path
) -> None:
    source = f"folder:{source_folder}/from-a-shell"
    accepted = stillhouse("dataset", "birds", "--source", source)
    assert (accepted.returncode, accepted.stdout[:3]) == (0, "ds_"), accepted.stderr
    (tmp_path / "data.zip").write_bytes(b"an archive")
    uploaded = stillhouse("dataset", "birds", str(tmp_path / "data.zip"))
    assert (uploaded.returncode, uploaded.stdout[:3]) == (0, "ds_"), uploaded.stderr
    for arguments, message in (
        (("--source", "folder:/etc"), "/source: the project may not read this source"),
        ((), "name either a file to upload, or --source"),
    ):
        refused = stillhouse("dataset", "birds", *arguments)
        assert refused.returncode == 2
        assert message in " ".join(refused.stderr.split())


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


FINDING = {
    "code": "worse_than_baseline",
    "message": "distillation made the student worse: top-1 53.8 %, 67.2 % without distillation",
    "cause": "the student still improved in the last epoch",
    "hint": "train for more than 3 epochs",
}
MISSED = {"name": "min_top1", "limit": 60.0, "value": 53.8, "passed": False}


def add_job_with_verdict(trained_job: TrainedJob, accepted: bool | None) -> str:
    """A copy of the job whose report has a finding and, with ``accept``, a missed criterion."""
    from store.database import transaction
    from store.ids import new_id
    from store.tables import Job

    checks = [] if accepted is None else [MISSED]
    verdict = {"accepted": accepted, "checks": checks, "findings": [FINDING]}
    with transaction() as session:
        job = session.get_one(Job, trained_job.job["id"])
        columns = {column.name: getattr(job, column.name) for column in Job.__table__.c}
        result = job.result or {}
        report = result | {
            "student": result["student"] | {"top1": 53.8},
            "teacher": result["student"] | {"top1": 80.3},
            "baseline": result["student"] | {"top1": 67.2},
            "verdict": verdict,
            "warnings": ["the model's classes are probably in another order"],
        }
        session.add(copy := Job(**columns | {"id": new_id("job"), "result": report}))
        return copy.id


@pytest.mark.parametrize(("accepted", "code"), [(None, 0), (False, 1)])
def test_worse_student_is_reported_and_fails_only_with_criteria(
    stillhouse: RunStillhouse, trained_job: TrainedJob, accepted: bool | None, code: int
) -> None:
    ended = stillhouse("wait", add_job_with_verdict(trained_job, accepted), COLUMNS="300")
    assert ended.returncode == code, ended.stderr
    expected = "student 53.80 %, teacher 80.30 %, without distillation 67.20 %"
    assert expected in ended.stderr
    for part in (FINDING["message"], FINDING["cause"], FINDING["hint"]):
        assert part in ended.stderr
    assert "warning: the model's classes are probably in another order" in ended.stderr
    missed = "not accepted: min_top1 60: 53.8 was measured"
    assert (missed in ended.stderr) == (accepted is False)


def test_job_file_may_have_a_byte_order_mark(stillhouse: RunStillhouse, tmp_path: Path) -> None:
    (tmp_path / "job.json").write_text('{"method": "nothing"}', encoding="utf-8-sig")
    refused = stillhouse("submit", str(tmp_path / "job.json"))
    assert "/dataset" in refused.stderr
