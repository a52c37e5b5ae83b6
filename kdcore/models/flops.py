"""Count the parameters and multiply-accumulates of a network."""

import contextlib
from collections.abc import Iterator

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def num_params(network: nn.Module) -> int:
    """Return the number of parameters; buffers such as running means are not counted."""
    return sum(parameter.numel() for parameter in network.parameters())


def macs(network: nn.Module, in_channels: int, input_size: int) -> int:
    """Return the multiply-accumulates for one square image of side ``input_size``.

    Only convolutions and matrix products count, as in papers. The network keeps its mode.
    """
    device = next(network.parameters()).device
    image = torch.zeros(1, in_channels, input_size, input_size, device=device)
    was_training = network.training
    try:
        with torch.no_grad(), count_flops(network) as counter:
            network.eval()(image)
    finally:
        network.train(was_training)
    return int(counter.get_total_flops()) // 2


@contextlib.contextmanager
def count_flops(network: nn.Module) -> Iterator[FlopCounterMode]:
    """Count the floating point operations in a block: two for each MAC."""
    # The counter also tracks gradients and fails for parameters passed between modules.
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    try:
        for parameter in trained:
            parameter.requires_grad_(False)
        with FlopCounterMode(display=False) as counter:
            yield counter
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)
