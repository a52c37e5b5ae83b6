"""Fixtures for the tests of recipes, of the command line and of the Python API."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from kdcore import DistillationResult


@pytest.fixture(scope="session")
def teacher_run(tmp_path_factory: pytest.TempPathFactory) -> "DistillationResult":
    """A supervised resnet8 after three epochs of the digits."""
    from kdcore import distill  # loads torch, which most of these tests do not need

    return distill(
        "cifar/resnet8",
        "builtin:digits",
        out=tmp_path_factory.mktemp("recipes") / "teacher",
        progress=False,
        training={"epochs": 3, "batch_size": 64},
        threads=1,
    )


@pytest.fixture(scope="session")
def digits_store(teacher_run: "DistillationResult") -> Path:
    """The store that the teacher's run ingested."""
    return teacher_run.path / ".work" / "data" / "artifacts" / "dataset.safetensors"


@pytest.fixture
def current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, current during the test."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def subprocess_environment() -> dict[str, str]:
    """Variables with which a Python process in any folder imports the product."""
    root = Path(__file__).parents[2]
    return os.environ | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
