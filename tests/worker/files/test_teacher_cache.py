"""Outputs of a teacher are computed once and serve every job of the project, on every worker."""

import shutil
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from sqlalchemy import select

from store import object_store, teacher_caches
from store.database import transaction
from store.settings import settings
from store.tables import TeacherCache
from tests.conftest import TrainedJob
from tests.helpers import assert_problem, issue_codes
from worker.maintenance.gc import OrphanCollector

Json = dict[str, Any]
VIEWS = 2
LIST = "/v1/teacher-caches"


@pytest.fixture
def train(
    empty_queue: None,
    trained_job: TrainedJob,
    trained_model: Json,
    run_queue: Callable[[str], None],
) -> Callable[..., Json]:
    """Train a student with cached outputs, on a worker without files of earlier jobs."""

    def train_student(seed: int, student: str = "cifar/resnet8", **recipe: int) -> Json:
        shutil.rmtree(settings().work_dir / "cache", ignore_errors=True)
        body = {
            "student": {"architecture": student},
            "teachers": [{"model": trained_model["id"]}],
            "dataset": trained_job.dataset["id"],
            "method": "kd",
            "training": {"epochs": VIEWS + 1, "batch_size": 256, "views": VIEWS} | recipe,
            "evaluation": {"baseline": False},
            "seed": seed,
        }
        url = (
            trained_job.client.post("/v1/jobs", json=body)
            .raise_for_status()
            .json()["links"]["self"]
        )
        run_queue("train")
        job: Json = trained_job.client.get(url).raise_for_status().json()
        assert job["state"] == "succeeded", job["error"]
        report = trained_job.client.get(f"{url}/report").raise_for_status().json()
        cache: Json = report["details"]["teacher_cache"]
        student_sha256 = trained_job.client.get(f"{url}/artifacts").json()["data"]
        return cache | {"id": job["id"], "artifacts": student_sha256}

    return train_student


def rows(client: httpx.Client, seed: int) -> list[Json]:
    data = client.get(LIST, params={"limit": 100}).raise_for_status().json()["data"]
    matching = [row for row in data if row["seed"] == seed]
    return sorted(matching, key=lambda row: int(row["view"]))


def weights(job: Json) -> str:
    (sha256,) = (a["sha256"] for a in job["artifacts"] if a["name"] == "student.safetensors")
    return str(sha256)


def test_second_job_computes_no_outputs_on_any_worker(
    trained_job: TrainedJob, train: Callable[..., Json]
) -> None:
    first = train(31)
    assert (first["misses"], first["hits"]) == (VIEWS, 0)
    created = rows(trained_job.client, 31)
    assert [(row["view"], row["hits"], row["job_id"]) for row in created] == [
        (1, 0, first["id"]),
        (2, 0, first["id"]),
    ]
    assert all(row["fill_s"] > 0 and row["size_bytes"] > 0 for row in created)
    used = trained_job.client.get("/v1/usage").json()["storage_bytes"]
    assert used["teacher_caches"] >= sum(row["size_bytes"] for row in created)
    second = train(31)
    assert (second["misses"], second["hits"]) == (0, VIEWS)
    assert second["saved_s"] == pytest.approx(sum(row["fill_s"] for row in created), abs=0.01)
    assert weights(second) == weights(first)
    another = train(31, "cifar/resnet14")
    assert (another["misses"], another["hits"]) == (0, VIEWS)
    after = rows(trained_job.client, 31)
    assert [row["hits"] for row in after] == [2, 2]
    assert [row["sha256"] for row in after] == [row["sha256"] for row in created]


def test_jobs_of_other_seeds_share_views_of_one_view_seed(train: Callable[..., Json]) -> None:
    assert train(41, view_seed=40)["misses"] == VIEWS
    second = train(42, view_seed=40)
    assert (second["misses"], second["hits"]) == (0, VIEWS)
    assert train(40)["misses"] == 0


def test_wrong_seed_of_a_row_is_corrected(
    trained_job: TrainedJob, train: Callable[..., Json]
) -> None:
    """Older versions wrote a job's first seed for all of its seeds."""
    train(44)
    with transaction() as session:
        for row in session.scalars(select(TeacherCache).where(TeacherCache.seed == 44)):
            row.seed = 43
    assert train(44)["misses"] == VIEWS
    assert len(rows(trained_job.client, 44)) == VIEWS
    assert train(44)["hits"] == VIEWS


def test_outputs_beyond_the_prefetch_limit_are_downloaded_while_it_trains(
    trained_job: TrainedJob, train: Callable[..., Json], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings(), "teacher_cache_prefetch_bytes", 0)
    first = train(37)
    second = train(37)
    assert (second["misses"], second["hits"]) == (0, VIEWS)
    assert weights(second) == weights(first)


