"""What a network costs."""

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
    counter = FlopCounterMode(display=False)
    try:
        with torch.no_grad(), counter:
            network.eval()(image)
    finally:
        network.train(was_training)
    return int(counter.get_total_flops()) // 2
