"""ShuffleNetV2 for 32-pixel images: half of the channels pass a unit unchanged.

Source: Ma et al. 2018, https://arxiv.org/abs/1807.11164, figure 3 (c) and (d), table 5 at width 1,
after a pointwise stem of stride 1.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from kdcore.models.cifar.shuffle_v1 import ChannelShuffle

CHANNELS = (116, 232, 464)
BLOCKS = (3, 7, 3)
"""Units of each stage after its first one, which halves the side."""
STEM, HEAD = 24, 1024
MIN_INPUT_SIZE = 8
"""Three stages halve the side, so one pixel remains."""


class BasicUnit(nn.Module):
    """(B, C, H, W) to the same shape: change the second half of the channels, shuffle all."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.conv1 = nn.Conv2d(half, half, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(half)
        self.conv2 = nn.Conv2d(half, half, 3, padding=1, groups=half, bias=False)
        self.bn2 = nn.BatchNorm2d(half)
        self.conv3 = nn.Conv2d(half, half, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(half)
        self.shuffle = ChannelShuffle(2)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve the second half; the first half is unchanged."""
        passing, y = x.chunk(2, dim=1)
        y = functional.relu(self.bn1(self.conv1(y)))
        y = self.bn2(self.conv2(y))
        y = functional.relu(self.bn3(self.conv3(y)))
        shuffled: Tensor = self.shuffle(torch.cat([passing, y], dim=1))
        return shuffled


class DownUnit(nn.Module):
    """Two branches that halve the side: (B, C, H, W) -> (B, channels, H / 2, W / 2)."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.conv1 = nn.Conv2d(in_channels, in_channels, 3, 2, 1, groups=in_channels, bias=False)
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv2 = nn.Conv2d(in_channels, half, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(half)
        self.conv3 = nn.Conv2d(in_channels, half, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(half)
        self.conv4 = nn.Conv2d(half, half, 3, 2, 1, groups=half, bias=False)
        self.bn4 = nn.BatchNorm2d(half)
        self.conv5 = nn.Conv2d(half, half, 1, bias=False)
        self.bn5 = nn.BatchNorm2d(half)
        self.shuffle = ChannelShuffle(2)

    def forward(self, x: Tensor) -> Tensor:
        """Apply both branches to all channels."""
        left = self.bn1(self.conv1(x))
        left = functional.relu(self.bn2(self.conv2(left)))
        right = functional.relu(self.bn3(self.conv3(x)))
        right = self.bn4(self.conv4(right))
        right = functional.relu(self.bn5(self.conv5(right)))
        shuffled: Tensor = self.shuffle(torch.cat([left, right], dim=1))
        return shuffled


class CifarShuffleNetV2(nn.Module):
    """Images (B, C, H, W) to logits (B, num_classes); sides of 8 pixels or more."""

    def __init__(self, num_classes: int, in_channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, STEM, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(STEM)
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = _stage(STEM, CHANNELS[0], BLOCKS[0])
        self.layer2 = _stage(CHANNELS[0], CHANNELS[1], BLOCKS[1])
        self.layer3 = _stage(CHANNELS[1], CHANNELS[2], BLOCKS[2])
        self.conv2 = nn.Conv2d(CHANNELS[2], HEAD, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(HEAD)
        self.relu2 = nn.ReLU(inplace=True)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.linear = nn.Linear(HEAD, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of a normalized batch."""
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        x = self.relu2(self.bn2(self.conv2(x)))
        logits: Tensor = self.linear(self.avgpool(x).flatten(1))
        return logits


def _stage(in_channels: int, channels: int, blocks: int) -> nn.Sequential:
    rest = [BasicUnit(channels) for _ in range(blocks)]
    return nn.Sequential(DownUnit(in_channels, channels), *rest)
