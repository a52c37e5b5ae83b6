"""Optimizers, and the learning rate as a pure function of the step."""

import math
from collections.abc import Iterable

import torch
from torch import nn

from kdcore.schema.training import SGD, ConstantSchedule, Optimizer, Schedule, StepSchedule


def build_optimizer(spec: Optimizer, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """The optimizer of a recipe: one group, the same weight decay for every parameter."""
    if isinstance(spec, SGD):
        return _sgd(spec, list(parameters))
    return torch.optim.AdamW(
        parameters, lr=spec.lr, betas=spec.betas, weight_decay=spec.weight_decay, fused=True
    )


def _sgd(spec: SGD, parameters: list[nn.Parameter]) -> torch.optim.SGD:
    optimizer = torch.optim.SGD(
        parameters,
        lr=spec.lr,
        momentum=spec.momentum,
        weight_decay=spec.weight_decay,
        nesterov=spec.nesterov,
        fused=True,
    )
    if spec.momentum:
        # torch makes them in a parameter's first step, and its fused step fails where that comes
        # later for some, as in a method of two stages. From zeros the first step is the same.
        for parameter in parameters:
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return optimizer


def lr_factor(schedule: Schedule, step: int, steps_per_epoch: int, epochs: int) -> float:
    """What the learning rate is multiplied with in ``step`` (from 0).

    Linear warm-up reaches 1 in its last step: step s of w has (s + 1) / w. The cosine runs from 1
    at the end of the warm-up towards 0 after the last step; milestones count whole epochs from the
    start of the training, warm-up included.
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


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Let the next step use the learning rate ``lr``."""
    for group in optimizer.param_groups:
        group["lr"] = lr
