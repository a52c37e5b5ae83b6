"""One teacher, trained once by the public door, and the digits that it was trained on."""

import os
from pathlib import Path

import pytest

from kdcore import DistillationResult, distill

QUICK = {"epochs": 1, "batch_size": 256}


@pytest.fixture(scope="session")
def taught(tmp_path_factory: pytest.TempPathFactory) -> DistillationResult:
    """A supervised resnet8 after one epoch of the digits: barely better than guessing."""
    return distill(
        "cifar/resnet8",
        "builtin:digits",
        out=tmp_path_factory.mktemp("recipes") / "teacher",
        progress=False,
        training={"epochs": 3, "batch_size": 64},
        threads=1,
    )


@pytest.fixture(scope="session")
def digits(taught: DistillationResult) -> Path:
    """The store that the run ingested."""
    return taught.path / ".work" / "data" / "artifacts" / "dataset.safetensors"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def alone() -> dict[str, str]:
    """The environment of a process of its own, in any folder."""
    root = Path(__file__).parents[3]
    return os.environ | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
