"""Jobs through Celery: a running job is cancelled, a worker is killed."""

import os
import signal
from pathlib import Path
from typing import Any

import httpx
import pytest

from stillhouse.local import Stack
from tests.helpers import wait_until

pytestmark = pytest.mark.timeout(400)
Json = dict[str, Any]


@pytest.fixture(scope="module")
def dataset(stack: Stack) -> str:
    from stillhouse.client import Client

    with Client(stack.url, stack.api_key) as client:
        submitted = client.post("/v1/datasets", {"name": "digits", "source": "builtin:digits"})
        return str(client.wait(submitted)["id"])


def submit_job(client: httpx.Client, dataset: str, epochs: int, **fields: Any) -> Json:
    body = {
        "student": {"architecture": "cifar/resnet8"},
        "dataset": dataset,
        "training": {"epochs": epochs},
        **fields,
    }
    job: Json = client.post("/v1/jobs", json=body).raise_for_status().json()
    return job


def get_job(client: httpx.Client, job: Json) -> Json:
    current: Json = client.get(job["links"]["self"]).raise_for_status().json()
    return current


def engine_of(job: Json) -> int | None:
    """Return the process id of a running job's engine, from the folder that it works in."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().decode().split("\0")
                folder = (entry / "cwd").readlink()
            except OSError:
                continue
            if words[1:4] == ["-m", "kdcore", "run"] and job["id"] in str(folder):
                return int(entry.name)
    return None


def test_running_job_is_cancelled(stack_client: httpx.Client, dataset: str) -> None:
    job = submit_job(stack_client, dataset, 10_000)
    wait_until(lambda: get_job(stack_client, job)["state"] == "running", 120, "the job runs")
    response = stack_client.post(f"{job['links']['self']}/cancel")
    assert response.status_code == 202
    assert response.json()["state"] == "cancelling"
    wait_until(
        lambda: get_job(stack_client, job)["state"] == "cancelled", 60, "the job is cancelled"
    )
    assert engine_of(job) is None


def test_another_worker_finishes_the_job_of_a_killed_worker(
    stack: Stack, stack_client: httpx.Client, dataset: str
) -> None:
    job = submit_job(stack_client, dataset, 10)
    wait_until(lambda: get_job(stack_client, job)["phase"] == "training", 120, "the job trains")
    os.killpg(os.getpgid(stack.process("train").pid), signal.SIGKILL)
    wait_until(lambda: engine_of(job) is None, 60, "the engine has ended")
    wait_until(
        lambda: get_job(stack_client, job)["state"] == "succeeded", 180, "the job has succeeded"
    )
    assert len(stack_client.get(job["links"]["runs"]).json()["data"]) == 2
