"""Arrays and shards for the tests of data set formats, and calls that ingest them."""

import io
import tarfile

import numpy as np
import pytest

from kdcore.data import dataset
from kdcore.data.ingest.pipeline import ingest
from kdcore.protocol.requests import IngestRequest
from kdcore.runtime.errors import UserError
from kdcore.schema.asset_info import DatasetInfo, IngestSummary
from tests.kdcore.uploads import png

PIXELS = np.random.default_rng(0).integers(0, 256, (40, 9, 9, 3), dtype=np.uint8)
NUMBERS = np.arange(40) % 4


def ingest_upload(workdir, path, command=ingest, **options):
    """Ingest the file at ``path``, None for a source, and open the stored data set."""
    request = IngestRequest(source="archive", path=path and str(path), **options)
    info = DatasetInfo.model_validate(workdir.call(command, request))
    data = dataset.load_dataset(workdir.path / "artifacts" / "dataset.safetensors")
    assert data.info == info
    return data


def assert_upload_refused(workdir, path, **options):
    """The upload is refused and nothing is stored; return the details by name."""
    with pytest.raises(UserError) as error:
        ingest_upload(workdir, path, **options)
    assert error.value.code == "dataset_invalid"
    assert not (workdir.path / "artifacts" / "dataset.safetensors").exists()
    return {item.name: item.detail for item in error.value.items}


def read_summary(workdir):
    """The summary of the ingestion in this working directory."""
    (summary,) = (event["summary"] for event in workdir.events() if "summary" in event)
    return IngestSummary.model_validate(summary)


def write_npz(workdir, compressed=False, **arrays):
    path = workdir.path / "data.bin"
    with path.open("wb") as file:
        (np.savez_compressed if compressed else np.savez)(file, **arrays)
    return path


def channels_last(data, split):
    """The images of a split as an array (N, H, W, C)."""
    return data.images(split).permute(0, 2, 3, 1).numpy()


def encode_shard(members, *, tar_format=tarfile.USTAR_FORMAT):
    """The bytes of a tar."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tar_format) as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return file.getvalue()


def labeled_samples(start, count, labels=("ant", "bee")):
    """Members of a shard: ``count`` images and their labels."""
    members = {}
    for number in range(start, start + count):
        members[f"./s{number:04d}.png"] = png(number)
        members[f"./s{number:04d}.cls"] = labels[number % len(labels)].encode()
    return members


def write_upload(workdir, data, name="upload"):
    path = workdir.path / name
    path.write_bytes(data)
    return path
