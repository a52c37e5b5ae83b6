"""Seconds from ``POST /v1/jobs`` to each phase, with an idle worker and no teacher to check."""

import tempfile
import time
from datetime import datetime
from pathlib import Path

from stillhouse.client import Client
from stillhouse.local import Stack

REPEATS = 5


def seconds_to_phases(client: Client, dataset: str) -> dict[str, float]:
    """Run a job and return the seconds from its creation to each state and phase."""
    body = {
        "student": {"architecture": "cifar/resnet8"},
        "dataset": dataset,
        "training": {"epochs": 1},
    }
    job = client.wait(client.post("/v1/jobs", body))
    created = datetime.fromisoformat(job["created_at"])
    events = client.get(job["links"]["events"], limit=200)["data"]
    phase_seconds: dict[str, float] = {}
    for event in events:
        if event["type"] in ("phase", "state"):
            name = event["data"].get("phase") or event["data"]["state"]
            elapsed_s = (datetime.fromisoformat(event["time"]) - created).total_seconds()
            phase_seconds.setdefault(name, elapsed_s)
    return phase_seconds


def main() -> None:
    """Measure and print. Times are those of the events, which are stored twice a second."""
    with (
        tempfile.TemporaryDirectory() as folder,
        Stack(Path(folder) / "data") as stack,
        Client(stack.url, stack.api_key) as client,
    ):
        created = client.post("/v1/datasets", {"name": "digits", "source": "builtin:digits"})
        dataset = client.wait(created)["id"]
        for _ in range(REPEATS):
            time.sleep(1)
            phase_seconds = seconds_to_phases(client, dataset)
            print(
                ", ".join(f"{name} {elapsed_s:.2f} s" for name, elapsed_s in phase_seconds.items())
            )


if __name__ == "__main__":
    main()
