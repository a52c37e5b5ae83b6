"""Join several networks to one, so that an ensemble is a single file."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional


class MeanOfProbabilities(nn.Module):
    """The mean of the networks' probabilities, as log-probabilities (B, num_classes).

    All networks take the same normalized images (B, C, H, W). Source, for born-again networks:
    Furlanello et al. 2018, https://arxiv.org/abs/1805.04770.
    """

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        super().__init__()
        if not networks:
            raise ValueError("an ensemble needs at least one network")
        self.networks = nn.ModuleList(networks)

    def forward(self, image: Tensor) -> Tensor:
        """Return log-probabilities (B, num_classes) of images (B, C, H, W)."""
        shares = [functional.log_softmax(network(image), dim=1) for network in self.networks]
        # In log space, because a probability that underflows to 0 has no logarithm.
        return torch.stack(shares).logsumexp(dim=0) - math.log(len(shares))
