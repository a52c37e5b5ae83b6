"""A teacher's answers are asked for once and serve every job of the project, on every worker."""

import shutil
import threading
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
from worker.files import teacher_cache

Json = dict[str, Any]
VIEWS = 2
LIST = "/v1/teacher-caches"


@pytest.fixture
def taught(
    empty_queue: None,
    trained_job: TrainedJob,
    trained_model: Json,
    run_queue: Callable[[str], None],
) -> Callable[..., Json]:
    """Teach a student with kept answers, on a worker that has nothing of earlier jobs."""

    def teach(seed: int, student: str = "cifar/resnet8", **recipe: int) -> Json:
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
        own = (
            trained_job.client.post("/v1/jobs", json=body)
            .raise_for_status()
            .json()["links"]["self"]
        )
        run_queue("train")
        job: Json = trained_job.client.get(own).raise_for_status().json()
        assert job["state"] == "succeeded", job["error"]
        report = trained_job.client.get(f"{own}/report").raise_for_status().json()
        kept: Json = report["details"]["teacher_cache"]
        student_sha256 = trained_job.client.get(f"{own}/artifacts").json()["data"]
        return kept | {"id": job["id"], "artifacts": student_sha256}

    return teach


def rows(client: httpx.Client, seed: int) -> list[Json]:
    data = client.get(LIST, params={"limit": 100}).raise_for_status().json()["data"]
    found = [row for row in data if row["seed"] == seed]
    return sorted(found, key=lambda row: int(row["view"]))


def weights(job: Json) -> str:
    (found,) = (a["sha256"] for a in job["artifacts"] if a["name"] == "student.safetensors")
    return str(found)


def test_a_second_job_asks_nothing_on_any_worker(
    trained_job: TrainedJob, taught: Callable[..., Json]
) -> None:
    first = taught(31)
    assert (first["asked"], first["found"]) == (VIEWS, 0)
    made = rows(trained_job.client, 31)
    assert [(row["view"], row["hits"], row["job_id"]) for row in made] == [
        (1, 0, first["id"]),
        (2, 0, first["id"]),
    ]
    assert all(row["fill_s"] > 0 and row["size_bytes"] > 0 for row in made)
    used = trained_job.client.get("/v1/usage").json()["storage_bytes"]
    assert used["teacher_caches"] >= sum(row["size_bytes"] for row in made)
    second = taught(31)
    assert (second["asked"], second["found"]) == (0, VIEWS)
    assert second["saved_s"] == pytest.approx(sum(row["fill_s"] for row in made), abs=0.01)
    assert weights(second) == weights(first)
    another = taught(31, "cifar/resnet14")
    assert (another["asked"], another["found"]) == (0, VIEWS)
    after = rows(trained_job.client, 31)
    assert [row["hits"] for row in after] == [2, 2]
    assert [row["sha256"] for row in after] == [row["sha256"] for row in made]


def test_jobs_of_other_seeds_may_share_their_views(taught: Callable[..., Json]) -> None:
    assert taught(41, view_seed=40)["asked"] == VIEWS
    second = taught(42, view_seed=40)
    assert (second["asked"], second["found"]) == (0, VIEWS)
    assert taught(40)["asked"] == 0


def test_a_row_that_names_a_wrong_seed_is_corrected(
    trained_job: TrainedJob, taught: Callable[..., Json]
) -> None:
    """Older versions wrote a job's first seed for all of its seeds."""
    taught(44)
    with transaction() as session:
        for row in session.scalars(select(TeacherCache).where(TeacherCache.seed == 44)):
            row.seed = 43
    assert taught(44)["asked"] == VIEWS
    assert len(rows(trained_job.client, 44)) == VIEWS
    assert taught(44)["found"] == VIEWS


