"""What a run sets for the whole process, and gives back."""

from typing import Any

import pytest
import torch

from kdcore.runtime.errors import UserError
from kdcore.schema.training import TrainingConfig
from kdcore.training.compute.device import prepare_compute_env, restore_torch_state


def chosen() -> tuple[bool, bool, int]:
    strict = torch.are_deterministic_algorithms_enabled()
    return strict, torch.backends.cudnn.benchmark, torch.get_num_threads()


@pytest.mark.parametrize("before", ["strict", "fast"])
def test_a_run_is_as_asked_whatever_ran_before(before: Any) -> None:
    with restore_torch_state():
        prepare_compute_env("cpu", 2, TrainingConfig(determinism=before))
        prepare_compute_env("cpu", 1, TrainingConfig(determinism="fast"))
        assert chosen() == (False, True, 1)
        prepare_compute_env("cpu", 2, TrainingConfig(determinism="strict"))
        assert chosen() == (True, False, 2)


def test_the_process_is_as_before() -> None:
    filled = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    before = chosen()
    with restore_torch_state():
        prepare_compute_env("cpu", before[2] + 1, TrainingConfig())
        assert chosen() != before
    assert chosen() == before
    with pytest.raises(UserError, match="no device"), restore_torch_state():
        prepare_compute_env("cuda:99", before[2] + 1, TrainingConfig())
    assert chosen() == before
    assert torch.utils.deterministic.fill_uninitialized_memory == filled  # type: ignore[attr-defined]
