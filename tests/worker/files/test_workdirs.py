"""Files that an engine names: only those in its work folder are stored."""

from pathlib import Path
from typing import Any

import pytest

from kdcore.protocol.events import ArtifactEvent
from store import jobs
from store.database import transaction
from store.tables import Artifact, Job, Run
from tests.helpers import submit_job
from worker.files.workdirs import OutsideWorkdirError, output_path
from worker.finalize import finalize_run
from worker.run_result import EngineOutputs, RunEnd, RunResult

Json = dict[str, Any]


def test_file_in_the_folder_has_its_path(tmp_path: Path) -> None:
    workdir = tmp_path / "run"
    (workdir / "artifacts").mkdir(parents=True)
    assert output_path(workdir, "artifacts/x") == workdir.resolve() / "artifacts" / "x"
    assert output_path(workdir, "artifacts/../x") == workdir.resolve() / "x"


@pytest.mark.parametrize("path", ["../secret", "artifacts/../../secret", "/etc/passwd", "link"])
def test_file_outside_the_folder_is_refused(tmp_path: Path, path: str) -> None:
    workdir = tmp_path / "run"
    (workdir / "artifacts").mkdir(parents=True)
    (tmp_path / "secret").write_text("of another project")
    (workdir / "link").symlink_to(tmp_path / "secret")
    with pytest.raises(OutsideWorkdirError, match="outside its work folder"):
        output_path(workdir, path)


@pytest.mark.usefixtures("empty_queue")
def test_job_whose_engine_names_a_file_outside_fails(
    client: Any, digits: Json, tmp_path: Path
) -> None:
    job_id = submit_job(client, digits)["id"]
    with transaction() as session:
        job = jobs.claim(session, "train", "a worker")
    assert job is not None
    (tmp_path / "secret").write_text("of another project")
    workdir = tmp_path / "run"
    workdir.mkdir()
    event = ArtifactEvent(
        seq=1,
        time="2026-01-01T00:00:00Z",
        path="../secret",
        name="student.pt",
        format="pt",
        media_type="x/y",
        sha256="0" * 64,
        size_bytes=1,
    )
    outputs = EngineOutputs(artifacts=[event], report={})
    finalize_run(job, RunResult(RunEnd.DONE, outputs), workdir)
    with transaction() as session:
        row = session.get_one(Job, job_id)
        assert (row.state, row.error["code"], row.error["retryable"]) == (
            "failed",
            "internal",
            False,
        )
        assert "../secret" in row.error["message"]
        assert session.query(Run).where(Run.job_id == job_id).one().exit == "output_refused"
        assert session.query(Artifact).where(Artifact.job_id == job_id).count() == 0
