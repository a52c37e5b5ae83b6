"""The stream of a project's jobs misses no change."""

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx

from tests.conftest import Tenant, client_for, copy_digits
from tests.helpers import assert_problem, submit_job

Json = dict[str, Any]
STREAM = {"Accept": "text/event-stream"}
Frame = tuple[str, Json, int]


@contextlib.contextmanager
def open_stream(client: httpx.Client, **params: Any) -> Iterator[Iterator[Frame]]:
    """Open the stream; its frames are tuples of name, data and id."""
    with client.stream("GET", "/v1/jobs", headers=STREAM, params=params) as response:
        yield _parse_frames(response.iter_lines())


def _parse_frames(lines: Iterator[str]) -> Iterator[Frame]:
    fields: dict[str, str] = {}
    for line in lines:
        if line:
            name, _, value = line.partition(": ")
            fields[name] = value
        elif "event" in fields:
            yield fields["event"], json.loads(fields["data"]), int(fields.get("id", 0))
            fields = {}


def test_new_job_and_its_changes_arrive_in_order(client: httpx.Client, digits: Json) -> None:
    with client.stream("GET", "/v1/jobs", headers=STREAM) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
    with open_stream(client) as frames:
        name, data, _ = next(frames)
        assert (name, data) == ("snapshot", {})
        job = submit_job(client, digits)
        name, data, _ = next(frames)
        assert (name, data["id"], data["state"]) == ("job", job["id"], "queued")
        client.patch(job["links"]["self"], json={"name": "renamed"}).raise_for_status()
        name, data, _ = next(frames)
        assert (data["id"], data["resolved"]["name"]) == (job["id"], "renamed")
        client.post(f"{job['links']['self']}/cancel").raise_for_status()
        _, data, _ = next(frames)
        assert data["state"] == "cancelled"
        # The frame equals the entry of the list.
        (listed,) = client.get("/v1/jobs").json()["data"]
        assert data == listed


def test_stream_resumes_after_a_break(client: httpx.Client, digits: Json) -> None:
    with open_stream(client) as frames:
        _, _, position = next(frames)
    job = submit_job(client, digits)
    with open_stream(client, after=position) as frames:
        next(frames)
        assert next(frames)[1]["id"] == job["id"]


def test_old_position_gets_a_reload(client: httpx.Client) -> None:
    with open_stream(client, after=1) as frames:
        next(frames)
        name, data, position = next(frames)
    assert (name, data) == ("reload", {})
    assert position > 1


def test_jobs_of_other_projects_are_hidden(
    client: httpx.Client,
    api_url: str,
    digits: Json,
    new_tenant: Callable[[], Tenant],
    digits_row: Json,
) -> None:
    other_tenant = new_tenant()
    with (
        client_for(api_url, other_tenant.key) as other_client,
        open_stream(other_client) as other_frames,
        open_stream(client) as frames,
    ):
        assert next(frames)[0] == next(other_frames)[0] == "snapshot"
        submit_job(client, digits)
        assert next(frames)[0] == "job"
        other_job = submit_job(other_client, copy_digits(other_client, other_tenant, digits_row))
        name, data, _ = next(other_frames)
        assert (name, data["id"]) == ("job", other_job["id"])


def test_invalid_position_is_rejected(client: httpx.Client) -> None:
    response = client.get("/v1/jobs", headers=STREAM | {"Last-Event-ID": "x"})
    assert_problem(response, 400, "bad_last_event_id")
    assert client.get("/v1/jobs", headers=STREAM, params={"after": -1}).status_code == 422


def test_revoked_key_ends_the_stream(client: httpx.Client, api_url: str, digits: Json) -> None:
    body = {"name": "short-lived", "scopes": ["jobs:read"]}
    key = client.post("/v1/api-keys", json=body).raise_for_status().json()
    with client_for(api_url, key["key"]) as reader, open_stream(reader) as frames:
        next(frames)
        assert client.delete(f"/v1/api-keys/{key['id']}").status_code == 204
        # A frame for each change until the stream authenticates again and ends.
        url = submit_job(client, digits)["links"]["self"]
        end = time.monotonic() + 120
        for number, _ in enumerate(frames):
            assert time.monotonic() < end, "the stream does not end"
            client.patch(url, json={"name": f"name {number}"}).raise_for_status()
