"""A small data set with a trained teacher, shared by all tests of the training."""

from collections.abc import Iterator

import pytest
import torch

from tests.kdcore.training.helpers import World, make_world


@pytest.fixture(autouse=True)
def _torch_globals() -> Iterator[None]:
    """Restore the globals of torch that a run sets."""
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(mode=False)


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"))
