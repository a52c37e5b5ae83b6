"""A live stream sends every event once, in order, even over a broken connection."""

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


def _append_log_events(job_id: str, count: int) -> None:
    for number in range(count):
        with transaction() as session:
            row = session.scalars(select(Job).where(Job.id == job_id).with_for_update()).one()
            event_log.append(session, row, "log", {"level": "info", "message": f"line {number}"})


def _read_event_ids(
    client: httpx.Client, address: str, last: int, limit: int
) -> tuple[list[int], bool]:
    """Up to ``limit`` event ids after ``last``, and whether the stream ended."""
    headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": str(last)} if last else {})
    event_ids: list[int] = []
    with client.stream("GET", address, headers=headers) as response:
        for line in response.iter_lines():
            if line.startswith("id: "):
                event_ids.append(int(line[4:]))
            if line == "event: stream.end":
                return event_ids, True
            if len(event_ids) == limit:
                return event_ids, False
    return event_ids, False


def test_reconnecting_stream_loses_and_repeats_nothing(client: httpx.Client, digits: Json) -> None:
    links = submit_job(client, digits)["links"]
    job_id = links["self"].rpartition("/")[2]
    writer = threading.Thread(target=_append_log_events, args=(job_id, TOTAL))
    writer.start()
    event_ids: list[int] = []
    while len(event_ids) < TOTAL + 1:  # the first event is the job's state `queued`
        ids, _ = _read_event_ids(
            client,
            links["events"],
            event_ids[-1] if event_ids else 0,
            min(9, TOTAL + 1 - len(event_ids)),
        )
        event_ids += ids
    writer.join()
    client.post(f"{links['self']}/cancel").raise_for_status()
    ids, ended = _read_event_ids(client, links["events"], event_ids[-1], 100)
    assert ended
    assert event_ids + ids == list(range(1, TOTAL + 3))


def test_cancel_ends_an_open_stream(client: httpx.Client, digits: Json) -> None:
    links = submit_job(client, digits)["links"]
    states: list[str] = []
    with client.stream("GET", links["events"], headers={"Accept": "text/event-stream"}) as response:
        for line in response.iter_lines():
            if not line.startswith("data: "):
                continue
            data = json.loads(line[6:])
            if data.get("type") == "state":
                states.append(data["data"]["state"])
                if states == ["queued"]:
                    client.post(f"{links['self']}/cancel").raise_for_status()
    assert states == ["queued", "cancelled"]


def test_frame_has_one_line_of_data(client: httpx.Client, digits: Json) -> None:
    links = submit_job(client, digits)["links"]
    job_id = links["self"].rpartition("/")[2]
    with transaction() as session:
        row = session.scalars(select(Job).where(Job.id == job_id)).one()
        message = "a\nb\r\nid: 7\n\ndata: forged\u2028"
        event_log.append(session, row, "log", {"message": message})
    client.post(f"{links['self']}/cancel").raise_for_status()
    response = client.get(links["events"], headers={"Accept": "text/event-stream"})
    frames = [frame for frame in response.text.split("\n\n") if "event: log" in frame]
    (frame,) = frames
    assert len(frame.split("\n")) == 3
    data = json.loads(frame.split("\n")[2].removeprefix("data: "))
    assert data["data"]["message"] == message
