"""A user's job through Celery while parts die."""

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
        made = client.post("/v1/datasets", {"name": "digits", "source": "builtin:digits"})
        return str(client.wait(made)["id"])


def post(client: httpx.Client, dataset: str, epochs: int, **fields: Any) -> Json:
    body = {
        "student": {"architecture": "cifar/resnet8"},
        "dataset": dataset,
        "training": {"epochs": epochs},
        **fields,
    }
    job: Json = client.post("/v1/jobs", json=body).raise_for_status().json()
    return job


def get(client: httpx.Client, job: Json) -> Json:
    now: Json = client.get(job["links"]["self"]).raise_for_status().json()
    return now


def engine_of(job: Json) -> int | None:
    """The engine's process of a running job, by its folder."""
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


def test_a_running_job_is_cancelled(stack_client: httpx.Client, dataset: str) -> None:
    job = post(stack_client, dataset, 10_000)
    wait_until(lambda: get(stack_client, job)["state"] == "running", 60, "it runs")
    answer = stack_client.post(f"{job['links']['self']}/cancel")
    assert answer.status_code == 202
    assert answer.json()["state"] == "cancelling"
    wait_until(lambda: get(stack_client, job)["state"] == "cancelled", 60, "it is cancelled")
    assert engine_of(job) is None


def test_a_killed_worker_loses_its_lease_and_another_takes_the_job(
    stack: Stack, stack_client: httpx.Client, dataset: str
) -> None:
    job = post(stack_client, dataset, 10)
    wait_until(lambda: get(stack_client, job)["phase"] == "training", 90, "it trains")
    os.killpg(os.getpgid(stack.process("train").pid), signal.SIGKILL)
    wait_until(lambda: engine_of(job) is None, 20, "its engine has ended with it")
    wait_until(lambda: get(stack_client, job)["state"] == "succeeded", 180, "the job is done")
    assert len(stack_client.get(job["links"]["runs"]).json()["data"]) == 2
