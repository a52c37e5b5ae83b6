"""Several networks as one, so that an ensemble can be handed over in a single file."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional


class MeanOfProbabilities(nn.Module):
    """log of the mean of the networks' softmax outputs: logits (B, C) whose softmax is that mean.

    All networks take the same normalized images (B, C, H, W). Born-again networks are joined so:
    Furlanello et al. 2018, https://arxiv.org/abs/1805.04770.
    """

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        super().__init__()
        if not networks:
            raise ValueError("an ensemble needs a network")
        self.networks = nn.ModuleList(networks)

    def forward(self, image: Tensor) -> Tensor:
        """Log-probabilities (B, num_classes) of images (B, C, H, W)."""
        shares = [functional.log_softmax(network(image), dim=1) for network in self.networks]
        # Summed in log space: a probability that underflows to 0 would have no logarithm.
        return torch.stack(shares).logsumexp(dim=0) - math.log(len(shares))
