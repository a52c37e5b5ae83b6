"""Comparison, frontier and duration estimate."""

import contextlib
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.conftest import TrainedJob
from tests.helpers import assert_problem, issue_codes

Json = dict[str, Any]


@pytest.fixture(scope="module")
def job_pair(trained_job: TrainedJob, trained_model: Json, run_queue: Any) -> tuple[Json, Json]:
    """The supervised job, and a job whose teacher is its student."""
    body = trained_job.body | {
        "name": "distilled",
        "teachers": [{"model": trained_model["id"]}],
        "method": "kd",
        "training": {"epochs": 1, "batch_size": 128},
        "evaluation": {"baseline": False},
    }
    distilled = trained_job.client.post("/v1/jobs", json=body).raise_for_status().json()
    run_queue("train")
    distilled = trained_job.client.get(f"/v1/jobs/{distilled['id']}").raise_for_status().json()
    assert distilled["state"] == "succeeded", distilled
    return trained_job.job, distilled


def compare(client: httpx.Client, *jobs: Json, **params: Any) -> Json:
    ids = ",".join(job["id"] for job in jobs)
    comparison: Json = (
        client.get("/v1/compare", params={"jobs": ids} | params).raise_for_status().json()
    )
    return comparison


def test_only_differences_are_listed(trained_job: TrainedJob, job_pair: tuple[Json, Json]) -> None:
    comparison = compare(trained_job.client, *job_pair)
    differing = {row["path"]: row["values"] for row in comparison["differences"]}
    assert differing["training.epochs"] == [2, 1]
    assert differing["training.batch_size"] == [256, 128]
    assert differing["method.kd.temperature"] == [None, 4.0]
    assert "dataset" not in differing
    assert "name" not in differing
    assert [job["methods"] for job in comparison["jobs"]] == [["supervised"], ["kd"]]
    assert comparison["jobs"][1]["teacher"] == ["cifar/resnet8"]


def test_deltas_are_relative_to_the_first_job(
    trained_job: TrainedJob, job_pair: tuple[Json, Json]
) -> None:
    reports = [
        trained_job.client.get(f"/v1/jobs/{job['id']}/report").raise_for_status().json()
        for job in job_pair
    ]
    forward = compare(trained_job.client, *job_pair)
    backward = compare(trained_job.client, *reversed(job_pair))
    top1 = next(row for row in forward["metrics"] if row["key"] == "student.top1")
    expected = [report["student"]["top1"] for report in reports]
    assert top1["values"] == expected
    assert top1["deltas"] == [0, pytest.approx(expected[1] - expected[0])]
    assert top1["best"] == [index for index in range(2) if expected[index] == max(expected)]
    again = next(row for row in backward["metrics"] if row["key"] == "student.top1")
    assert again["deltas"] == [0, pytest.approx(expected[0] - expected[1])]
    agreement = next(row for row in forward["metrics"] if row["key"] == "student.agreement")
    assert agreement["values"][0] is None
    assert agreement["deltas"] == [None, None]


@pytest.mark.parametrize("axis", ["step", "epoch", "wall_s"])
def test_curves_are_aligned(
    trained_job: TrainedJob, job_pair: tuple[Json, Json], axis: str
) -> None:
    curves = compare(trained_job.client, *job_pair, x=axis)["curves"]
    assert [len(curve["value"]) for curve in curves["val/top1"]] == [2, 1]
    assert all(len(curve[axis]) == len(curve["value"]) for curve in curves["train/loss"])
    assert curves["val/agreement"][0] is None


def test_invalid_job_lists_are_rejected(
    trained_job: TrainedJob, job_pair: tuple[Json, Json], other_client: httpx.Client
) -> None:
    job_id = job_pair[0]["id"]
    for ids in (job_id, f"{job_id},{job_id}", ",".join(f"{job_id}{index}" for index in range(11))):
        response = trained_job.client.get("/v1/compare", params={"jobs": ids})
        assert issue_codes(response) == {"?jobs": "bad_count"}
    for client, ids in (
        (other_client, f"{job_id},{job_pair[1]['id']}"),
        (trained_job.client, f"{job_id},job_x"),
    ):
        assert_problem(client.get("/v1/compare", params={"jobs": ids}), 404, "not_found")


def test_frontier_has_every_student_and_teacher_once(
    trained_job: TrainedJob, job_pair: tuple[Json, Json], trained_model: Json
) -> None:
    params = {"dataset": trained_job.dataset["id"], "x": "size_bytes"}
    frontier = trained_job.client.get("/v1/frontier", params=params).raise_for_status().json()
    students = {row["job"]: row for row in frontier["data"] if row["role"] == "student"}
    assert set(students) >= {job["id"] for job in job_pair}
    (teacher,) = (row for row in frontier["data"] if row["role"] == "teacher")
    assert teacher["model"] == trained_model["id"]
    assert not teacher["on_frontier"]
    # All students have the same size, so only the best is on the frontier.
    ahead = [row["y"] for row in students.values() if row["on_frontier"]]
    assert ahead == [max(row["y"] for row in students.values())]
    assert frontier["total"] == len(frontier["data"])
    assert frontier["axes"]["x"] == {"trusted": True, "note": None}
    gap = max(row["y"] for row in students.values()) - min(row["y"] for row in students.values())
    note = frontier["axes"]["y"]["note"]
    assert frontier["axes"]["y"]["trusted"] == (note is None)
    assert note is None or gap < float(note.split("up to ")[1].split()[0]) + 0.05


def test_agreement_needs_a_teacher(trained_job: TrainedJob, job_pair: tuple[Json, Json]) -> None:
    params = {"dataset": trained_job.dataset["id"], "y": "agreement", "x": "macs"}
    frontier = trained_job.client.get("/v1/frontier", params=params).raise_for_status().json()
    assert job_pair[0]["id"] not in {row["job"] for row in frontier["data"]}
    assert job_pair[1]["id"] in {row["job"] for row in frontier["data"]}


