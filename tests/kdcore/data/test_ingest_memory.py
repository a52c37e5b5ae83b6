"""Ingestion holds a few images at a time, whatever the source."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from tests.kdcore.data.helpers import shard
from tests.kdcore.uploads import archive, encoded

_MEASURED = """
import contextlib, resource, sys
from pathlib import Path
from kdcore.data.ingest.pipeline import ingest
from kdcore.runtime.event_writer import EventWriter
from kdcore.runtime.cancellation import Stop
from kdcore.protocol.requests import IngestRequest
folder, path, size = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
request = IngestRequest(source="archive", path=path, image_size=size)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
with contextlib.closing(EventWriter(folder / "events.jsonl", folder)) as events:
    ingest(request, folder, events, Stop())
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.parametrize("kind", ["shards", "folders", "arrays"])
def test_memory_does_not_grow_with_the_data(tmp_path, kind):
    flat = {number: png_of(number) for number in range(300)}
    if kind == "shards":
        members = {}
        for number, data in flat.items():
            members |= {f"{number}.png": data, f"{number}.cls": str(number % 2).encode()}
        path = tmp_path / "in.tar"
        path.write_bytes(shard(members))
    elif kind == "folders":
        path = archive(tmp_path / "in.zip", {f"{n % 2}/{n}.png": d for n, d in flat.items()})
    else:
        path = tmp_path / "in.npz"
        images = np.zeros((300, 512, 512, 3), np.uint8)
        np.savez(path, images=images, labels=np.arange(300) % 2)
        del images
    run = subprocess.run(
        [sys.executable, "-c", _MEASURED, str(tmp_path), str(path), "512"],
        capture_output=True,
        text=True,
        check=True,
    )
    store_bytes = (tmp_path / "artifacts" / "dataset.safetensors").stat().st_size
    assert store_bytes > 220 << 20
    # Decoded, the images take 225 MiB; no more than a few of them are ever held.
    assert int(run.stdout) < 90 << 10


def png_of(number):
    return encoded(Image.new("RGB", (512, 512), (number % 256, 0, 0)))
