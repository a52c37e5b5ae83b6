"""Evaluations, continued jobs and derived students, through a real worker."""

from collections.abc import Callable
from typing import Any

import pytest

Json = dict[str, Any]


def run_job(trained_job: Any, run_queue: Callable[[str], None], body: Json) -> Json:
    posted = trained_job.client.post("/v1/jobs", json=body)
    assert posted.status_code == 201, posted.text
    run_queue("train")
    job: Json = trained_job.client.get(f"/v1/jobs/{posted.json()['id']}").json()
    assert job["state"] == "succeeded", job["error"]
    return job


def get_report(trained_job: Any, job: Json) -> Json:
    report: Json = trained_job.client.get(f"/v1/jobs/{job['id']}/report").json()
    return report


def test_evaluation_reports_the_unchanged_model(
    trained_job: Any, trained_model: Json, run_queue: Callable[[str], None]
) -> None:
    body = {"kind": "evaluate", "model": trained_model["id"], "dataset": trained_job.dataset["id"]}
    job = run_job(trained_job, run_queue, body)
    report = get_report(trained_job, job)
    assert report["student"]["top1"] == get_report(trained_job, trained_job.job)["student"]["top1"]
    assert report["epochs"] is None
    assert job["kind"] == "evaluate"


@pytest.mark.parametrize("checkpoint", ["best", "last"])
def test_job_continues_from_an_earlier_job(
    trained_job: Any, run_queue: Callable[[str], None], checkpoint: str
) -> None:
    body = {
        "student": {"architecture": "cifar/resnet8"},
        "dataset": trained_job.dataset["id"],
        "method": "supervised",
        "from": {"job": trained_job.job["id"], "checkpoint": checkpoint},
        "training": {"epochs": 1, "batch_size": 256, "optimizer": {"type": "sgd", "lr": 1e-9}},
    }
    checkpoints = trained_job.client.get(f"/v1/jobs/{trained_job.job['id']}/checkpoints").json()[
        "data"
    ]
    if checkpoint == "last" and not checkpoints:
        assert trained_job.client.post("/v1/jobs", json=body).status_code == 422
        return
    report = get_report(trained_job, run_job(trained_job, run_queue, body))
    assert report["student"]["top1"] == pytest.approx(
        get_report(trained_job, trained_job.job)["student"]["top1"], abs=3
    )


def test_derived_student_becomes_a_teacher_in_onnx_and_in_torch(
    trained_job: Any, trained_model: Json, run_queue: Callable[[str], None]
) -> None:
    body = {
        "student": {"derive": "teacher", "groups": 4, "width": 0.5},
        "dataset": trained_job.dataset["id"],
        "teachers": [{"model": trained_model["id"]}],
        "method": "rkd",
        "training": {"epochs": 3, "batch_size": 128},
        "evaluation": {"baseline": False},
        "exports": ["onnx"],
    }
    job = run_job(trained_job, run_queue, body)
    artifacts = trained_job.client.get(f"/v1/jobs/{job['id']}/artifacts").json()["data"]
    assert {"student.safetensors", "student.onnx"} <= {artifact["name"] for artifact in artifacts}
    assert get_report(trained_job, job)["exports"]["onnx"]["agreement"] == 100.0
    derived = trained_job.client.post(
        "/v1/models", json={"name": "derived", "source": f"job:{job['id']}"}
    ).json()
    assert derived["architecture"] == "cifar/resnet8+grouped-4+width-0.5"
    pair = {
        "student": {"architecture": "cifar/resnet8"},
        "dataset": trained_job.dataset["id"],
        "teachers": [{"model": derived["id"]}],
        "training": {"epochs": 1, "batch_size": 256},
        "evaluation": {"baseline": False},
    }
    assert (
        get_report(trained_job, run_job(trained_job, run_queue, pair))["teacher"]["num_params"] > 0
    )
