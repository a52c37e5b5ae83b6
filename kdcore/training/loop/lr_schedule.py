"""The learning-rate schedule: a pure function of the step."""

import math

from kdcore.schema.training_config import ConstantSchedule, Schedule, StepSchedule


def lr_factor(schedule: Schedule, step: int, steps_per_epoch: int, epochs: int) -> float:
    """Factor of the learning rate in ``step`` (from 0).

    Linear warm-up over w steps has the factor (s + 1) / w in step s, so its last step has 1. The
    cosine runs from 1 at the end of the warm-up towards 0 after the last step. Milestones count
    epochs from the start of the training, warm-up included.
    """
    warmup = round(schedule.warmup_epochs * steps_per_epoch)
    if step < warmup:
        return (step + 1) / warmup
    if isinstance(schedule, ConstantSchedule):
        return 1.0
    if isinstance(schedule, StepSchedule):
        passed = sum(step >= milestone * steps_per_epoch for milestone in schedule.milestones)
        return float(schedule.gamma**passed)
    total = epochs * steps_per_epoch
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))
