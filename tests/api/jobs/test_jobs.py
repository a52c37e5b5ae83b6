"""Jobs are created, resolved, listed, changed, cancelled and deleted."""

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

import httpx
import pytest
from sqlalchemy import func, select

from api.http.problems import ProblemError
from store import jobs as transitions
from store.database import transaction
from store.tables import Job, OutboxMessage
from tests.helpers import assert_problem, issue_codes, job_body, submit_job

Json = dict[str, Any]
MINIMAL = {"student": {"architecture": "cifar/resnet8"}}


def test_minimal_job_has_every_documented_default(client: httpx.Client, digits: Json) -> None:
    body = MINIMAL | {"dataset": digits["id"]}
    response = client.post("/v1/jobs", json=body)
    assert response.status_code == 201, response.text
    created = response.json()
    assert response.headers["location"] == f"/v1/jobs/{created['id']}"
    stored = client.get(response.headers["location"])
    assert stored.json() == created
    resolved = created["resolved"]
    assert resolved.pop("name")
    assert [method["type"] for method in resolved.pop("method")] == ["supervised"]
    assert resolved == {
        "kind": "distill",
        "teachers": [],
        "model": None,
        "from": None,
        "student": {
            "architecture": "cifar/resnet8",
            "init": "random",
            "num_classes": 10,
            **dict.fromkeys(("derive", "convolution", "groups", "width", "channels", "taps")),
            "class_map": None,
        },
        "dataset": digits["id"],
        "label_weight": 1.0,
        "scheme": {"type": "offline"},
        "preset": None,
        "training": {
            "epochs": 30,
            "batch_size": 64,
            "optimizer": {
                "type": "sgd",
                "lr": 0.05,
                "momentum": 0.9,
                "weight_decay": 0.0005,
                "nesterov": False,
            },
            "schedule": {"type": "cosine", "warmup_epochs": 1.0},
            "augmentation": {"type": "crop_flip", "padding": 1, "flip": False},
            "views": "fresh",
            "view_seed": None,
            "teacher_cache_logits": "all",
            "clip_grad_norm": None,
            "early_stopping": None,
            "label_smoothing": 0.0,
            "class_weights": None,
            "precision": "auto",
            "teacher_precision": "same",
            "determinism": "strict",
        },
        "evaluation": {"baseline": False, "seeds": 1},
        "exports": ["safetensors"],
        "accept": None,
        "limits": {"wall_s": None, "device_s": None},
        "seed": 0,
        "priority": 0,
        "labels": {},
    }
    fields = {"id", "object", "state", "phase", "desired_state", "progress", "eta_s", "run"}
    fields |= {"queue_position", "waiting_reason", "created_at", "started_at", "finished_at"}
    fields |= {"resolved", "usage", "error", "result", "links"}
    assert fields | set(body) <= set(created)
    assert (created["object"], created["state"]) == ("job", "queued")
    assert created["created_at"].endswith("Z")


def test_job_with_a_teacher_defaults_to_kd_and_a_baseline(
    trained_job: Any, trained_model: Json
) -> None:
    body = MINIMAL | {
        "dataset": trained_job.dataset["id"],
        "teachers": [{"model": trained_model["id"]}],
    }
    response = trained_job.client.post("/v1/jobs?validate_only=true", json=body)
    resolved = response.raise_for_status().json()["resolved"]
    (method,) = resolved["method"]
    assert (method["type"], method["temperature"], method["weight"]) == ("kd", 4.0, 0.9)
    assert resolved["label_weight"] == 0.1
    assert resolved["evaluation"] == {"baseline": True, "seeds": 1}
    unset = dict.fromkeys(("class_map", "channels", "taps"))
    assert resolved["teachers"] == [{"model": trained_model["id"], "weight": 1.0} | unset]
    for methods, weight in (
        ("logit_matching", 1.0),
        ([{"type": "kd"}, {"type": "logit_matching"}], 0.1),
    ):
        response = trained_job.client.post(
            "/v1/jobs?validate_only=true", json=body | {"method": methods}
        )
        assert response.json()["resolved"]["label_weight"] == weight


