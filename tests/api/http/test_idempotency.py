"""The same request again gets the same answer, and is done once."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
from sqlalchemy import select

from store.database import transaction
from store.tables import IdempotencyKey
from tests.helpers import assert_problem, job_body, upload

Json = dict[str, Any]


def test_the_same_request_again_is_answered_byte_by_byte(
    client: httpx.Client, digits: Json
) -> None:
    headers = {"Idempotency-Key": "once"}
    first = client.post("/v1/jobs", json=job_body(digits), headers=headers)
    again = client.post("/v1/jobs", json=dict(reversed(job_body(digits).items())), headers=headers)
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.content == first.content
    assert again.headers["location"] == first.headers["location"]
    assert again.headers["idempotent-replayed"] == "true"
    assert "idempotent-replayed" not in first.headers
    assert len(client.get("/v1/jobs").json()["data"]) == 1


def test_another_request_with_the_key_is_refused(client: httpx.Client, digits: Json) -> None:
    headers = {"Idempotency-Key": "once"}
    client.post("/v1/jobs", json=job_body(digits), headers=headers).raise_for_status()
    answer = client.post("/v1/jobs", json=job_body(digits, seed=1), headers=headers)
    assert_problem(answer, 422, "idempotency_mismatch")
    answer = client.post("/v1/projects", json=job_body(digits), headers=headers)
    assert_problem(answer, 422)
    assert len(client.get("/v1/jobs").json()["data"]) == 1


def test_every_creating_post_takes_a_key(client: httpx.Client, digits: Json) -> None:
    bodies = {
        "jobs": job_body(digits),
        "uploads": {"filename": "x", "size_bytes": 1, "sha256": "0" * 64},
        "datasets": {"name": "x", "upload_id": upload(client, b"x")},
        "models": {
            "name": "x",
            "architecture": "cifar/resnet8",
            "num_classes": 2,
            "upload_id": upload(client, b"y"),
        },
        "projects": {"name": "x"},
    }
    for path, body in bodies.items():
        headers = {"Idempotency-Key": path}
        first = client.post(f"/v1/{path}", json=body, headers=headers)
        again = client.post(f"/v1/{path}", json=body, headers=headers)
        assert first.status_code == 201, first.text
        assert (again.status_code, again.content) == (201, first.content), path
        assert again.headers["idempotent-replayed"] == "true"


def test_twenty_at_once_make_one_job(client: httpx.Client, digits: Json, tenant: Any) -> None:
    headers = {"Idempotency-Key": "twenty"}

    def post(_: int) -> httpx.Response:
        return client.post("/v1/jobs", json=job_body(digits), headers=headers)

    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(post, range(20)))
    for answer in answers:
        if answer.status_code != 201:
            assert assert_problem(answer, 409, "idempotency_in_flight")
            assert "retry-after" in answer.headers
    created = {answer.content for answer in answers if answer.status_code == 201}
    assert len(created) == 1
    replayed = [answer.headers.get("idempotent-replayed") for answer in answers]
    assert sum(a.status_code == 201 for a in answers) - replayed.count("true") == 1
    assert len(client.get("/v1/jobs").json()["data"]) == 1


def test_a_key_belongs_to_its_project(
    client: httpx.Client, other_client: httpx.Client, digits: Json
) -> None:
    headers = {"Idempotency-Key": "shared"}
    body = {"name": "x"}
    mine = client.post("/v1/projects", json=body, headers=headers).json()
    theirs = other_client.post("/v1/projects", json=body, headers=headers).json()
    assert mine["id"] != theirs["id"]


def test_a_refused_request_is_not_kept(client: httpx.Client, digits: Json) -> None:
    headers = {"Idempotency-Key": "mended"}
    assert_problem(client.post("/v1/jobs", json=job_body({"id": "ds_x"}), headers=headers), 422)
    assert_problem(client.post("/v1/jobs", json=job_body(digits, seed=-1), headers=headers), 422)
    assert client.post("/v1/jobs", json=job_body(digits), headers=headers).status_code == 201


def test_a_replay_needs_nothing_of_what_the_request_referred_to(
    client: httpx.Client, digits: Json
) -> None:
    headers = {"Idempotency-Key": "once"}
    first = client.post("/v1/jobs", json=job_body(digits), headers=headers)
    own = first.json()["links"]["self"]
    client.post(f"{own}/cancel").raise_for_status()
    client.delete(own).raise_for_status()
    client.delete(f"/v1/datasets/{digits['id']}").raise_for_status()
    again = client.post("/v1/jobs", json=job_body(digits), headers=headers)
    assert (again.status_code, again.content) == (201, first.content)


def test_validation_alone_is_not_kept(client: httpx.Client, digits: Json) -> None:
    headers = {"Idempotency-Key": "checked"}
    answer = client.post("/v1/jobs?validate_only=true", json=job_body(digits), headers=headers)
    assert answer.status_code == 200
    assert client.post("/v1/jobs", json=job_body(digits), headers=headers).status_code == 201


def test_a_key_has_a_sensible_form(client: httpx.Client) -> None:
    for key in ("", "x" * 256, "tab\tkey"):
        answer = client.post("/v1/projects", json={"name": "x"}, headers={"Idempotency-Key": key})
        assert_problem(answer, 400, "bad_idempotency_key")
    answer = client.post("/v1/projects", json={"name": "x"}, headers={"Idempotency-Key": "x" * 255})
    assert answer.status_code == 201


def test_a_stored_answer_shows_no_secret(client: httpx.Client, tenant: Any) -> None:
    created = client.post(
        "/v1/projects", json={"name": "x"}, headers={"Idempotency-Key": "secret"}
    ).json()
    with transaction() as session:
        query = select(IdempotencyKey).where(IdempotencyKey.project_id == tenant.id)
        assert created["api_key"] not in session.scalars(query).one().body
