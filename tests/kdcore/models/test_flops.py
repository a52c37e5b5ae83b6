"""Multiply-accumulates, compared with counts by hand and from a paper."""

import torch
from torch import nn

from kdcore.models import build, flops


def test_macs_match_a_count_by_hand():
    network = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Flatten(), nn.Linear(8 * 36, 5))
    assert flops.macs(network, 3, 6) == 36 * 8 * 3 * 9 + 8 * 36 * 5
    assert network.training
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_macs_of_a_network_that_passes_parameters_between_modules():
    with torch.device("meta"):
        network = build("timm/cait_xxs24_224", num_classes=1000, input_size=224)
    frozen = next(network.parameters()).requires_grad_(False)
    # 2.53 G multiply-adds in the paper, table 3.
    assert round(flops.macs(network, 3, 224) / 1e9, 2) == 2.52
    assert not frozen.requires_grad
    assert all(p.requires_grad for p in network.parameters() if p is not frozen)
