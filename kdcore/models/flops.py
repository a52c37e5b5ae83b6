"""What a network costs."""

import contextlib
from collections.abc import Iterator

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def num_params(network: nn.Module) -> int:
    """Number of trainable scalars; buffers such as running means are not counted."""
    return sum(parameter.numel() for parameter in network.parameters())


def macs(network: nn.Module, in_channels: int, input_size: int) -> int:
    """Multiply-accumulates of one forward pass of one square image of side ``input_size``.

    Convolutions and matrix products only, as papers count; the network is left in its mode.
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
    """Count what happens meanwhile: floating point operations, twice as many as MACs."""
    # The counter also watches gradients, and stumbles over parameters handed from module to module.
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    try:
        for parameter in trained:
            parameter.requires_grad_(False)
        with FlopCounterMode(display=False) as counter:
            yield counter
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)