def test_resolved_job_has_auto_weights_and_the_numbers_of_published_ones(
    trained_job: Any, trained_model: Json
) -> None:
    body = MINIMAL | {
        "dataset": trained_job.dataset["id"],
        "teachers": [{"model": trained_model["id"]}],
        "method": [
            {"type": "kd", "weight": "auto"},
            {"type": "attention", "weight": "published"},
            {"type": "correlation", "form": "gaussian"},
        ],
    }
    response = trained_job.client.post("/v1/jobs?validate_only=true", json=body)
    resolved = response.raise_for_status().json()["resolved"]
    assert [method["weight"] for method in resolved["method"]] == ["auto", 1000, 100]
    assert resolved["label_weight"] == "auto"
    # The resolved fields are a valid job.
    again = body | {name: resolved[name] for name in ("method", "label_weight")}
    response = trained_job.client.post("/v1/jobs?validate_only=true", json=again)
    assert response.raise_for_status().json()["resolved"]["method"] == resolved["method"]


def test_documented_example_is_accepted(trained_job: Any, trained_model: Json) -> None:
    training = {
        "epochs": 30,
        "batch_size": 64,
        "optimizer": {"type": "sgd", "lr": 0.05, "momentum": 0.9, "weight_decay": 0.0005},
        "schedule": {"type": "cosine", "warmup_epochs": 1},
        "augmentation": {"type": "crop_flip", "padding": 4, "flip": True},
        "clip_grad_norm": None,
        "early_stopping": None,
        "precision": "auto",
        "determinism": "strict",
    }
    body = {
        "name": "resnet56 -> resnet20",
        "teachers": [{"model": trained_model["id"], "weight": 1.0}],
        "student": {"architecture": "cifar/resnet20", "init": "random"},
        "dataset": trained_job.dataset["id"],
        "method": [{"type": "kd", "temperature": 4.0, "weight": 0.9}],
        "label_weight": 0.1,
        "scheme": {"type": "offline"},
        "training": training,
        "evaluation": {"baseline": True, "seeds": 1},
        "exports": ["safetensors"],
        "accept": {"max_top1_drop": 1.5, "max_size_bytes": 2000000},
        "limits": {"wall_s": None, "device_s": None},
        "seed": 0,
        "priority": 0,
        "labels": {"team": "vision"},
    }
    response = trained_job.client.post("/v1/jobs?validate_only=true", json=body)
    resolved = response.raise_for_status().json()["resolved"]
    assert resolved["training"]["augmentation"] == training["augmentation"]
    assert resolved["labels"] == {"team": "vision"}


def test_validate_only_stores_nothing(client: httpx.Client, digits: Json, tenant: Any) -> None:
    with transaction() as session:
        pokes = session.scalar(select(func.count()).select_from(OutboxMessage))
    response = client.post("/v1/jobs?validate_only=true", json=job_body(digits)).raise_for_status()
    assert set(response.json()) == {"resolved", "estimate", "warnings", "methods"}
    assert response.json()["resolved"]["training"]["epochs"] == 1
    assert "location" not in response.headers
    with transaction() as session:
        query = select(func.count()).select_from(Job).where(Job.project_id == tenant.id)
        assert session.scalar(query) == 0
        assert session.scalar(select(func.count()).select_from(OutboxMessage)) == pokes
    response = client.post("/v1/jobs?validate_only=true", json=job_body(digits, seed=-1))
    assert set(issue_codes(response)) == {"/seed"}


def test_queue_of_a_project_is_limited(client: httpx.Client, digits: Json, tenant: Any) -> None:
    from api.jobs.service import require_queue_capacity
    from store.access.credentials import Principal

    caller = Principal(tenant.id, "", frozenset())
    submit_job(client, digits)
    with transaction() as session:
        require_queue_capacity(session, caller, max_queued=2)
        with pytest.raises(ProblemError) as rejected:
            require_queue_capacity(session, caller, max_queued=1)
    assert (rejected.value.status, rejected.value.code) == (429, "queue_full")
    assert rejected.value.headers["Retry-After"] == "30"


