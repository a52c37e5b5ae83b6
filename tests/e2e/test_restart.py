"""The stack stops during a training and starts again."""

from pathlib import Path
from typing import Any

import pytest

from stillhouse.client import Client
from stillhouse.local import Stack
from tests.helpers import wait_until

pytestmark = pytest.mark.timeout(400)


def test_job_resumes_from_a_checkpoint_after_a_restart(tmp_path: Path) -> None:
    with Stack(tmp_path / "data") as stack, Client(stack.url, stack.api_key) as client:
        submitted = client.post("/v1/datasets", {"name": "digits", "source": "builtin:digits"})
        dataset = client.wait(submitted)["id"]
        body = {
            "student": {"architecture": "cifar/resnet8"},
            "dataset": dataset,
            "training": {"epochs": 25},
        }
        job = client.post("/v1/jobs", body)

        def get_job() -> dict[str, Any]:
            return client.get(job["links"]["self"])

        wait_until(lambda: bool(get_job()["progress"]), 120, "the job trains")
        assert get_job()["state"] == "running"
    with Stack(tmp_path / "data") as stack, Client(stack.url, stack.api_key) as client:
        done = client.wait(job)
        first, second = client.get(job["links"]["runs"])["data"]
    assert first["exit"] == "stopped"  # the worker released the job, with a checkpoint
    assert second["resumed_from_step"] > 0
    assert done["result"]["student_top1"] > 50
