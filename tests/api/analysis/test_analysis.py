"""Compare and frontier: what differs, what it gave, and what nothing else beats."""

from typing import Any

import httpx
import pytest

from tests.conftest import TrainedJob
from tests.helpers import assert_problem, issue_codes

Json = dict[str, Any]


@pytest.fixture(scope="module")
def pair(trained_job: TrainedJob, trained_model: Json, run_queue: Any) -> tuple[Json, Json]:
    """The supervised job, and a student that its student teaches."""
    body = trained_job.body | {
        "name": "taught",
        "teachers": [{"model": trained_model["id"]}],
        "method": "kd",
        "training": {"epochs": 1, "batch_size": 128},
        "evaluation": {"baseline": False},
    }
    taught = trained_job.client.post("/v1/jobs", json=body).raise_for_status().json()
    run_queue("train")
    taught = trained_job.client.get(f"/v1/jobs/{taught['id']}").raise_for_status().json()
    assert taught["state"] == "succeeded", taught
    return trained_job.job, taught


def compared(client: httpx.Client, *jobs: Json, **params: Any) -> Json:
    ids = ",".join(job["id"] for job in jobs)
    found: Json = client.get("/v1/compare", params={"jobs": ids} | params).raise_for_status().json()
    return found


def test_only_what_differs_is_told(trained_job: TrainedJob, pair: tuple[Json, Json]) -> None:
    found = compared(trained_job.client, *pair)
    differing = {each["path"]: each["values"] for each in found["differences"]}
    assert differing["training.epochs"] == [2, 1]
    assert differing["training.batch_size"] == [256, 128]
    assert differing["method.kd.temperature"] == [None, 4.0]
    assert "dataset" not in differing
    assert "name" not in differing
    assert [job["methods"] for job in found["jobs"]] == [["supervised"], ["kd"]]
    assert found["jobs"][1]["teacher"] == ["cifar/resnet8"]


def test_metrics_have_their_distance_to_the_first(
    trained_job: TrainedJob, pair: tuple[Json, Json]
) -> None:
    reports = [
        trained_job.client.get(f"/v1/jobs/{job['id']}/report").raise_for_status().json()
        for job in pair
    ]
    there = compared(trained_job.client, *pair)
    back = compared(trained_job.client, *reversed(pair))
    top1 = next(each for each in there["metrics"] if each["key"] == "student.top1")
    wanted = [report["student"]["top1"] for report in reports]
    assert top1["values"] == wanted
    assert top1["deltas"] == [0, pytest.approx(wanted[1] - wanted[0])]
    assert top1["best"] == [at for at in range(2) if wanted[at] == max(wanted)]
    again = next(each for each in back["metrics"] if each["key"] == "student.top1")
    assert again["deltas"] == [0, pytest.approx(wanted[0] - wanted[1])]
    agreement = next(each for each in there["metrics"] if each["key"] == "student.agreement")
    assert agreement["values"][0] is None
    assert agreement["deltas"] == [None, None]


@pytest.mark.parametrize("axis", ["step", "epoch", "wall_s"])
def test_curves_are_aligned(trained_job: TrainedJob, pair: tuple[Json, Json], axis: str) -> None:
    curves = compared(trained_job.client, *pair, x=axis)["curves"]
    assert [len(curve["value"]) for curve in curves["val/top1"]] == [2, 1]
    assert all(len(curve[axis]) == len(curve["value"]) for curve in curves["train/loss"])
    assert curves["val/agreement"][0] is None


def test_one_job_alone_eleven_and_strangers_are_refused(
    trained_job: TrainedJob, pair: tuple[Json, Json], other_client: httpx.Client
) -> None:
    own = pair[0]["id"]
    for ids in (own, f"{own},{own}", ",".join(f"{own}{at}" for at in range(11))):
        answer = trained_job.client.get("/v1/compare", params={"jobs": ids})
        assert issue_codes(answer) == {"?jobs": "bad_count"}
    for client, ids in (
        (other_client, f"{own},{pair[1]['id']}"),
        (trained_job.client, f"{own},job_x"),
    ):
        assert_problem(client.get("/v1/compare", params={"jobs": ids}), 404, "not_found")


