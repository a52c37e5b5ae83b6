"""A live stream tells each event once, in order, also over a broken connection."""

import json
import threading
from typing import Any

import httpx
from sqlalchemy import select

from store import event_log
from store.database import transaction
from store.tables import Job
from tests.helpers import submit_job

Json = dict[str, Any]
TOTAL = 40


def _append(job_id: str, count: int) -> None:
    for number in range(count):
        with transaction() as session:
            row = session.scalars(select(Job).where(Job.id == job_id).with_for_update()).one()
            event_log.append(session, row, "log", {"level": "info", "message": f"line {number}"})


def _read(client: httpx.Client, address: str, last: int, most: int) -> tuple[list[int], bool]:
    """Ids of up to ``most`` events after ``last``, then hang up; and whether the stream ended."""
    headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": str(last)} if last else {})
    found: list[int] = []
    with client.stream("GET", address, headers=headers) as answer:
        for line in answer.iter_lines():
            if line.startswith("id: "):
                found.append(int(line[4:]))
            if line == "event: stream.end":
                return found, True
            if len(found) == most:
                return found, False
    return found, False


def test_a_stream_that_breaks_again_and_again_loses_and_repeats_nothing(
    client: httpx.Client, digits: Json
) -> None:
    own = submit_job(client, digits)["links"]
    job_id = own["self"].rpartition("/")[2]
    writer = threading.Thread(target=_append, args=(job_id, TOTAL))
    writer.start()
    found: list[int] = []
    while len(found) < TOTAL + 1:  # the first is the job's own: queued
        ids, _ = _read(
            client, own["events"], found[-1] if found else 0, min(9, TOTAL + 1 - len(found))
        )
        found += ids
    writer.join()
    client.post(f"{own['self']}/cancel").raise_for_status()
    ids, ended = _read(client, own["events"], found[-1], 100)
    assert ended
    assert found + ids == list(range(1, TOTAL + 3))


def test_a_cancel_reaches_an_open_stream_and_ends_it(client: httpx.Client, digits: Json) -> None:
    own = submit_job(client, digits)["links"]
    states: list[str] = []
    with client.stream("GET", own["events"], headers={"Accept": "text/event-stream"}) as answer:
        for line in answer.iter_lines():
            if not line.startswith("data: "):
                continue
            data = json.loads(line[6:])
            if data.get("type") == "state":
                states.append(data["data"]["state"])
                if states == ["queued"]:
                    client.post(f"{own['self']}/cancel").raise_for_status()
    assert states == ["queued", "cancelled"]


def test_a_streams_frames_are_one_line_of_data(client: httpx.Client, digits: Json) -> None:
    own = submit_job(client, digits)["links"]
    job_id = own["self"].rpartition("/")[2]
    with transaction() as session:
        row = session.scalars(select(Job).where(Job.id == job_id)).one()
        message = "a\nb\r\nid: 7\n\ndata: forged\u2028"
        event_log.append(session, row, "log", {"message": message})
    client.post(f"{own['self']}/cancel").raise_for_status()
    answer = client.get(own["events"], headers={"Accept": "text/event-stream"})
    frames = [frame for frame in answer.text.split("\n\n") if "event: log" in frame]
    (frame,) = frames
    assert len(frame.split("\n")) == 3
    data = json.loads(frame.split("\n")[2].removeprefix("data: "))
    assert data["data"]["message"] == message
