"""Workers, usage and API keys of a project."""

from typing import Any

import httpx
from sqlalchemy import func, update

from store.database import transaction
from store.tables import Job, Worker
from tests.conftest import TrainedJob, client_for
from tests.helpers import assert_problem, issue_codes, submit_job, wait_until

Json = dict[str, Any]


def test_job_of_busy_worker_is_visible_to_its_project_only(
    client: httpx.Client, other_client: httpx.Client, digits: Json
) -> None:
    job = submit_job(client, digits)
    with transaction() as session:
        session.add(Worker(name="active", queue="train", seen_at=func.clock_timestamp()))
        session.add(Worker(name="dead", queue="train", seen_at=func.to_timestamp(0)))
        held = {"state": "running", "lease_owner": "active/4711"}
        session.execute(update(Job).where(Job.id == job["id"]).values(held))
    listed = {entry["name"]: entry for entry in client.get("/v1/workers").json()["data"]}
    other_view = {entry["name"]: entry for entry in other_client.get("/v1/workers").json()["data"]}
    with transaction() as session:
        over = {"state": "cancelled", "lease_owner": None}
        session.execute(update(Job).where(Job.id == job["id"]).values(over))
    assert listed["active"] | {"jobs": [job["id"]], "alive": True, "busy": True} == listed["active"]
    assert listed["dead"] | {"jobs": [], "alive": False, "busy": False} == listed["dead"]
    assert (other_view["active"]["busy"], other_view["active"]["jobs"]) == (True, [])


def test_usage_sums_the_rows(trained_job: TrainedJob, client: httpx.Client) -> None:
    usage = trained_job.client.get("/v1/usage").raise_for_status().json()
    assert usage["jobs"]["succeeded"] >= 1
    assert usage["device_s"] >= trained_job.job["usage"]["device_s"] > 0
    stored = usage["storage_bytes"]
    assert stored["artifacts"] >= trained_job.artifact["size_bytes"]
    assert stored["total"] == sum(stored[kind] for kind in stored if kind != "total")
    empty = client.get("/v1/usage").json()
    assert (empty["jobs"], empty["device_s"]) == ({}, 0)
    assert set(empty["storage_bytes"].values()) == {0}


def test_key_secret_is_returned_once_and_key_is_revoked(client: httpx.Client, api_url: str) -> None:
    body = {"name": "reader", "scopes": ["jobs:read"]}
    created = client.post("/v1/api-keys", json=body)
    assert created.status_code == 201
    key = created.json()
    assert created.headers["location"] == f"/v1/api-keys/{key['id']}"
    listed = client.get("/v1/api-keys").json()["data"]
    assert [entry["name"] for entry in listed] == ["reader", "test"]
    assert [entry["current"] for entry in listed] == [False, True]
    assert all("key" not in entry for entry in listed)
    with client_for(api_url, key["key"]) as reader:
        assert reader.get("/v1/jobs").status_code == 200
        assert_problem(reader.post("/v1/api-keys", json=body), 403, "scope_missing")
        assert_problem(reader.delete(f"/v1/api-keys/{key['id']}"), 403, "scope_missing")
        assert client.delete(f"/v1/api-keys/{key['id']}").status_code == 204
        wait_until(lambda: reader.get("/v1/jobs").status_code == 401, 60, "the key is rejected")
    (revoked,) = (
        entry for entry in client.get("/v1/api-keys").json()["data"] if entry["revoked_at"]
    )
    assert revoked["id"] == key["id"]


def test_key_cannot_grant_or_revoke_scopes_that_it_lacks(
    client: httpx.Client, api_url: str
) -> None:
    scopes = ["jobs:read", "jobs:write"]
    created = client.post("/v1/api-keys", json={"name": "some", "scopes": scopes}).json()
    test_key = client.get("/v1/api-keys").json()["data"][-1]
    with client_for(api_url, created["key"]) as limited_client:
        response = limited_client.post("/v1/api-keys", json={"name": "more", "scopes": ["admin"]})
        assert issue_codes(response) == {"/scopes": "scope_missing"}
        assert_problem(
            limited_client.delete(f"/v1/api-keys/{test_key['id']}"), 403, "scope_missing"
        )


def test_key_of_other_project_is_not_found(
    client: httpx.Client, other_client: httpx.Client
) -> None:
    key = client.get("/v1/api-keys").json()["data"][0]
    assert_problem(other_client.delete(f"/v1/api-keys/{key['id']}"), 404, "not_found")
    assert_problem(client.delete("/v1/api-keys/key_x"), 404, "not_found")


def test_replay_returns_the_same_secret(client: httpx.Client) -> None:
    body, headers = {"name": "once", "scopes": ["jobs:read"]}, {"Idempotency-Key": "k"}
    first = client.post("/v1/api-keys", json=body, headers=headers)
    again = client.post("/v1/api-keys", json=body, headers=headers)
    assert again.headers["idempotent-replayed"] == "true"
    assert first.json() == again.json()
