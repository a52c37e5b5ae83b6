"""Clients that post, pause, cancel and retry, and write down every call and its outcome."""

import json
import random
import threading
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

Json = dict[str, Any]
PASSING = ("storage_unavailable", "worker_lost")
"""Error codes with which a fault may fail a job; any other code is a bug."""
OPEN = 3
"""Jobs that a client has at once: the arena has two slots."""
DEADLINE_S = 20.0
"""No request may take longer, whatever is frozen."""


class History:
    """Every call: who, what, when, how long, with what outcome. One JSON object a line."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w", encoding="utf-8")
        self._lock = threading.Lock()
        self.calls: list[Json] = []

    def close(self) -> None:
        self._file.close()

    def add(self, **call: Any) -> None:
        with self._lock:
            self.calls.append(call)
            self._file.write(json.dumps(call) + "\n")
            self._file.flush()


@dataclass
class Client:
    """A client of one project: repeats requests without a certain response, with the same key."""

    http: httpx.Client
    history: History
    name: str
    acknowledged: dict[str, str] = field(default_factory=dict)
    """Idempotency key -> job."""
    actions: dict[str, str] = field(default_factory=dict)
    """Job -> its last acknowledged action."""

    def call(self, method: str, path: str, key: str | None = None, body: Any = None) -> Any:
        """Try once. Returns None if the response is lost or asks for a later retry."""
        began = time.monotonic()
        headers = {"Idempotency-Key": key} if key else {}
        status: int | None = None
        try:
            response = self.http.request(method, path, json=body, headers=headers)
            status = response.status_code
        except httpx.TransportError as error:
            response, media_type = None, type(error).__name__
        else:
            media_type = response.headers.get("content-type", "")
        self.history.add(
            client=self.name, method=method, path=path, key=key, status=status,
            media_type=media_type,
            at=began, seconds=time.monotonic() - began,
        )  # fmt: skip
        return None if response is None or status in (409, 429, 500, 502, 503) else response

    def insist(self, method: str, path: str, key: str | None = None, body: Any = None) -> Any:
        """Repeat a request until it gets a response, as a good client does."""
        end = time.monotonic() + 120
        while time.monotonic() < end:
            response = self.call(method, path, key, body)
            if response is not None:
                return response
            time.sleep(0.3)
        raise AssertionError(f"{method} {path} had no response in two minutes")

    def submit(self, body: Json) -> str:
        """Post a job. Returns its id when it is acknowledged."""
        key = uuid.uuid4().hex
        posted = body | {"labels": {"key": key}}
        response = self.insist("POST", "/v1/jobs", key, posted)
        assert response.status_code == 201, response.text
        self.acknowledged[key] = response.json()["id"]
        return str(response.json()["id"])

    def request_action(self, job: str, action: str) -> None:
        """Request an action once; a refusal or a lost response is fine."""
        response = self.call("POST", f"/v1/jobs/{job}/{action}")
        if response is not None and response.status_code < 300:
            self.actions[job] = action

    def state(self, job: str) -> str:
        response = self.call("GET", f"/v1/jobs/{job}")
        return str(response.json()["state"]) if response is not None else ""

    def has_started(self, job: str) -> bool:
        """Whether the job runs or has run: it may have ended between two calls."""
        return self.state(job) not in ("", "queued", "starting")

    def settle(self, seconds: float) -> list[str]:
        """Wait until every job has ended; resume paused jobs, retry jobs that a fault failed."""
        left = set(self.acknowledged.values())
        end = time.monotonic() + seconds
        while left and time.monotonic() < end:
            for job in list(left):
                state = self.state(job)
                if state in ("succeeded", "cancelled"):
                    left.discard(job)
                elif state == "paused":
                    self.request_action(job, "resume")
                elif state == "failed":
                    code = self.insist("GET", f"/v1/jobs/{job}").json()["error"]
                    assert code is None or code["code"] in PASSING, code
                    self.request_action(job, "retry")
            time.sleep(0.5)
        return sorted(left)


def live(client: Client, body: Json, chance: random.Random, stop: threading.Event) -> None:
    """Keep a few jobs going, and request actions on some of them."""
    mine: set[str] = set()
    while not stop.wait(chance.uniform(0.5, 4.0)):
        mine -= {job for job in mine if client.state(job) in ("succeeded", "cancelled")}
        if len(mine) < OPEN:
            mine.add(client.submit(body))
        if chance.random() < 0.4:
            action = chance.choice(("pause", "resume", "resume", "resume", "retry", "cancel"))
            client.request_action(chance.choice(sorted(mine)), action)
