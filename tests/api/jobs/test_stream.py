"""A project's jobs as one stream: who looks at the table misses nothing and asks for nothing."""

import contextlib
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx

from tests.conftest import client_for
from tests.helpers import assert_problem, submit_job

Json = dict[str, Any]
STREAM = {"Accept": "text/event-stream"}
Frame = tuple[str, Json, int]


@contextlib.contextmanager
def streamed(client: httpx.Client, **params: Any) -> Iterator[Iterator[Frame]]:
    """The frames of a stream: name, data, id."""
    with client.stream("GET", "/v1/jobs", headers=STREAM, params=params) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        yield _frames(answer.iter_lines())


def _frames(lines: Iterator[str]) -> Iterator[Frame]:
    fields: dict[str, str] = {}
    for line in lines:
        if line:
            name, _, value = line.partition(": ")
            fields[name] = value
        elif "event" in fields:
            yield fields["event"], json.loads(fields["data"]), int(fields.get("id", 0))
            fields = {}


def test_a_new_job_and_its_changes_arrive_in_turn(client: httpx.Client, digits: Json) -> None:
    with streamed(client) as frames:
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
        # The frame is the job as the list has it.
        (listed,) = client.get("/v1/jobs").json()["data"]
        assert data == listed


def test_what_happened_between_two_connections_is_told(client: httpx.Client, digits: Json) -> None:
    with streamed(client) as frames:
        _, _, place = next(frames)
    job = submit_job(client, digits)
    with streamed(client, after=place) as frames:
        next(frames)
        assert next(frames)[1]["id"] == job["id"]


def test_who_was_away_for_long_is_told_to_read_the_list(client: httpx.Client) -> None:
    with streamed(client, after=1) as frames:
        next(frames)
        name, data, place = next(frames)
    assert (name, data) == ("reload", {})
    assert place > 1


def test_other_projects_are_not_heard(
    client: httpx.Client, other_client: httpx.Client, digits: Json
) -> None:
    heard: list[str] = []

    def listen() -> None:
        # The stream lasts until the client is closed, after the test.
        with (
            contextlib.suppress(httpx.TransportError, RuntimeError),
            streamed(other_client) as frames,
        ):
            for name, _, _ in frames:
                heard.append(name)
                ready.set()

    ready = threading.Event()
    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    assert ready.wait(10)
    with streamed(client) as frames:
        next(frames)
        submit_job(client, digits)
        assert next(frames)[0] == "job"  # it was there to be heard
    listener.join(timeout=1.5)
    assert listener.is_alive()
    assert heard == ["snapshot"]


def test_a_place_that_is_none_is_refused(client: httpx.Client) -> None:
    answer = client.get("/v1/jobs", headers=STREAM | {"Last-Event-ID": "x"})
    assert_problem(answer, 400, "bad_last_event_id")
    assert client.get("/v1/jobs", headers=STREAM, params={"after": -1}).status_code == 422


def test_a_stream_ends_with_its_key(client: httpx.Client, api_url: str, digits: Json) -> None:
    body = {"name": "short-lived", "scopes": ["jobs:read"]}
    key = client.post("/v1/api-keys", json=body).raise_for_status().json()
    stop = threading.Event()
    with client_for(api_url, key["key"]) as reader, streamed(reader) as frames:
        next(frames)
        assert client.delete(f"/v1/api-keys/{key['id']}").status_code == 204
        # A frame a second, until the stream looks at its key again and ends by itself.
        with ThreadPoolExecutor(1) as pool:
            address = submit_job(client, digits)["links"]["self"]
            changing = pool.submit(rename, client, address, 20, stop)
            told = sum(1 for _ in frames)
            stop.set()
            changing.result()
    assert told < 20


def rename(client: httpx.Client, address: str, times: int, stop: threading.Event) -> None:
    for number in range(times):
        client.patch(address, json={"name": f"name {number}"}).raise_for_status()
        if stop.wait(1):
            return
