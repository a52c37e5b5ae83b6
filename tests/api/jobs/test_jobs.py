"""A job is stored as it was posted and resolved, found again, changed, cancelled, deleted."""

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


def test_a_minimal_job_has_every_default_of_the_contract(
    client: httpx.Client, digits: Json
) -> None:
    body = MINIMAL | {"dataset": digits["id"]}
    answer = client.post("/v1/jobs", json=body)
    assert answer.status_code == 201, answer.text
    created = answer.json()
    assert answer.headers["location"] == f"/v1/jobs/{created['id']}"
    stored = client.get(answer.headers["location"])
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
    wanted = {"id", "object", "state", "phase", "desired_state", "progress", "eta_s", "run"}
    wanted |= {"queue_position", "waiting_reason", "created_at", "started_at", "finished_at"}
    wanted |= {"resolved", "usage", "error", "result", "links"}
    assert wanted | set(body) <= set(created)
    assert (created["object"], created["state"]) == ("job", "queued")
    assert created["created_at"].endswith("Z")


def test_a_teacher_brings_kd_and_a_baseline(trained_job: Any, trained_model: Json) -> None:
    body = MINIMAL | {
        "dataset": trained_job.dataset["id"],
        "teachers": [{"model": trained_model["id"]}],
    }
    answer = trained_job.client.post("/v1/jobs?validate_only=true", json=body)
    resolved = answer.raise_for_status().json()["resolved"]
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
        answer = trained_job.client.post(
            "/v1/jobs?validate_only=true", json=body | {"method": methods}
        )
        assert answer.json()["resolved"]["label_weight"] == weight


def test_the_example_of_the_contract_is_accepted(trained_job: Any, trained_model: Json) -> None:
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
    answer = trained_job.client.post("/v1/jobs?validate_only=true", json=body)
    resolved = answer.raise_for_status().json()["resolved"]
    assert resolved["training"]["augmentation"] == training["augmentation"]
    assert resolved["labels"] == {"team": "vision"}


def test_validating_stores_nothing(client: httpx.Client, digits: Json, tenant: Any) -> None:
    with transaction() as session:
        pokes = session.scalar(select(func.count()).select_from(OutboxMessage))
    answer = client.post("/v1/jobs?validate_only=true", json=job_body(digits)).raise_for_status()
    assert set(answer.json()) == {"resolved", "estimate", "warnings", "methods"}
    assert answer.json()["resolved"]["training"]["epochs"] == 1
    assert "location" not in answer.headers
    with transaction() as session:
        query = select(func.count()).select_from(Job).where(Job.project_id == tenant.id)
        assert session.scalar(query) == 0
        assert session.scalar(select(func.count()).select_from(OutboxMessage)) == pokes
    answer = client.post("/v1/jobs?validate_only=true", json=job_body(digits, seed=-1))
    assert set(issue_codes(answer)) == {"/seed"}


