"""The learning-rate schedule is a pure function of the step."""

import pytest

from kdcore.schema.training_config import ConstantSchedule, CosineSchedule, StepSchedule
from kdcore.training.loop.lr_schedule import lr_factor


def test_constant_schedule_warms_up() -> None:
    schedule = ConstantSchedule(type="constant", warmup_epochs=0.5)
    assert [lr_factor(schedule, step, 8, 2) for step in range(6)] == [0.25, 0.5, 0.75, 1, 1, 1]


def test_step_schedule_falls_after_milestone_epochs() -> None:
    schedule = StepSchedule(type="step", milestones=(2, 3), gamma=0.1)
    factors = [lr_factor(schedule, step, 10, 4) for step in (0, 19, 20, 29, 30)]
    assert factors == pytest.approx([1, 1, 0.1, 0.1, 0.01])


def test_cosine_schedule_falls_from_one_towards_zero() -> None:
    schedule = CosineSchedule(type="cosine", warmup_epochs=1)
    factors = [lr_factor(schedule, step, 10, 5) for step in range(50)]
    assert factors[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert factors[10] == 1
    assert factors[30] == pytest.approx(0.5)
    assert factors[10:] == sorted(factors[10:], reverse=True)
    assert 0 < factors[-1] < 0.01
