"""The learning rate is a pure function of the step."""

import pytest

from kdcore.schema.training import ConstantSchedule, CosineSchedule, StepSchedule
from kdcore.training.loop.optim import lr_factor


def test_constant_with_warm_up() -> None:
    schedule = ConstantSchedule(type="constant", warmup_epochs=0.5)
    assert [lr_factor(schedule, s, 8, 2) for s in range(6)] == [0.25, 0.5, 0.75, 1, 1, 1]


def test_step_falls_after_whole_epochs() -> None:
    schedule = StepSchedule(type="step", milestones=(2, 3), gamma=0.1)
    at = [lr_factor(schedule, s, 10, 4) for s in (0, 19, 20, 29, 30)]
    assert at == pytest.approx([1, 1, 0.1, 0.1, 0.01])


def test_cosine_goes_from_one_towards_zero() -> None:
    schedule = CosineSchedule(type="cosine", warmup_epochs=1)
    values = [lr_factor(schedule, s, 10, 5) for s in range(50)]
    assert values[:10] == pytest.approx([(s + 1) / 10 for s in range(10)])
    assert values[10] == 1
    assert values[30] == pytest.approx(0.5)
    assert values[10:] == sorted(values[10:], reverse=True)
    assert 0 < values[-1] < 0.01