def test_a_project_may_not_queue_for_ever(
    client: httpx.Client, digits: Json, tenant: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from api.jobs.service import require_queue_capacity
    from store.access.credentials import Principal
    from store.settings import settings

    caller = Principal(tenant.id, "", frozenset())
    submit_job(client, digits)
    with transaction() as session:
        monkeypatch.setattr(settings(), "max_queued", 2)
        require_queue_capacity(session, caller)
        monkeypatch.setattr(settings(), "max_queued", 1)
        with pytest.raises(ProblemError) as refused:
            require_queue_capacity(session, caller)
    assert (refused.value.status, refused.value.code) == (429, "queue_full")
    assert refused.value.headers["Retry-After"] == "30"


def test_a_list_is_filtered(client: httpx.Client, digits: Json) -> None:
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
        found = client.get("/v1/jobs", params=query).raise_for_status().json()["data"]
        assert "".join(jobs[each["id"]] for each in found) == expected, query
    for query in (
        {"state": "x"},
        {"label": "x"},
        {"sort": "name"},
        {"kind": "x"},
        {"created_after": "today"},
    ):
        (name,) = query
        assert next(iter(issue_codes(client.get("/v1/jobs", params=query)))) == f"?{name}", query


def test_the_work_that_uploads_cause_is_not_a_job(client: httpx.Client) -> None:
    client.post("/v1/datasets", json={"name": "digits", "source": "builtin:digits"})
    assert client.get("/v1/jobs").json()["data"] == []


def test_what_a_client_has_is_not_sent_again(client: httpx.Client, digits: Json) -> None:
    own = submit_job(client, digits)["links"]["self"]
    for path in (own, f"/v1/datasets/{digits['id']}"):
        tag = client.get(path).headers["etag"]
        for sent in (tag, tag.removeprefix("W/"), f'"x", {tag}'):
            again = client.get(path, headers={"If-None-Match": sent})
            assert (again.status_code, again.content) == (304, b"")
            assert again.headers["etag"] == tag
        assert client.get(path, headers={"If-None-Match": '"x"'}).status_code == 200


def test_waiting_behind_another_job_changes_the_tag(client: httpx.Client, digits: Json) -> None:
    own = submit_job(client, digits)["links"]["self"]
    before = client.get(own)
    submit_job(client, digits, priority=1)
    after = client.get(own, headers={"If-None-Match": before.headers["etag"]})
    assert after.status_code == 200
    assert after.json()["queue_position"] == before.json()["queue_position"] + 1


def test_a_change_wants_the_version_that_was_seen(client: httpx.Client, digits: Json) -> None:
    own = submit_job(client, digits)["links"]["self"]
    tag = client.get(own).headers["etag"]
    change = {"name": "new", "labels": {"a": "b"}, "priority": 7}
    answer = client.patch(own, json=change, headers={"If-Match": tag})
    assert answer.status_code == 200
    assert change.items() <= answer.json().items()
    assert client.get(own).headers["etag"] == answer.headers["etag"] != tag
    assert change.items() <= client.get(own).json().items()
    for old in (tag, '"x"', ""):
        refused = client.patch(own, json={"name": "newer"}, headers={"If-Match": old})
        assert_problem(refused, 412, "precondition_failed")
    assert client.get(own).json()["name"] == "new"
    assert client.patch(own, json={"name": "any"}, headers={"If-Match": "*"}).status_code == 200
    assert client.patch(own, json={}).json()["name"] == "any"


def test_only_three_things_can_be_changed(client: httpx.Client, digits: Json) -> None:
    own = submit_job(client, digits)["links"]["self"]
    for change in ({"state": "cancelled"}, {"seed": 1}, {"priority": 101}, {"name": ""}):
        (name,) = change
        assert set(issue_codes(client.patch(own, json=change))) == {f"/{name}"}


def test_a_queued_job_is_cancelled_with_no_worker_alive(client: httpx.Client, digits: Json) -> None:
    own = submit_job(client, digits)["links"]["self"]
    assert_problem(client.delete(own), 409, "illegal_transition")
    assert client.get(own).json()["state"] == "queued"
    for _ in range(2):
        answer = client.post(f"{own}/cancel")
        assert (answer.status_code, answer.json()["state"]) == (200, "cancelled")
        assert answer.json()["finished_at"]
    states = [event["data"]["state"] for event in client.get(f"{own}/events").json()["data"]]
    assert states == ["queued", "cancelled"]


def test_a_job_whose_worker_is_dead_is_cancelled_at_once(
    client: httpx.Client, digits: Json, make_claimed: Any
) -> None:
    own = make_claimed(submit_job(client, digits)["id"], lease="expired")
    answer = client.post(f"{own}/cancel")
    assert (answer.status_code, answer.json()["state"]) == (200, "cancelled")


def test_a_job_in_work_is_cancelling_until_its_worker_ends_it(
    client: httpx.Client, digits: Json, make_claimed: Any
) -> None:
    own = make_claimed(submit_job(client, digits)["id"], lease="held")
    for _ in range(2):
        answer = client.post(f"{own}/cancel")
        assert (answer.status_code, answer.json()["state"]) == (202, "cancelling")
    assert_problem(client.delete(own), 409, "illegal_transition")


@pytest.fixture
def make_claimed() -> Any:
    def claimed(job_id: str, lease: str) -> str:
        with transaction() as session:
            row = session.get_one(Job, job_id, with_for_update=True)
            row.priority = 100
            session.flush()
            taken = transitions.claim(session, "train", "a worker")
            assert taken is not None
            assert taken.id == job_id
            if lease == "expired":
                taken.lease_expires_at = datetime.fromisoformat("2026-01-01T00:00:00Z")
        return f"/v1/jobs/{job_id}"

    return claimed


def test_a_finished_job_cannot_be_cancelled(trained_job: Any) -> None:
    answer = trained_job.client.post(f"/v1/jobs/{trained_job.job['id']}/cancel")
    assert assert_problem(answer, 409, "illegal_transition")["current_state"] == "succeeded"


def test_a_finished_job_is_deleted_with_all_that_it_left(
    client: httpx.Client, digits: Json
) -> None:
    own = submit_job(client, digits)["links"]["self"]
    client.post(f"{own}/cancel").raise_for_status()
    answer = client.delete(own)
    assert (answer.status_code, answer.content) == (204, b"")
    assert_problem(client.get(own), 404)
    assert_problem(client.get(f"{own}/events"), 404)
    assert_problem(client.delete(own), 404)


def test_deleting_data_while_jobs_are_posted_is_no_error_of_ours(
    client: httpx.Client, new_digits: Any
) -> None:
    for _ in range(5):
        dataset = new_digits()
        with ThreadPoolExecutor(3) as pool:
            sent = [pool.submit(client.post, "/v1/jobs", json=job_body(dataset)) for _ in range(3)]
            gone = client.delete(f"/v1/datasets/{dataset['id']}").status_code
            answers = {answer.result().status_code for answer in sent}
        assert gone in (204, 409)
        assert answers <= {201, 422}


@pytest.fixture
def new_digits(client: httpx.Client, tenant: Any, digits: Json) -> Any:
    from store.ids import new_id
    from store.tables import Dataset

    def create() -> Json:
        with transaction() as session:
            row = session.get_one(Dataset, digits["id"])
            values = {c.key: getattr(row, c.key) for c in Dataset.__table__.columns}
            session.add(Dataset(**values | {"id": (new := new_id("ds"))}))
        return {"id": new}

    return create


def test_a_data_set_in_use_is_not_deleted(client: httpx.Client, digits: Json) -> None:
    own = submit_job(client, digits)["links"]["self"]
    assert_problem(client.delete(f"/v1/datasets/{digits['id']}"), 409, "in_use")
    client.post(f"{own}/cancel").raise_for_status()
    client.delete(own).raise_for_status()
    assert client.delete(f"/v1/datasets/{digits['id']}").status_code == 204


def test_an_unfinished_job_has_no_outcome(client: httpx.Client, digits: Json) -> None:
    own = submit_job(client, digits)["links"]["self"]
    for name in ("report", "student"):
        found = assert_problem(client.get(f"{own}/{name}"), 409)
        assert found["current_state"] == "queued"
    for name in ("runs", "checkpoints", "artifacts"):
        assert client.get(f"{own}/{name}").json() == {"data": [], "next_cursor": None}
    assert client.get(f"{own}/metrics").json() == {"data": {}, "num_points": {}}
    assert client.get(f"{own}/logs").text == ""
