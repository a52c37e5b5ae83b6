"""Workers, use and keys, as a project sees them."""

from typing import Any

import httpx
from sqlalchemy import func, update

from store.database import transaction
from store.tables import Job, Worker
from tests.conftest import TrainedJob, client_for
from tests.helpers import assert_problem, issue_codes, submit_job, wait_until

Json = dict[str, Any]


def test_a_worker_is_busy_with_a_job_that_only_its_project_sees(
    client: httpx.Client, other_client: httpx.Client, digits: Json
) -> None:
    job = submit_job(client, digits)
    with transaction() as session:
        session.add(Worker(name="here", queue="train", seen_at=func.clock_timestamp()))
        session.add(Worker(name="gone", queue="train", seen_at=func.to_timestamp(0)))
        held = {"state": "running", "lease_owner": "here/4711"}
        session.execute(update(Job).where(Job.id == job["id"]).values(held))
    listed = {each["name"]: each for each in client.get("/v1/workers").json()["data"]}
    other = {each["name"]: each for each in other_client.get("/v1/workers").json()["data"]}
    with transaction() as session:
        over = {"state": "cancelled", "lease_owner": None}
        session.execute(update(Job).where(Job.id == job["id"]).values(over))
    assert listed["here"] | {"jobs": [job["id"]], "alive": True, "busy": True} == listed["here"]
    assert listed["gone"] | {"jobs": [], "alive": False, "busy": False} == listed["gone"]
    assert (other["here"]["busy"], other["here"]["jobs"]) == (True, [])


def test_usage_is_what_the_rows_say(trained_job: TrainedJob, client: httpx.Client) -> None:
    found = trained_job.client.get("/v1/usage").raise_for_status().json()
    assert found["jobs"]["succeeded"] >= 1
    assert found["device_s"] >= trained_job.job["usage"]["device_s"] > 0
    stored = found["storage_bytes"]
    assert stored["artifacts"] >= trained_job.artifact["size_bytes"]
    assert stored["total"] == sum(stored[kind] for kind in stored if kind != "total")
    empty = client.get("/v1/usage").json()
    assert (empty["jobs"], empty["device_s"]) == ({}, 0)
    assert set(empty["storage_bytes"].values()) == {0}


def test_a_key_is_shown_once_works_and_is_revoked(client: httpx.Client, api_url: str) -> None:
    body = {"name": "reader", "scopes": ["jobs:read"]}
    created = client.post("/v1/api-keys", json=body)
    assert created.status_code == 201
    key = created.json()
    assert created.headers["location"] == f"/v1/api-keys/{key['id']}"
    listed = client.get("/v1/api-keys").json()["data"]
    assert [each["name"] for each in listed] == ["reader", "test"]
    assert [each["current"] for each in listed] == [False, True]
    assert all("key" not in each for each in listed)
    with client_for(api_url, key["key"]) as reader:
        assert reader.get("/v1/jobs").status_code == 200
        assert_problem(reader.post("/v1/api-keys", json=body), 403, "scope_missing")
        assert_problem(reader.delete(f"/v1/api-keys/{key['id']}"), 403, "scope_missing")
        assert client.delete(f"/v1/api-keys/{key['id']}").status_code == 204
        wait_until(lambda: reader.get("/v1/jobs").status_code == 401, 10, "the key is refused")
    (revoked,) = (each for each in client.get("/v1/api-keys").json()["data"] if each["revoked_at"])
    assert revoked["id"] == key["id"]


def test_no_key_gives_more_than_it_has(client: httpx.Client, api_url: str) -> None:
    scopes = ["jobs:read", "jobs:write"]
    made = client.post("/v1/api-keys", json={"name": "some", "scopes": scopes}).json()
    own = client.get("/v1/api-keys").json()["data"][-1]
    with client_for(api_url, made["key"]) as some:
        asked = some.post("/v1/api-keys", json={"name": "more", "scopes": ["admin"]})
        assert issue_codes(asked) == {"/scopes": "scope_missing"}
        assert_problem(some.delete(f"/v1/api-keys/{own['id']}"), 403, "scope_missing")


def test_a_strangers_key_is_not_there(client: httpx.Client, other_client: httpx.Client) -> None:
    key = client.get("/v1/api-keys").json()["data"][0]
    assert_problem(other_client.delete(f"/v1/api-keys/{key['id']}"), 404, "not_found")
    assert_problem(client.delete("/v1/api-keys/key_x"), 404, "not_found")


def test_idempotent_keys_show_the_same_secret(client: httpx.Client) -> None:
    body, headers = {"name": "once", "scopes": ["jobs:read"]}, {"Idempotency-Key": "k"}
    first = client.post("/v1/api-keys", json=body, headers=headers)
    again = client.post("/v1/api-keys", json=body, headers=headers)
    assert again.headers["idempotent-replayed"] == "true"
    assert first.json() == again.json()