def test_damaged_and_deleted_outputs_are_computed_again(
    trained_job: TrainedJob, train: Callable[..., Json]
) -> None:
    train(32)
    with transaction() as session:
        query = select(TeacherCache).where(TeacherCache.seed == 32).order_by(TeacherCache.view)
        damaged, lost = session.scalars(query).all()
    before = [row["sha256"] for row in rows(trained_job.client, 32)]
    (settings().work_dir / "bad").write_bytes(b"something else")
    object_store.put_file(damaged.object_key, settings().work_dir / "bad")
    object_store.delete(lost.object_key)
    again = train(32)
    assert (again["misses"], again["hits"]) == (VIEWS, 0)
    assert [row["sha256"] for row in rows(trained_job.client, 32)] == before
    assert train(32)["hits"] == VIEWS


def test_deleted_row_is_computed_again(trained_job: TrainedJob, train: Callable[..., Json]) -> None:
    train(33)
    deleted, other = rows(trained_job.client, 33)
    assert trained_job.client.get(f"{LIST}/{deleted['id']}").json() == deleted
    assert trained_job.client.delete(f"{LIST}/{deleted['id']}").status_code == 204
    assert_problem(trained_job.client.get(f"{LIST}/{deleted['id']}"), 404, "not_found")
    assert [row["id"] for row in rows(trained_job.client, 33)] == [other["id"]]
    again = train(33)
    assert (again["misses"], again["hits"]) == (1, 1)


def test_least_recently_used_rows_are_evicted(
    trained_job: TrainedJob, train: Callable[..., Json], monkeypatch: pytest.MonkeyPatch
) -> None:
    train(34)
    train(35)
    train(34)
    size = rows(trained_job.client, 34)[0]["size_bytes"]
    monkeypatch.setattr(settings(), "teacher_cache_bytes", 2 * size)
    with transaction() as session:
        keys = session.scalars(select(TeacherCache.object_key).where(TeacherCache.seed == 35)).all()
        teacher_caches.evict(session)
    assert len(rows(trained_job.client, 34)) == VIEWS
    assert rows(trained_job.client, 35) == []
    monkeypatch.setattr(settings(), "orphan_grace_s", -60.0)
    orphans = OrphanCollector()
    orphans.delete_orphans()
    orphans.delete_orphans()
    assert not any(object_store.exists(key) for key in keys)
    assert train(34)["hits"] == VIEWS


def test_cache_is_filled_before_the_job(
    trained_job: TrainedJob,
    train: Callable[..., Json],
    trained_model: Json,
    run_queue: Callable[[str], None],
) -> None:
    client = trained_job.client
    body = {
        "student": {"architecture": "cifar/resnet8"},
        "teachers": [{"model": trained_model["id"]}],
        "dataset": trained_job.dataset["id"],
        "training": {"epochs": VIEWS + 1, "views": VIEWS},
        "evaluation": {"seeds": 2},
        "seed": 36,
    }
    before = client.get("/v1/jobs").json()["data"]
    checked = client.post(f"{LIST}/warm", params={"validate_only": True}, json=body)
    assert (checked.status_code, checked.json()["resolved"]["seed"]) == (200, 36)
    assert client.get("/v1/jobs").json()["data"] == before
    warming = client.post(f"{LIST}/warm", json=body).raise_for_status().json()
    assert (warming["kind"], warming["state"]) == ("warm", "queued")
    url = warming["links"]["self"]
    run_queue("train")
    job = client.get(url).raise_for_status().json()
    assert (job["state"], job["error"]) == ("succeeded", None)
    assert assert_problem(client.get(f"{url}/report"), 409)["code"] == "no_report"
    assert client.get(f"{url}/artifacts").json()["data"] == []
    for seed in (36, 37):
        assert [row["job_id"] for row in rows(client, seed)] == [job["id"]] * VIEWS
        assert train(seed)["hits"] == VIEWS
    dataset = trained_job.dataset["id"]
    assert client.get("/v1/frontier", params={"dataset": dataset}).status_code == 200
    bad = body | {"training": {"views": "fresh"}, "teachers": []}
    expected = {"/training/views": "fresh_views", "/teachers": "teacher_required"}
    for only in (False, True):
        response = client.post(f"{LIST}/warm", params={"validate_only": only}, json=bad)
        assert issue_codes(response) == expected


def test_cache_fill_fails_for_outputs_that_cannot_be_cached(
    trained_job: TrainedJob,
    empty_queue: None,
    trained_model: Json,
    run_queue: Callable[[str], None],
) -> None:
    body = {
        "student": {"architecture": "cifar/resnet8"},
        "teachers": [{"model": trained_model["id"]}],
        "dataset": trained_job.dataset["id"],
        "method": "attention",
        "training": {"epochs": 1, "views": 1},
    }
    url = (
        trained_job.client.post(f"{LIST}/warm", json=body)
        .raise_for_status()
        .json()["links"]["self"]
    )
    run_queue("train")
    job = trained_job.client.get(url).raise_for_status().json()
    assert (job["state"], job["error"]["code"]) == ("failed", "job_invalid")
    assert "feature maps" in job["error"]["message"]
