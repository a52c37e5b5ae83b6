"""A repeated request gets the stored response and creates nothing twice."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
from cryptography.fernet import Fernet
from sqlalchemy import select

from store.database import transaction
from store.tables import IdempotencyKey
from tests.helpers import assert_problem, job_body, upload

Json = dict[str, Any]


def test_repeated_request_gets_the_same_bytes(client: httpx.Client, digits: Json) -> None:
    headers = {"Idempotency-Key": "once"}
    first = client.post("/v1/jobs", json=job_body(digits), headers=headers)
    replay = client.post("/v1/jobs", json=dict(reversed(job_body(digits).items())), headers=headers)
    assert (first.status_code, replay.status_code) == (201, 201)
    assert replay.content == first.content
    assert replay.headers["location"] == first.headers["location"]
    assert replay.headers["idempotent-replayed"] == "true"
    assert "idempotent-replayed" not in first.headers
    assert len(client.get("/v1/jobs").json()["data"]) == 1


def test_other_request_with_the_key_is_rejected(client: httpx.Client, digits: Json) -> None:
    headers = {"Idempotency-Key": "once"}
    client.post("/v1/jobs", json=job_body(digits), headers=headers).raise_for_status()
    response = client.post("/v1/jobs", json=job_body(digits, seed=1), headers=headers)
    assert_problem(response, 422, "idempotency_mismatch")
    response = client.post("/v1/projects", json=job_body(digits), headers=headers)
    assert_problem(response, 422)
    assert len(client.get("/v1/jobs").json()["data"]) == 1


def test_response_under_another_secret_key_is_a_problem(client: httpx.Client) -> None:
    headers = {"Idempotency-Key": "rotated"}
    first = client.post("/v1/projects", json={"name": "x"}, headers=headers)
    encrypted = Fernet(Fernet.generate_key()).encrypt(first.content).decode()
    with transaction() as session:
        rows = session.scalars(select(IdempotencyKey).where(IdempotencyKey.key == "rotated")).all()
        (row,) = [row for row in rows if row.headers["Location"] == first.headers["location"]]
        row.body = encrypted
    replay = client.post("/v1/projects", json={"name": "x"}, headers=headers)
    problem = assert_problem(replay, 409, "idempotency_unreadable")
    assert first.headers["location"] in problem["detail"]
    assert "secret key" in problem["detail"]


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
        replay = client.post(f"/v1/{path}", json=body, headers=headers)
        assert first.status_code == 201, first.text
        assert (replay.status_code, replay.content) == (201, first.content), path
        assert replay.headers["idempotent-replayed"] == "true"


def test_concurrent_requests_create_one_job(
    client: httpx.Client, digits: Json, tenant: Any
) -> None:
    headers = {"Idempotency-Key": "twenty"}

    def post(_: int) -> httpx.Response:
        return client.post("/v1/jobs", json=job_body(digits), headers=headers)

    with ThreadPoolExecutor(20) as pool:
        responses = list(pool.map(post, range(20)))
    for response in responses:
        if response.status_code != 201:
            assert assert_problem(response, 409, "idempotency_in_flight")
            assert "retry-after" in response.headers
    created = {response.content for response in responses if response.status_code == 201}
    assert len(created) == 1
    replayed = [response.headers.get("idempotent-replayed") for response in responses]
    assert sum(a.status_code == 201 for a in responses) - replayed.count("true") == 1
    assert len(client.get("/v1/jobs").json()["data"]) == 1


def test_key_belongs_to_its_project(
    client: httpx.Client, other_client: httpx.Client, digits: Json
) -> None:
    headers = {"Idempotency-Key": "shared"}
    body = {"name": "x"}
    mine = client.post("/v1/projects", json=body, headers=headers).json()
    theirs = other_client.post("/v1/projects", json=body, headers=headers).json()
    assert mine["id"] != theirs["id"]


def test_rejected_request_is_not_stored(client: httpx.Client, digits: Json) -> None:
    headers = {"Idempotency-Key": "mended"}
    assert_problem(client.post("/v1/jobs", json=job_body({"id": "ds_x"}), headers=headers), 422)
    assert_problem(client.post("/v1/jobs", json=job_body(digits, seed=-1), headers=headers), 422)
    assert client.post("/v1/jobs", json=job_body(digits), headers=headers).status_code == 201


def test_replay_needs_no_referenced_row(client: httpx.Client, digits: Json) -> None:
    headers = {"Idempotency-Key": "once"}
    first = client.post("/v1/jobs", json=job_body(digits), headers=headers)
    job_url = first.json()["links"]["self"]
    client.post(f"{job_url}/cancel").raise_for_status()
    client.delete(job_url).raise_for_status()
    client.delete(f"/v1/datasets/{digits['id']}").raise_for_status()
    replay = client.post("/v1/jobs", json=job_body(digits), headers=headers)
    assert (replay.status_code, replay.content) == (201, first.content)


def test_validate_only_is_not_stored(client: httpx.Client, digits: Json) -> None:
    headers = {"Idempotency-Key": "checked"}
    response = client.post("/v1/jobs?validate_only=true", json=job_body(digits), headers=headers)
    assert response.status_code == 200
    assert client.post("/v1/jobs", json=job_body(digits), headers=headers).status_code == 201


def test_malformed_key_is_rejected(client: httpx.Client) -> None:
    for key in ("", "x" * 256, "tab\tkey"):
        response = client.post("/v1/projects", json={"name": "x"}, headers={"Idempotency-Key": key})
        assert_problem(response, 400, "bad_idempotency_key")
    response = client.post(
        "/v1/projects", json={"name": "x"}, headers={"Idempotency-Key": "x" * 255}
    )
    assert response.status_code == 201


def test_stored_response_shows_no_secret(client: httpx.Client, tenant: Any) -> None:
    created = client.post(
        "/v1/projects", json={"name": "x"}, headers={"Idempotency-Key": "secret"}
    ).json()
    with transaction() as session:
        query = select(IdempotencyKey).where(IdempotencyKey.project_id == tenant.id)
        assert created["api_key"] not in session.scalars(query).one().body