def test_job_list_is_filtered(client: httpx.Client, digits: Json) -> None:
    first = submit_job(client, digits, name="Alpha 100%", labels={"team": "a", "x/y": "z:w"})
    body = job_body(digits, name="beta_1", student={"architecture": "cifar/resnet14"})
    second = client.post("/v1/jobs", json=body).raise_for_status().json()
    third = submit_job(client, digits, name="gamma")
    client.post(f"{third['links']['self']}/cancel").raise_for_status()
    jobs = {first["id"]: "1", second["id"]: "2", third["id"]: "3"}
    for query, expected in (
        ({}, "321"),
        ({"sort": "created_at"}, "123"),
        ({"state": "queued"}, "21"),
        ({"state": ["queued", "cancelled"]}, "321"),
        ({"state": "running"}, ""),
        ({"method": "supervised"}, "321"),
        ({"method": "kd"}, ""),
        ({"method": ["supervised", "kd"]}, ""),
        ({"kind": "distill"}, "321"),
        ({"kind": "evaluate"}, ""),
        ({"architecture": "cifar/resnet14"}, "2"),
        ({"dataset": digits["id"]}, "321"),
        ({"dataset": "ds_x"}, ""),
        ({"label": "team:a"}, "1"),
        ({"label": ["team:a", "x/y:z:w"]}, "1"),
        ({"label": ["team:a", "x/y:z"]}, ""),
        ({"label": "team:b"}, ""),
        ({"q": "ALPHA"}, "1"),
        ({"q": "%"}, "1"),
        ({"q": "_"}, "2"),
        ({"q": third["id"]}, "3"),
        ({"created_after": first["created_at"]}, "32"),
        ({"created_after": third["created_at"], "sort": "created_at"}, ""),
    ):
        listed = client.get("/v1/jobs", params=query).raise_for_status().json()["data"]
        assert "".join(jobs[row["id"]] for row in listed) == expected, query
    for query in (
        {"state": "x"},
        {"label": "x"},
        {"sort": "name"},
        {"kind": "x"},
        {"created_after": "today"},
    ):
        (name,) = query
        assert next(iter(issue_codes(client.get("/v1/jobs", params=query)))) == f"?{name}", query


def test_preparation_jobs_are_hidden(client: httpx.Client) -> None:
    client.post("/v1/datasets", json={"name": "digits", "source": "builtin:digits"})
    assert client.get("/v1/jobs").json()["data"] == []


def test_unchanged_job_is_a_304(client: httpx.Client, digits: Json) -> None:
    job_url = submit_job(client, digits)["links"]["self"]
    for path in (job_url, f"/v1/datasets/{digits['id']}"):
        tag = client.get(path).headers["etag"]
        for posts in (tag, tag.removeprefix("W/"), f'"x", {tag}'):
            again = client.get(path, headers={"If-None-Match": posts})
            assert (again.status_code, again.content) == (304, b"")
            assert again.headers["etag"] == tag
        assert client.get(path, headers={"If-None-Match": '"x"'}).status_code == 200


def test_queue_position_changes_the_tag(client: httpx.Client, digits: Json) -> None:
    job_url = submit_job(client, digits)["links"]["self"]
    before = client.get(job_url)
    submit_job(client, digits, priority=1)
    after = client.get(job_url, headers={"If-None-Match": before.headers["etag"]})
    assert after.status_code == 200
    assert after.json()["queue_position"] == before.json()["queue_position"] + 1


def test_if_match_requires_the_current_version(client: httpx.Client, digits: Json) -> None:
    job_url = submit_job(client, digits)["links"]["self"]
    tag = client.get(job_url).headers["etag"]
    change = {"name": "new", "labels": {"a": "b"}, "priority": 7}
    response = client.patch(job_url, json=change, headers={"If-Match": tag})
    assert response.status_code == 200
    assert change.items() <= response.json().items()
    assert client.get(job_url).headers["etag"] == response.headers["etag"] != tag
    assert change.items() <= client.get(job_url).json().items()
    for old in (tag, '"x"', ""):
        rejected = client.patch(job_url, json={"name": "newer"}, headers={"If-Match": old})
        assert_problem(rejected, 412, "precondition_failed")
    assert client.get(job_url).json()["name"] == "new"
    assert client.patch(job_url, json={"name": "any"}, headers={"If-Match": "*"}).status_code == 200
    assert client.patch(job_url, json={}).json()["name"] == "any"


def test_other_fields_cannot_change(client: httpx.Client, digits: Json) -> None:
    job_url = submit_job(client, digits)["links"]["self"]
    for change in ({"state": "cancelled"}, {"seed": 1}, {"priority": 101}, {"name": ""}):
        (name,) = change
        assert set(issue_codes(client.patch(job_url, json=change))) == {f"/{name}"}


def test_queued_job_is_cancelled_without_a_worker(client: httpx.Client, digits: Json) -> None:
    job_url = submit_job(client, digits)["links"]["self"]
    assert_problem(client.delete(job_url), 409, "illegal_transition")
    assert client.get(job_url).json()["state"] == "queued"
    for _ in range(2):
        response = client.post(f"{job_url}/cancel")
        assert (response.status_code, response.json()["state"]) == (200, "cancelled")
        assert response.json()["finished_at"]
    states = [event["data"]["state"] for event in client.get(f"{job_url}/events").json()["data"]]
    assert states == ["queued", "cancelled"]