def test_what_is_not_there_at_once_comes_while_it_trains(
    trained_job: TrainedJob, taught: Callable[..., Json], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(teacher_cache, "AT_ONCE_BYTES", 0)
    fetched: list[str] = []
    own = teacher_cache._download

    def bring(row: TeacherCache) -> None:
        fetched.append(threading.current_thread().name)
        own(row)

    monkeypatch.setattr(teacher_cache, "_bring", bring)
    first = taught(37)
    fetched.clear()
    second = taught(37)
    assert (second["asked"], second["found"]) == (0, VIEWS)
    assert weights(second) == weights(first)
    assert fetched == ["answers"] * VIEWS


def test_damaged_and_lost_answers_are_asked_for_again(
    trained_job: TrainedJob, taught: Callable[..., Json]
) -> None:
    taught(32)
    with transaction() as session:
        query = select(TeacherCache).where(TeacherCache.seed == 32).order_by(TeacherCache.view)
        damaged, lost = session.scalars(query).all()
    before = [row["sha256"] for row in rows(trained_job.client, 32)]
    (settings().work_dir / "bad").write_bytes(b"something else")
    object_store.put_file(damaged.object_key, settings().work_dir / "bad")
    object_store.delete(lost.object_key)
    again = taught(32)
    assert (again["asked"], again["found"]) == (VIEWS, 0)
    assert [row["sha256"] for row in rows(trained_job.client, 32)] == before
    assert taught(32)["found"] == VIEWS


def test_who_deletes_them_has_the_teacher_asked_again(
    trained_job: TrainedJob, taught: Callable[..., Json]
) -> None:
    taught(33)
    gone, kept = rows(trained_job.client, 33)
    assert trained_job.client.get(f"{LIST}/{gone['id']}").json() == gone
    assert trained_job.client.delete(f"{LIST}/{gone['id']}").status_code == 204
    assert_problem(trained_job.client.get(f"{LIST}/{gone['id']}"), 404, "not_found")
    assert [row["id"] for row in rows(trained_job.client, 33)] == [kept["id"]]
    again = taught(33)
    assert (again["asked"], again["found"]) == (1, 1)


def test_the_least_recently_used_go(
    trained_job: TrainedJob, taught: Callable[..., Json], monkeypatch: pytest.MonkeyPatch
) -> None:
    taught(34)
    taught(35)
    taught(34)
    size = rows(trained_job.client, 34)[0]["size_bytes"]
    monkeypatch.setattr(settings(), "teacher_cache_bytes", 2 * size)
    with transaction() as session:
        keys = session.scalars(select(TeacherCache.object_key).where(TeacherCache.seed == 35)).all()
        teacher_caches.evict(session)
    assert len(rows(trained_job.client, 34)) == VIEWS
    assert rows(trained_job.client, 35) == []
    from worker.maintenance.__main__ import (
        OrphanCollector,  # which wants the settings when it is imported
    )

    monkeypatch.setattr(settings(), "orphan_grace_s", -60.0)
    orphans = OrphanCollector()
    orphans.delete_orphans()
    orphans.delete_orphans()
    assert not any(object_store.exists(key) for key in keys)
    assert taught(34)["found"] == VIEWS


def test_a_teacher_can_be_asked_ahead(
    trained_job: TrainedJob,
    taught: Callable[..., Json],
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
    own = warming["links"]["self"]
    run_queue("train")
    job = client.get(own).raise_for_status().json()
    assert (job["state"], job["error"]) == ("succeeded", None)
    assert assert_problem(client.get(f"{own}/report"), 409)["code"] == "no_report"
    assert client.get(f"{own}/artifacts").json()["data"] == []
    for seed in (36, 37):
        assert [row["job_id"] for row in rows(client, seed)] == [job["id"]] * VIEWS
        assert taught(seed)["found"] == VIEWS
    dataset = trained_job.dataset["id"]
    assert client.get("/v1/frontier", params={"dataset": dataset}).status_code == 200
    bad = body | {"training": {"views": "fresh"}, "teachers": []}
    told = {"/training/views": "fresh_views", "/teachers": "teacher_required"}
    for only in (False, True):
        answer = client.post(f"{LIST}/warm", params={"validate_only": only}, json=bad)
        assert issue_codes(answer) == told


def test_what_is_never_kept_is_not_asked_ahead(
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
    own = (
        trained_job.client.post(f"{LIST}/warm", json=body)
        .raise_for_status()
        .json()["links"]["self"]
    )
    run_queue("train")
    job = trained_job.client.get(own).raise_for_status().json()
    assert (job["state"], job["error"]["code"]) == ("failed", "job_invalid")
    assert "logits" in job["error"]["message"]
