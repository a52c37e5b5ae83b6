"""A world with a teacher, trained once for all tests of the training."""

from collections.abc import Iterator

import pytest
import torch

from kdcore.evaluation import latency
from tests.kdcore.training.helpers import World, make_world


@pytest.fixture(autouse=True, scope="module")
def _hasty() -> Iterator[None]:
    """How fast a network is takes seconds to measure well, and no test here asks how fast."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(latency, "_ROUNDS", 1)
        yield


@pytest.fixture(autouse=True)
def _process_as_before() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(mode=False)


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"))
