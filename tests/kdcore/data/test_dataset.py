"""Stored data sets: the header, both spellings, and files that are none."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from kdcore.data.dataset import load_dataset
from kdcore.data.ingest.pipeline import ingest
from kdcore.data.ingest.statistics import content_digest, describe
from kdcore.data.store_writer import write_dataset
from kdcore.data.types import SplitArrays
from kdcore.protocol.requests import IngestRequest
from kdcore.runtime.errors import UserError
from kdcore.schema.old_spelling import old_spelling
from tests.kdcore.uploads import Workdir, image_tree, png, write_archive

BRITISH_FILE = Path(__file__).with_name("british_spelling.safetensors")
"""Written by commit fa3d652 from :func:`example_arrays`, whose classes are ant and bee."""


def example_arrays():
    pixels = np.arange(5 * 3 * 8 * 8, dtype=np.uint8).reshape(5, 3, 8, 8)
    targets = np.array([0, 1, 0, 1, 0])
    splits = {split: SplitArrays(pixels, targets) for split in ("train", "val", "test")}
    return {**splits, "unlabeled": SplitArrays(pixels[:2], targets[:0])}


def test_data_set_in_the_old_spelling_is_read():
    with safe_open(BRITISH_FILE, framework="pt") as file:
        assert f"{old_spelling('unlabeled')}/images" in set(file.keys())
    data, arrays = load_dataset(BRITISH_FILE), example_arrays()
    assert data.info == describe(["ant", "bee"], arrays, split_seed=7)
    for name, subset in arrays.items():
        assert np.array_equal(data.images(name).numpy(), subset.images)
    assert data.targets("val").tolist() == [0, 1, 0, 1, 0]


def test_new_file_has_the_same_content_and_digest_as_the_old_one(tmp_path):
    arrays, old = example_arrays(), load_dataset(BRITISH_FILE)
    assert content_digest(["ant", "bee"], arrays) == old.info.digest
    write_dataset(tmp_path / "new.safetensors", arrays, old.info)
    data = load_dataset(tmp_path / "new.safetensors")
    assert data.info == old.info
    assert torch.equal(data.images("unlabeled"), old.images("unlabeled"))
    with safe_open(tmp_path / "new.safetensors", framework="pt") as file:
        assert "unlabeled/images" in set(file.keys())


def test_file_that_ingestion_did_not_write_is_refused(tmp_path):
    (tmp_path / "x.safetensors").write_bytes(b"12345678")
    with pytest.raises(UserError, match="not a stored data set"):
        load_dataset(tmp_path / "x.safetensors")


def test_header_has_room_for_the_labels_of_imagenet_21k(tmp_path):
    names = [f"n{number:08d}" for number in range(21_841)]
    image = png(1, (8, 8))
    images = {f"train/{name}/1.png": image for name in names}
    images |= {f"{split}/{names[0]}/1.png": png(2, (8, 8)) for split in ("val", "test")}
    workdir = Workdir(tmp_path)
    path = write_archive(tmp_path / "in.zip", images)
    workdir.call(ingest, IngestRequest(source="archive", path=str(path)))
    stored = tmp_path / "artifacts" / "dataset.safetensors"
    data = load_dataset(stored)
    assert data.info.classes == tuple(names)
    assert data.targets("train").tolist() == list(range(21_841))
    header_bytes = 8 + int.from_bytes(stored.read_bytes()[:8], "little")
    assert header_bytes > 1 << 20
    assert header_bytes % (64 << 10) == 0


def test_small_header_takes_64_kib(tmp_path):
    workdir = Workdir(tmp_path)
    path = write_archive(tmp_path / "in.zip", image_tree(5))
    workdir.call(ingest, IngestRequest(source="archive", path=str(path)))
    start = (tmp_path / "artifacts" / "dataset.safetensors").read_bytes()[: 64 << 10]
    assert 8 + int.from_bytes(start[:8], "little") == 64 << 10
    assert start.endswith(b" " * 4096)
