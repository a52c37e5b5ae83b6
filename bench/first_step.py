"""From ``POST /v1/jobs`` to the first training step: an idle worker, no teacher to check."""

import tempfile
import time
from datetime import datetime
from pathlib import Path

from stillhouse.client import Client
from stillhouse.local import Stack

REPEATS = 5


def seconds(client: Client, dataset: str) -> dict[str, float]:
    """Seconds from the job's creation to each phase of its first run."""
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
            passed = (datetime.fromisoformat(event["time"]) - created).total_seconds()
            phase_seconds.setdefault(name, passed)
    return phase_seconds


def main() -> None:
    """Measure and print, by the times of the rows: events are shipped twice a second."""
    with (
        tempfile.TemporaryDirectory() as folder,
        Stack(Path(folder) / "data") as stack,
        Client(stack.url, stack.api_key) as client,
    ):
        created = client.post("/v1/datasets", {"name": "digits", "source": "builtin:digits"})
        dataset = client.wait(created)["id"]
        for _ in range(REPEATS):
            time.sleep(1)
            phase_seconds = seconds(client, dataset)
            print(", ".join(f"{name} {passed:.2f} s" for name, passed in phase_seconds.items()))


if __name__ == "__main__":
    main()