def test_the_frontier_has_every_student_and_each_teacher_once(
    trained_job: TrainedJob, pair: tuple[Json, Json], trained_model: Json
) -> None:
    params = {"dataset": trained_job.dataset["id"], "x": "size_bytes"}
    found = trained_job.client.get("/v1/frontier", params=params).raise_for_status().json()
    students = {each["job"]: each for each in found["data"] if each["role"] == "student"}
    assert set(students) >= {job["id"] for job in pair}
    (teacher,) = (each for each in found["data"] if each["role"] == "teacher")
    assert teacher["model"] == trained_model["id"]
    assert not teacher["on_frontier"]
    # All have the same size: the best alone is on the frontier.
    ahead = [each["y"] for each in students.values() if each["on_frontier"]]
    assert ahead == [max(each["y"] for each in students.values())]
    assert found["total"] == len(found["data"])


def test_agreement_needs_a_teacher(trained_job: TrainedJob, pair: tuple[Json, Json]) -> None:
    params = {"dataset": trained_job.dataset["id"], "y": "agreement", "x": "macs"}
    found = trained_job.client.get("/v1/frontier", params=params).raise_for_status().json()
    assert pair[0]["id"] not in {each["job"] for each in found["data"]}
    assert pair[1]["id"] in {each["job"] for each in found["data"]}


def test_a_strangers_data_set_has_no_frontier(
    trained_job: TrainedJob, other_client: httpx.Client
) -> None:
    params = {"dataset": trained_job.dataset["id"]}
    assert_problem(other_client.get("/v1/frontier", params=params), 404, "not_found")


def test_an_estimate_rests_on_what_was_measured(
    trained_job: TrainedJob, pair: tuple[Json, Json], client: httpx.Client, digits: Json
) -> None:
    asked = {"validate_only": True}
    again = trained_job.client.post("/v1/jobs", params=asked, json=trained_job.body).json()[
        "estimate"
    ]
    assert "of this pair" in again["basis"]
    seconds = again["seconds"]
    assert 0 < seconds["low"] < seconds["likely"] < seconds["high"]
    longer = trained_job.body | {"training": {"epochs": 40, "batch_size": 256}}
    later = trained_job.client.post("/v1/jobs", params=asked, json=longer).json()["estimate"]
    assert later["seconds"]["likely"] > seconds["likely"]
    other = trained_job.body | {"student": {"architecture": "cifar/resnet20"}}
    scaled = trained_job.client.post("/v1/jobs", params=asked, json=other).json()["estimate"]
    assert "scaled" in scaled["basis"]
    student = pair[0]["result"]
    # A safetensors file has a header and the running statistics beside the parameters.
    assert again["student_size_bytes"] <= student["size_bytes"] <= again["student_size_bytes"] * 1.1
    nothing = client.post(
        "/v1/jobs", params=asked, json=trained_job.body | {"dataset": digits["id"]}
    )
    assert nothing.json()["estimate"]["seconds"] is None


def test_what_was_measured_elsewhere_is_no_better_and_no_worse(
    trained_job: TrainedJob, pair: tuple[Json, Json]
) -> None:
    from sqlalchemy import update

    from store.database import transaction
    from store.tables import Job

    def on(device: str) -> None:
        result = {**whole, "device": device}
        with transaction() as session:
            session.execute(update(Job).where(Job.id == pair[1]["id"]).values(result=result))

    whole = trained_job.client.get(f"/v1/jobs/{pair[1]['id']}/report").json()
    on("another device")
    try:
        found = {each["key"]: each for each in compared(trained_job.client, *pair)["metrics"]}
    finally:
        on(whole["device"])
    latency, top1 = found["student.latency_ms"], found["student.top1"]
    assert (latency["best"], latency["deltas"]) == ([], [None, None])
    assert None not in latency["values"]
    assert top1["best"]
