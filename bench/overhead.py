"""Overhead of the service: a job against ``python -m kdcore run`` with the same recipe.

    python -m bench.overhead [--epochs 40] [--rounds 3]

The job takes from ``POST`` to ``succeeded``, the command from its start to its end; they alternate.
The command opens a data set that is already ingested, as the service does.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from stillhouse.client import Client
from stillhouse.local import Stack


def recipe(epochs: int) -> dict[str, Any]:
    """Return a supervised training, which has no teacher to check."""
    return {
        "student": {"architecture": "cifar/resnet8x4"},
        "method": "supervised",
        "training": {"epochs": epochs, "batch_size": 64},
    }


def command_seconds(folder: Path, index: int, data: str, epochs: int) -> float:
    """Run the recipe by command in a new folder and return the seconds."""
    path = folder / f"recipe-{index}.json"
    path.write_text(json.dumps(recipe(epochs) | {"dataset": data}))
    command = [sys.executable, "-m", "kdcore", "run", str(path)]
    start = time.monotonic()
    out = ["--out", str(folder / f"run-{index}")]
    subprocess.run([*command, *out], check=True, capture_output=True)
    return time.monotonic() - start


def job_seconds(client: Client, dataset: str, epochs: int) -> float:
    """Run the recipe as a job and return the seconds."""
    start = time.monotonic()
    client.wait(client.post("/v1/jobs", recipe(epochs) | {"dataset": dataset}))
    return time.monotonic() - start


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.overhead", description=__doc__)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    ratios = []
    with (
        tempfile.TemporaryDirectory() as name,
        Stack(Path(name) / "data") as stack,
        Client(stack.url, stack.api_key) as client,
    ):
        folder = Path(name)
        created = client.post("/v1/datasets", {"name": "digits", "source": "builtin:digits"})
        dataset = client.wait(created)["id"]
        command_seconds(folder, 0, "builtin:digits", 1)
        stored = str(next((folder / "run-0").rglob("dataset.safetensors")))
        for index in range(1, args.rounds + 1):
            command_s = command_seconds(folder, index, stored, args.epochs)
            job_s = job_seconds(client, dataset, args.epochs)
            ratios.append(job_s / command_s)
            print(f"command {command_s:.1f} s, job {job_s:.1f} s: {ratios[-1]:.3f}")
    print(f"median {statistics.median(ratios):.3f} [{min(ratios):.3f}-{max(ratios):.3f}]")


if __name__ == "__main__":
    main()
