"""Single images of stored data sets, in both spellings of the header."""

from pathlib import Path

import pytest
from safetensors import safe_open

from api.datasets.images import DatasetImages
from kdcore.data.dataset import load_dataset
from kdcore.data.store_writer import write_dataset
from kdcore.data.types import SUBSETS, SplitArrays
from kdcore.schema.old_spelling import old_spelling
from store import object_store
from store.ids import new_id

BRITISH_FILE = Path(__file__).parents[2] / "kdcore" / "data" / "british_spelling.safetensors"


@pytest.fixture(params=["old", "current"])
def dataset_file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The same data set, as commit fa3d652 wrote it and as it is written today."""
    if request.param == "old":
        return BRITISH_FILE
    data = load_dataset(BRITISH_FILE)
    subsets = {
        name: SplitArrays(
            data.images(name).numpy(),
            data.targets("test" if name == "unlabeled" else name).numpy(),
        )
        for name in SUBSETS
    }
    write_dataset(tmp_path / "current.safetensors", subsets, data.info)
    return tmp_path / "current.safetensors"


def test_images_are_read_in_both_spellings(environment: dict[str, str], dataset_file: Path) -> None:
    with safe_open(dataset_file, framework="pt") as file:
        is_old = f"{old_spelling('unlabeled')}/images" in set(file.keys())
    assert is_old == (dataset_file == BRITISH_FILE)
    key = f"prj_x/test/{new_id('art')}"
    object_store.put_file(key, dataset_file)
    data = load_dataset(dataset_file)
    for name in SUBSETS:
        images = DatasetImages(key, name)
        assert len(images) == len(data.images(name))
        (first,) = images.read([1])
        assert first.pixels == data.images(name)[1].numpy().tobytes()
        assert first.target == (None if name == "unlabeled" else data.targets(name)[1])
