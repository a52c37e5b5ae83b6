"""A worker that reads a source is killed, and the ingestion continues."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from stillhouse.client import Client
from stillhouse.local import Stack
from tests.helpers import png_bytes, wait_until

pytestmark = pytest.mark.timeout(400)
NUM_IMAGES = 6000


def rows_size(data_dir: Path) -> int:
    """Bytes of the list of decoded images; 0 if there is none."""
    sizes = [path.stat().st_size for path in data_dir.glob("work/sources/job_*/rows")]
    return max(sizes, default=0)


def test_ingestion_of_a_killed_worker_continues(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, data_dir = tmp_path / "source", tmp_path / "data"
    pictures = [png_bytes(seed) for seed in range(50)]
    for label in ("ant", "bee"):
        (source / label).mkdir(parents=True)
    for number in range(NUM_IMAGES):
        label = ("ant", "bee")[number % 2]
        (source / label / f"{number}.png").write_bytes(pictures[number % 50])
    rules = [{"source": f"folder:{source}", "projects": ["*"]}]
    monkeypatch.setenv("STILLHOUSE_SOURCES", json.dumps(rules))
    with Stack(data_dir) as stack, Client(stack.url, stack.api_key) as client:
        body: dict[str, Any] = {"name": "birds", "source": f"folder:{source}", "image_size": 64}
        dataset = client.post("/v1/datasets", body)
        wait_until(lambda: rows_size(data_dir) > 0, 120, "images are decoded")
        os.killpg(os.getpgid(stack.process("prepare").pid), signal.SIGKILL)
        decoded = rows_size(data_dir)
        wait_until(lambda: rows_size(data_dir) > decoded, 180, "the ingestion continues")
        ready = client.wait(dataset)
        counts = [split["count"] for split in ready["splits"].values()]
        assert sum(counts) == NUM_IMAGES
        wait_until(lambda: not rows_size(data_dir), 60, "the folder of the source is deleted")
