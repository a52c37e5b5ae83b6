"""What tests of sources share: small arrays and shards, taken or refused."""

import io
import tarfile

import numpy as np
import pytest

from kdcore.data import dataset
from kdcore.data.ingest.pipeline import ingest
from kdcore.protocol.requests import IngestRequest
from kdcore.runtime.errors import UserError
from kdcore.schema.asset_info import DatasetInfo
from tests.kdcore.uploads import png

PIXELS = np.random.default_rng(0).integers(0, 256, (40, 9, 9, 3), dtype=np.uint8)
NUMBERS = np.arange(40) % 4


def taken(room, path, **options):
    request = IngestRequest(source="archive", path=str(path), **options)
    info = DatasetInfo.model_validate(room.call(ingest, request))
    data = dataset.load_dataset(room.path / "artifacts" / "dataset.safetensors")
    assert data.info == info
    return data


def refused(room, path, **options):
    with pytest.raises(UserError) as fault:
        taken(room, path, **options)
    assert fault.value.code == "dataset_invalid"
    assert not (room.path / "artifacts" / "dataset.safetensors").exists()
    return {item.name: item.detail for item in fault.value.items}


def npz(room, packed=False, **arrays):
    path = room.path / "data.bin"
    with path.open("wb") as file:
        (np.savez_compressed if packed else np.savez)(file, **arrays)
    return path


def rows(data, split):
    return data.images(split).permute(0, 2, 3, 1).numpy()


def shard(samples, *, kind=tarfile.USTAR_FORMAT):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=kind) as tar:
        for name, data in samples.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return file.getvalue()


def samples(start, count, labels=("ant", "bee")):
    found = {}
    for number in range(start, start + count):
        found[f"./s{number:04d}.png"] = png(number)
        found[f"./s{number:04d}.cls"] = labels[number % len(labels)].encode()
    return found


def write(room, data, name="upload"):
    path = room.path / name
    path.write_bytes(data)
    return path