def test_foreign_data_set_has_no_frontier(
    trained_job: TrainedJob, other_client: httpx.Client
) -> None:
    params = {"dataset": trained_job.dataset["id"]}
    assert_problem(other_client.get("/v1/frontier", params=params), 404, "not_found")


def test_estimate_uses_finished_jobs(
    trained_job: TrainedJob, job_pair: tuple[Json, Json], client: httpx.Client, digits: Json
) -> None:
    params = {"validate_only": True}
    estimate = trained_job.client.post("/v1/jobs", params=params, json=trained_job.body).json()[
        "estimate"
    ]
    assert "of this pair" in estimate["basis"]
    seconds = estimate["seconds"]
    assert 0 < seconds["low"] < seconds["likely"] < seconds["high"]
    longer = trained_job.body | {"training": {"epochs": 40, "batch_size": 256}}
    longer_estimate = trained_job.client.post("/v1/jobs", params=params, json=longer).json()[
        "estimate"
    ]
    assert longer_estimate["seconds"]["likely"] > seconds["likely"]
    other = trained_job.body | {"student": {"architecture": "cifar/resnet20"}}
    scaled = trained_job.client.post("/v1/jobs", params=params, json=other).json()["estimate"]
    assert "scaled" in scaled["basis"]
    student = job_pair[0]["result"]
    # A safetensors file also has a header and running statistics.
    assert (
        estimate["student_size_bytes"]
        <= student["size_bytes"]
        <= estimate["student_size_bytes"] * 1.1
    )
    other_project = client.post(
        "/v1/jobs", params=params, json=trained_job.body | {"dataset": digits["id"]}
    )
    assert other_project.json()["estimate"]["seconds"] is None


@contextlib.contextmanager
def changed_report(job_id: str, report: Json, original: Json) -> Iterator[None]:
    """The job's stored report is ``report`` within the block."""
    from sqlalchemy import update

    from store.database import transaction
    from store.tables import Job

    def write(result: Json) -> None:
        with transaction() as session:
            session.execute(update(Job).where(Job.id == job_id).values(result=result))

    write(report)
    try:
        yield
    finally:
        write(original)


def test_frontier_says_that_a_disturbed_latency_orders_nothing(
    trained_job: TrainedJob, job_pair: tuple[Json, Json]
) -> None:
    report = trained_job.client.get(f"/v1/jobs/{job_pair[1]['id']}/report").json()
    latency = report["student"]["latency_ms"] | {"unsteady": True, "spread": 1.6}
    disturbed = report | {"student": report["student"] | {"latency_ms": latency}}
    params = {"dataset": trained_job.dataset["id"], "x": "latency_ms"}
    with changed_report(job_pair[1]["id"], disturbed, report):
        frontier = trained_job.client.get("/v1/frontier", params=params).raise_for_status().json()
    assert {row["job"] for row in frontier["data"] if row["unsteady"]} >= {job_pair[1]["id"]}
    assert not frontier["axes"]["x"]["trusted"]
    assert "evaluate these students again" in frontier["axes"]["x"]["note"]


def test_latencies_of_different_devices_are_not_compared(
    trained_job: TrainedJob, job_pair: tuple[Json, Json]
) -> None:
    report = trained_job.client.get(f"/v1/jobs/{job_pair[1]['id']}/report").json()
    with changed_report(job_pair[1]["id"], report | {"device": "another device"}, report):
        metrics = {row["key"]: row for row in compare(trained_job.client, *job_pair)["metrics"]}
    latency, top1 = metrics["student.latency_ms"], metrics["student.top1"]
    assert (latency["best"], latency["deltas"]) == ([], [None, None])
    assert None not in latency["values"]
    assert top1["best"]


@pytest.mark.parametrize(
    ("values", "num_images", "note"),
    [
        ([100, 90], 10, "all students lie within 10.0 points of top1, and chance explains"),
        ([100, 100, 100], 10, "all students have the same top1, and chance explains"),
        ([0, 0], 10, "all students have the same top1, and chance explains"),
        ([100, 90], 1000, None),
        ([100, 20], 10, None),
        ([91, 90], 1000, "all students lie within 1.0 points of top1, and chance explains"),
        ([1e30, -1e30], 10, None),
        ([90, 90], 0, None),
        ([90], 10, None),
    ],
)
def test_order_that_chance_explains_is_not_trusted(
    values: list[float], num_images: int, note: str | None
) -> None:
    from api.analysis.frontier import axis_trust

    students = [{"role": "student", "y": value} for value in values]
    trust = axis_trust(students, "macs", "top1", num_images)["y"]
    assert trust["trusted"] == (note is None)
    assert trust["note"] == note or trust["note"].startswith(note)


def test_unknown_costs_are_null(trained_job: TrainedJob, job_pair: tuple[Json, Json]) -> None:
    report = trained_job.client.get(f"/v1/jobs/{job_pair[1]['id']}/report").json()
    unknown = {"size_bytes": None, "num_params": None, "latency_ms": None}
    reduced = report | {"device": None, "student": report["student"] | unknown}
    params = {"dataset": trained_job.dataset["id"], "x": "macs"}
    with changed_report(job_pair[1]["id"], reduced, report):
        frontier = trained_job.client.get("/v1/frontier", params=params).raise_for_status().json()
    students = {row["job"]: row for row in frontier["data"] if row["role"] == "student"}
    point = students[job_pair[1]["id"]]
    assert {name: point[name] for name in (*unknown, "device")} == unknown | {"device": None}
    assert point["macs"] == report["student"]["macs"]
