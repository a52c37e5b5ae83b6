"""The new kind of job of CONTRIBUTING.md runs through HTTP, a worker and the engine of a copy."""

from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from safetensors.torch import save

from kdcore.models import build
from tests.helpers import upload
from tests.house.scratch import Example, apply_example, copy_checkout, read_example
from tests.house.scratch_server import run_worker, scratch_database, serve_api

Json = dict[str, Any]


@pytest.fixture(scope="module")
def example(root: Path) -> Example:
    return read_example(root, "A new kind of job")


def test_example_is_short(example: Example) -> None:
    assert example.num_lines < 30
    assert len(example.files) == 2
    assert {path for path, _, _ in example.lines} == {
        "kdcore/schema/job_kinds.py",
        "kdcore/process/main.py",
    }
    assert all(code.strip().count("\n") == 0 for _, _, code in example.lines)


def test_job_of_the_new_kind_succeeds_and_has_a_result(
    root: Path, example: Example, environment: dict[str, str], tmp_path: Path
) -> None:
    scratch = tmp_path / "checkout"
    copy_checkout(root, scratch)
    apply_example(example, scratch)
    with (
        scratch_database(environment, scratch, tmp_path / "work") as variables,
        serve_api(scratch, variables) as client,
    ):
        weights = build("cifar/resnet8", num_classes=10).state_dict()
        num_weights = sum(weight.numel() for weight in weights.values())
        weights["conv1.weight"] = torch.zeros_like(weights["conv1.weight"])
        body = create_assets(client, save(weights)) | {"kind": "sparsity"}
        run_worker(scratch, variables, "prepare")
        job = client.post("/v1/jobs", json=body).raise_for_status().json()
        assert (job["kind"], job["state"]) == ("sparsity", "queued")
        run_worker(scratch, variables, "train")
        job = client.get(job["links"]["self"]).raise_for_status().json()
        assert job["state"] == "succeeded", job["error"]
        report = client.get(job["links"]["report"]).raise_for_status().json()
        assert report == job["result"]
        assert report["num_weights"] >= num_weights - 100  # without counters of batches
        assert weights["conv1.weight"].numel() / num_weights <= report["zero_share"] < 1
        listed = client.get("/v1/jobs", params={"kind": "sparsity"}).json()["data"]
        assert [row["id"] for row in listed] == [job["id"]]


def create_assets(client: httpx.Client, weights: bytes) -> Json:
    """The ids of a data set and a model, which a worker prepares."""
    dataset_body = {"name": "digits", "source": "builtin:digits"}
    dataset = client.post("/v1/datasets", json=dataset_body).raise_for_status().json()
    model_body = {
        "name": "a model",
        "architecture": "cifar/resnet8",
        "num_classes": 10,
        "input_size": 8,
        "upload_id": upload(client, weights),
    }
    model = client.post("/v1/models", json=model_body).raise_for_status().json()
    return {"dataset": dataset["id"], "model": model["id"]}
