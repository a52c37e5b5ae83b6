"""Actions on a job over HTTP; tests/store tests the transitions themselves."""

from typing import Any

import httpx
import pytest

from store import jobs
from store.database import transaction
from store.tables import Job
from tests.conftest import TrainedJob
from tests.helpers import assert_problem, submit_job

Json = dict[str, Any]


def fail_job(job_id: str, **fields: Any) -> None:
    with transaction() as session:
        job = session.get_one(Job, job_id, with_for_update=True)
        for name, value in fields.items():
            setattr(job, name, value)
        jobs.fail(session, job, {"code": "worker_lost", "message": "x"}, "lost")


def test_queued_job_is_paused_resumed_and_cancelled(client: httpx.Client, digits: Json) -> None:
    job_url = submit_job(client, digits)["links"]["self"]
    paused = client.post(f"{job_url}/pause")
    assert (paused.status_code, paused.json()["state"]) == (200, "paused")
    assert paused.json()["queue_position"] is None
    assert client.post(f"{job_url}/pause").status_code == 200
    resumed = client.post(f"{job_url}/resume")
    assert (resumed.status_code, resumed.json()["state"]) == (200, "queued")
    again = client.post(f"{job_url}/resume")
    assert assert_problem(again, 409, "illegal_transition")["current_state"] == "queued"
    client.post(f"{job_url}/pause").raise_for_status()
    assert client.post(f"{job_url}/cancel").json()["state"] == "cancelled"
    for action in ("pause", "resume", "retry"):
        rejected = client.post(f"{job_url}/{action}")
        assert assert_problem(rejected, 409, "illegal_transition")["current_state"] == "cancelled"


def test_failed_job_is_retried(client: httpx.Client, digits: Json) -> None:
    job = submit_job(client, digits)
    fail_job(job["id"])
    retried = client.post(f"/v1/jobs/{job['id']}/retry")
    assert (retried.status_code, retried.json()["state"]) == (200, "queued")
    assert retried.json()["error"] is None


@pytest.mark.parametrize("action", ["pause", "resume", "retry"])
def test_job_of_another_project_is_not_found(
    client: httpx.Client, other_client: httpx.Client, digits: Json, action: str
) -> None:
    job = submit_job(client, digits)
    assert_problem(other_client.post(f"/v1/jobs/{job['id']}/{action}"), 404, "not_found")


def test_retry_needs_the_models_of_the_job(trained_job: TrainedJob) -> None:
    client = trained_job.client
    source = {"name": "gone", "source": f"job:{trained_job.job['id']}"}
    model = client.post("/v1/models", json=source).raise_for_status().json()
    body = {name: trained_job.body[name] for name in ("student", "dataset")}
    job = client.post("/v1/jobs", json=body | {"teachers": [{"model": model["id"]}]})
    job_url = job.raise_for_status().json()["links"]["self"]
    fail_job(job.json()["id"])
    client.delete(f"/v1/models/{model['id']}").raise_for_status()
    rejected = client.post(f"{job_url}/retry")
    assert assert_problem(rejected, 409, "source_gone")["current_state"] == "failed"
    assert client.get(job_url).json()["state"] == "failed"
