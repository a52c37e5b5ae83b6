"""A world with a teacher, trained once for all tests of the training."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch

from kdcore.data import facts, store
from tests.kdcore.training.kit import CLASSES, World, arrays, train


@pytest.fixture(autouse=True)
def _process_as_before() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(mode=False)


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("world")
    generator = np.random.default_rng(3)
    templates = generator.uniform(0, 255, (len(CLASSES), 1, 8, 8))
    splits = {
        "train": arrays(generator, templates, 225),
        "val": arrays(generator, templates, 70),
        "test": arrays(generator, templates, 91),
    }
    info = facts.describe(CLASSES, splits, 0)
    store.write(folder / "dataset.safetensors", splits, info)
    world = World(folder / "dataset.safetensors", info)
    workdir = train(world.request("supervised", 0, {"epochs": 12}), folder / "teacher")
    return replace(world, teacher=workdir / "artifacts" / "student.safetensors")
