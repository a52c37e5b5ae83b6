"""What a run sets for the whole process, and gives back."""

from typing import Any

import pytest
import torch

from kdcore.runtime.errors import UserFault
from kdcore.schema.training import Training
from kdcore.training.compute.device import as_before, prepare


def chosen() -> tuple[bool, bool, int]:
    strict = torch.are_deterministic_algorithms_enabled()
    return strict, torch.backends.cudnn.benchmark, torch.get_num_threads()


@pytest.mark.parametrize("before", ["strict", "fast"])
def test_a_run_is_as_asked_whatever_ran_before(before: Any) -> None:
    with as_before():
        prepare("cpu", 2, Training(determinism=before))
        prepare("cpu", 1, Training(determinism="fast"))
        assert chosen() == (False, True, 1)
        prepare("cpu", 2, Training(determinism="strict"))
        assert chosen() == (True, False, 2)


def test_the_process_is_as_before() -> None:
    filled = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    before = chosen()
    with as_before():
        prepare("cpu", before[2] + 1, Training())
        assert chosen() != before
    assert chosen() == before
    with pytest.raises(UserFault, match="no device"), as_before():
        prepare("cuda:99", before[2] + 1, Training())
    assert chosen() == before
    assert torch.utils.deterministic.fill_uninitialized_memory == filled  # type: ignore[attr-defined]
