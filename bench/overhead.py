"""What the service costs: a job through it beside ``python -m kdcore run`` on the same recipe.

    python -m bench.overhead [--epochs 40] [--rounds 3]

From ``POST`` to ``succeeded``, and from the command's start to its end, one after the other. The
command opens the data set that an earlier run of it has taken in, as the service does.
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
    """A supervised training: no teacher to check."""
    return {
        "student": {"architecture": "cifar/resnet8x4"},
        "method": "supervised",
        "training": {"epochs": epochs, "batch_size": 64},
    }


def by_command(folder: Path, number: int, data: str, epochs: int) -> float:
    """Seconds of a run in a folder of its own."""
    path = folder / f"recipe-{number}.json"
    path.write_text(json.dumps(recipe(epochs) | {"dataset": data}))
    command = [sys.executable, "-m", "kdcore", "run", str(path)]
    began = time.monotonic()
    out = ["--out", str(folder / f"run-{number}")]
    subprocess.run([*command, *out], check=True, capture_output=True)
    return time.monotonic() - began


def by_service(client: Client, dataset: str, epochs: int) -> float:
    """Seconds of a job."""
    began = time.monotonic()
    client.wait(client.post("/v1/jobs", recipe(epochs) | {"dataset": dataset}))
    return time.monotonic() - began


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
        by_command(folder, 0, "builtin:digits", 1)
        stored = str(next((folder / "run-0").rglob("dataset.safetensors")))
        for number in range(1, args.rounds + 1):
            alone = by_command(folder, number, stored, args.epochs)
            served = by_service(client, dataset, args.epochs)
            ratios.append(served / alone)
            print(f"alone {alone:.1f} s, through the service {served:.1f} s: {ratios[-1]:.3f}")
    print(f"median {statistics.median(ratios):.3f} [{min(ratios):.3f}-{max(ratios):.3f}]")


if __name__ == "__main__":
    main()
