"""torchvision's data sets from a local folder, and the error where there is none."""

import numpy as np
import pytest
import torchvision.datasets
from PIL import Image

from kdcore.data import dataset
from kdcore.data.ingest.formats.torchvision_sets import TORCHVISION_DATASETS
from kdcore.data.ingest.pipeline import ingest
from kdcore.protocol.requests import IngestRequest
from kdcore.runtime.errors import UserError
from kdcore.schema.asset_info import DatasetInfo
from kdcore.schema.dataset_sources import TORCHVISION_DATASET_INFO
from tests.kdcore.uploads import Workdir

CHANCE = np.random.default_rng(0)
TRAIN = CHANCE.integers(0, 256, (50, 28, 28), dtype=np.uint8)
TEST = CHANCE.integers(0, 256, (20, 28, 28), dtype=np.uint8)


def encode_idx(array):
    """The bytes of an IDX file: http://yann.lecun.com/exdb/mnist/."""
    sizes = b"".join(side.to_bytes(4, "big") for side in array.shape)
    return bytes([0, 0, 8, array.ndim]) + sizes + array.tobytes()


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "root" / "FashionMNIST" / "raw"
    folder.mkdir(parents=True)
    for name, images in (("train", TRAIN), ("t10k", TEST)):
        labels = (np.arange(len(images)) % 10).astype(np.uint8)
        (folder / f"{name}-images-idx3-ubyte").write_bytes(encode_idx(images))
        (folder / f"{name}-labels-idx1-ubyte").write_bytes(encode_idx(labels))
    return tmp_path / "root"


def ingest_torchvision(workdir, name, root, **options):
    request = IngestRequest(source=f"torchvision:{name}", root=str(root), **options)
    info = DatasetInfo.model_validate(workdir.call(ingest, request))
    return info, dataset.load_dataset(workdir.path / "artifacts" / "dataset.safetensors")


def test_fashion_mnist_is_read_from_local_files(tmp_path, root):
    workdir = Workdir(tmp_path / "work")
    info, data = ingest_torchvision(workdir, "FashionMNIST", root)
    assert info.classes[:2] == ("T-shirt/top", "Trouser")
    assert info.classes == tuple(torchvision.datasets.FashionMNIST.classes)
    counts = {split: part.count for split, part in info.splits.items()}
    assert counts == {"train": 40, "val": 10, "test": 20}
    assert np.array_equal(data.images("test")[:, 0].numpy(), TEST)
    assert data.targets("test").tolist() == [number % 10 for number in range(20)]
    rows = {image.tobytes() for image in TRAIN}
    for split in ("train", "val"):
        assert all(image.numpy().tobytes() in rows for image in data.images(split))
    assert any("license" in line.get("message", "") for line in workdir.events())


def test_images_are_resized_to_the_requested_size(tmp_path, root):
    info, data = ingest_torchvision(Workdir(tmp_path / "work"), "FashionMNIST", root, image_size=32)
    assert info.image_size == 32
    assert data.images("train").shape[1:] == (1, 32, 32)


def test_data_set_of_mixed_sizes_gets_one_size(tmp_path):
    folder = tmp_path / "country211"
    for split, count in (("train", 5), ("valid", 2), ("test", 3)):
        for label in ("AD", "BE"):
            (folder / split / label).mkdir(parents=True)
            for number in range(count):
                image = Image.new("RGB", (40 + number, 60), (number, 99, 0))
                image.save(folder / split / label / f"{number}.jpg")
    info, data = ingest_torchvision(Workdir(tmp_path / "work"), "Country211", tmp_path)
    assert (info.image_size, info.classes) == (224, ("AD", "BE"))
    counts = {split: part.count for split, part in info.splits.items()}
    assert counts == {"train": 10, "val": 4, "test": 6}
    assert (data.images("train")[:, 1].int() - 99).abs().max() <= 3


def test_missing_files_and_failed_download_are_explained(tmp_path, monkeypatch):
    # A proxy with a closed port: the download fails as without a network.
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    with pytest.raises(
        UserError, match="torchvision:KMNIST is not in the operator's folder"
    ) as error:
        ingest_torchvision(Workdir(tmp_path / "work"), "KMNIST", tmp_path / "empty")
    assert "download failed" in error.value.message
    assert "STILLHOUSE_TORCHVISION_ROOT" in (error.value.hint or "")


def test_every_listed_data_set_exists_in_torchvision():
    assert set(TORCHVISION_DATASETS) == set(TORCHVISION_DATASET_INFO)
    for name in TORCHVISION_DATASETS:
        assert issubclass(getattr(torchvision.datasets, name), torchvision.datasets.VisionDataset)
