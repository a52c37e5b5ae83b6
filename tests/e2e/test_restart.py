"""The whole stack stops in the middle of a training and comes back."""

from pathlib import Path
from typing import Any

import pytest

from stillhouse.client import Client
from stillhouse.local import Stack
from tests.helpers import wait_until

pytestmark = pytest.mark.timeout(400)


def test_a_job_is_checkpointed_at_the_stop_and_goes_on_after_the_start(tmp_path: Path) -> None:
    with Stack(tmp_path / "data") as stack, Client(stack.url, stack.api_key) as client:
        made = client.post("/v1/datasets", {"name": "digits", "source": "builtin:digits"})
        dataset = client.wait(made)["id"]
        body = {
            "student": {"architecture": "cifar/resnet8"},
            "dataset": dataset,
            "training": {"epochs": 25},
        }
        job = client.post("/v1/jobs", body)

        def now() -> dict[str, Any]:
            return client.get(job["links"]["self"])

        wait_until(lambda: bool(now()["progress"]), 90, "it trains")
        assert now()["state"] == "running"
    with Stack(tmp_path / "data") as stack, Client(stack.url, stack.api_key) as client:
        done = client.wait(job)
        first, second = client.get(job["links"]["runs"])["data"]
    assert first["exit"] == "stopped"  # not lost: the worker gave it back with a checkpoint
    assert second["resumed_from_step"] > 0
    assert done["result"]["student_top1"] > 50
