"""A user's job through Celery while parts die."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from stillhouse.local import Stack

pytestmark = [pytest.mark.xdist_group("stack"), pytest.mark.timeout(400)]
Json = dict[str, Any]
Eventually = Callable[[Callable[[], bool], float, str], None]


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


def student_of(client: httpx.Client, job: Json) -> str:
    page = client.get(job["links"]["artifacts"]).raise_for_status().json()
    (student,) = [entry for entry in page["data"] if entry["format"] == "safetensors"]
    return str(student["sha256"])


def engine_of(job: Json) -> int | None:
    """The engine's process of a running job, by its command line."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().decode().split("\0")
            except OSError:
                continue
            if words[1:4] == ["-m", "kdcore", "run"] and any(job["id"] in word for word in words):
                return int(entry.name)
    return None


def test_a_killed_engine_goes_on_and_gives_the_same_student(
    stack_client: httpx.Client, dataset: str, eventually: Eventually
) -> None:
    whole = post(stack_client, dataset, 6, name="left alone")
    killed = post(stack_client, dataset, 6, name="killed")
    eventually(lambda: get(stack_client, whole)["state"] == "succeeded", 120, "one is done")
    checkpoints = f"{killed['links']['self']}/checkpoints"
    eventually(
        lambda: bool(stack_client.get(checkpoints).json()["data"]), 120, "it has a checkpoint"
    )
    process = engine_of(killed)
    if process is not None:  # else it was faster than we: its bytes are compared all the same
        os.kill(process, signal.SIGKILL)
    eventually(lambda: get(stack_client, killed)["state"] == "succeeded", 180, "the other is done")
    assert student_of(stack_client, killed) == student_of(stack_client, whole)
    if process is not None:
        first, second = stack_client.get(killed["links"]["runs"]).json()["data"]
        assert first["exit"] == "lost"
        assert second["resumed_from_step"] > 0


def test_a_dead_broker_delays_a_job_and_loses_nothing(
    stack: Stack, stack_client: httpx.Client, dataset: str, eventually: Eventually
) -> None:
    os.kill(stack.part("valkey").pid, signal.SIGKILL)
    job = post(stack_client, dataset, 1)
    assert stack_client.get("/readyz").status_code == 200
    eventually(lambda: get(stack_client, job)["state"] == "succeeded", 180, "the job is done")


def test_a_running_job_is_cancelled(
    stack_client: httpx.Client, dataset: str, eventually: Eventually
) -> None:
    job = post(stack_client, dataset, 10_000)
    eventually(lambda: get(stack_client, job)["state"] == "running", 60, "it runs")
    answer = stack_client.post(f"{job['links']['self']}/cancel")
    assert answer.status_code == 202
    assert answer.json()["state"] == "cancelling"
    eventually(lambda: get(stack_client, job)["state"] == "cancelled", 60, "it is cancelled")
    assert engine_of(job) is None


def test_a_killed_worker_loses_its_lease_and_another_takes_the_job(
    stack: Stack, stack_client: httpx.Client, dataset: str, eventually: Eventually
) -> None:
    job = post(stack_client, dataset, 10)
    eventually(lambda: get(stack_client, job)["phase"] == "training", 90, "it trains")
    os.killpg(os.getpgid(stack.part("train").pid), signal.SIGKILL)
    eventually(lambda: engine_of(job) is None, 20, "its engine has ended with it")
    eventually(lambda: get(stack_client, job)["state"] == "succeeded", 180, "the job is done")
    assert len(stack_client.get(job["links"]["runs"]).json()["data"]) == 2
