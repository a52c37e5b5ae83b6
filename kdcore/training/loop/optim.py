"""Build the optimizer of a student."""

from collections.abc import Iterable

import torch
from torch import nn

from kdcore.schema.training import SGD, Optimizer


def build_optimizer(spec: Optimizer, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """An optimizer with one group: all parameters have the same weight decay."""
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
        # torch creates momentum buffers in a parameter's first step, and its fused step fails if
        # some parameters have their first step later, as in a method with two stages. A buffer of
        # zeros gives the same first step.
        for parameter in parameters:
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return optimizer


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Use the learning rate ``lr`` in the next step."""
    for group in optimizer.param_groups:
        group["lr"] = lr
