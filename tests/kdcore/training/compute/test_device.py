"""A run sets torch's globals for the process, and restores them."""

from typing import Any

import pytest
import torch

from kdcore.runtime.errors import UserError
from kdcore.schema.training_config import TrainingConfig
from kdcore.training.compute.device import prepare_compute_env, restore_torch_state


def torch_settings() -> tuple[bool, bool, int]:
    strict = torch.are_deterministic_algorithms_enabled()
    return strict, torch.backends.cudnn.benchmark, torch.get_num_threads()


@pytest.mark.parametrize("previous", ["strict", "fast"])
def test_settings_do_not_depend_on_an_earlier_run(previous: Any) -> None:
    with restore_torch_state():
        prepare_compute_env("cpu", 2, TrainingConfig(determinism=previous))
        prepare_compute_env("cpu", 1, TrainingConfig(determinism="fast"))
        assert torch_settings() == (False, True, 1)
        prepare_compute_env("cpu", 2, TrainingConfig(determinism="strict"))
        assert torch_settings() == (True, False, 2)


def test_settings_are_restored_after_success_and_failure() -> None:
    fill_memory = torch.utils.deterministic.fill_uninitialized_memory
    before = torch_settings()
    with restore_torch_state():
        prepare_compute_env("cpu", before[2] + 1, TrainingConfig())
        assert torch_settings() != before
    assert torch_settings() == before
    with pytest.raises(UserError, match="no device"), restore_torch_state():
        prepare_compute_env("cuda:99", before[2] + 1, TrainingConfig())
    assert torch_settings() == before
    assert torch.utils.deterministic.fill_uninitialized_memory == fill_memory
