"""Ingestion holds a few images at a time, in every format."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from tests.kdcore.data.ingest.helpers import encode_shard
from tests.kdcore.uploads import encode_image, write_archive

_MEASURE_MEMORY = """
import contextlib, resource, sys
from pathlib import Path
from kdcore.data.ingest.pipeline import ingest
from kdcore.runtime.event_writer import EventWriter
from kdcore.runtime.cancellation import CancellationToken
from kdcore.protocol.requests import IngestRequest
folder, path, size = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
request = IngestRequest(source="archive", path=path, image_size=size)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
with contextlib.closing(EventWriter(folder / "events.jsonl", folder)) as events:
    ingest(request, folder, events, CancellationToken())
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.parametrize("upload_format", ["shards", "folders", "arrays"])
def test_memory_does_not_grow_with_the_data_set(tmp_path, upload_format):
    images = {number: flat_png(number) for number in range(300)}
    if upload_format == "shards":
        members = {}
        for number, data in images.items():
            members |= {f"{number}.png": data, f"{number}.cls": str(number % 2).encode()}
        path = tmp_path / "in.tar"
        path.write_bytes(encode_shard(members))
    elif upload_format == "folders":
        path = write_archive(
            tmp_path / "in.zip", {f"{n % 2}/{n}.png": d for n, d in images.items()}
        )
    else:
        path = tmp_path / "in.npz"
        pixels = np.zeros((300, 512, 512, 3), np.uint8)
        np.savez(path, images=pixels, labels=np.arange(300) % 2)
        del pixels
    run = subprocess.run(
        [sys.executable, "-c", _MEASURE_MEMORY, str(tmp_path), str(path), "512"],
        capture_output=True,
        text=True,
        check=True,
    )
    store_bytes = (tmp_path / "artifacts" / "dataset.safetensors").stat().st_size
    assert store_bytes > 220 << 20
    # Decoded, the images take 225 MiB; only a few of them may be in memory.
    assert int(run.stdout) < 90 << 10


def flat_png(number):
    return encode_image(Image.new("RGB", (512, 512), (number % 256, 0, 0)))