def test_job_of_a_dead_worker_is_cancelled_immediately(
    client: httpx.Client, digits: Json, claim: Any
) -> None:
    job_url = claim(submit_job(client, digits)["id"], lease="expired")
    response = client.post(f"{job_url}/cancel")
    assert (response.status_code, response.json()["state"]) == (200, "cancelled")


def test_running_job_is_cancelling_until_its_worker_stops(
    client: httpx.Client, digits: Json, claim: Any
) -> None:
    job_url = claim(submit_job(client, digits)["id"], lease="held")
    for _ in range(2):
        response = client.post(f"{job_url}/cancel")
        assert (response.status_code, response.json()["state"]) == (202, "cancelling")
    assert_problem(client.delete(job_url), 409, "illegal_transition")


@pytest.fixture
def claim() -> Any:
    def claim_job(job_id: str, lease: str) -> str:
        with transaction() as session:
            row = session.get_one(Job, job_id, with_for_update=True)
            row.priority = 100
            session.flush()
            claimed_job = transitions.claim(session, "train", "a worker")
            if claimed_job is None or claimed_job.id != job_id:
                pytest.fail(f"another job was claimed: {claimed_job}")
            if lease == "expired":
                claimed_job.lease_expires_at = datetime.fromisoformat("2026-01-01T00:00:00Z")
        return f"/v1/jobs/{job_id}"

    return claim_job


def test_finished_job_cannot_be_cancelled(trained_job: Any) -> None:
    response = trained_job.client.post(f"/v1/jobs/{trained_job.job['id']}/cancel")
    assert assert_problem(response, 409, "illegal_transition")["current_state"] == "succeeded"


def test_finished_job_is_deleted_with_its_events(client: httpx.Client, digits: Json) -> None:
    job_url = submit_job(client, digits)["links"]["self"]
    client.post(f"{job_url}/cancel").raise_for_status()
    response = client.delete(job_url)
    assert (response.status_code, response.content) == (204, b"")
    assert_problem(client.get(job_url), 404)
    assert_problem(client.get(f"{job_url}/events"), 404)
    assert_problem(client.delete(job_url), 404)


def test_deleting_a_data_set_while_jobs_are_posted_is_safe(
    client: httpx.Client, copy_of_digits: Any
) -> None:
    for _ in range(5):
        dataset = copy_of_digits()
        with ThreadPoolExecutor(3) as pool:
            posts = [pool.submit(client.post, "/v1/jobs", json=job_body(dataset)) for _ in range(3)]
            deleted = client.delete(f"/v1/datasets/{dataset['id']}").status_code
            statuses = {response.result().status_code for response in posts}
        assert deleted in (204, 409)
        assert statuses <= {201, 422}


@pytest.fixture
def copy_of_digits(client: httpx.Client, tenant: Any, digits: Json) -> Any:
    from store.ids import new_id
    from store.tables import Dataset

    def create() -> Json:
        with transaction() as session:
            row = session.get_one(Dataset, digits["id"])
            values = {c.key: getattr(row, c.key) for c in Dataset.__table__.columns}
            session.add(Dataset(**values | {"id": (new := new_id("ds"))}))
        return {"id": new}

    return create


def test_data_set_in_use_is_not_deleted(client: httpx.Client, digits: Json) -> None:
    job_url = submit_job(client, digits)["links"]["self"]
    assert_problem(client.delete(f"/v1/datasets/{digits['id']}"), 409, "in_use")
    client.post(f"{job_url}/cancel").raise_for_status()
    client.delete(job_url).raise_for_status()
    assert client.delete(f"/v1/datasets/{digits['id']}").status_code == 204


def test_unfinished_job_has_no_results(client: httpx.Client, digits: Json) -> None:
    job_url = submit_job(client, digits)["links"]["self"]
    for name in ("report", "student"):
        problem = assert_problem(client.get(f"{job_url}/{name}"), 409)
        assert problem["current_state"] == "queued"
    for name in ("runs", "checkpoints", "artifacts"):
        assert client.get(f"{job_url}/{name}").json() == {"data": [], "next_cursor": None}
    assert client.get(f"{job_url}/metrics").json() == {"data": {}, "num_points": {}}
    assert client.get(f"{job_url}/logs").text == ""
