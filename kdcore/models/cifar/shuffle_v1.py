"""ShuffleNet for 32-pixel images: grouped pointwise convolutions whose groups are shuffled.

Source: Zhang et al. 2018, https://arxiv.org/abs/1707.01083, section 3, with 3 groups and 240, 480
and 960 channels, after a pointwise stem of stride 1.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

CHANNELS = (240, 480, 960)
BLOCKS = (4, 8, 4)
GROUPS = 3
STEM = 24
MIN_INPUT_SIZE = 8
"""Three stages halve the side, so one pixel remains."""


class ChannelShuffle(nn.Module):
    """Move channel (group, i) to (i, group), so that the next groups get channels of all groups."""

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        batch, _, height, width = x.shape
        grouped = x.reshape(batch, self.groups, -1, height, width)
        return grouped.transpose(1, 2).reshape(batch, -1, height, width)


class ShuffleUnit(nn.Module):
    """Pointwise, shuffle, depthwise, pointwise.

    With stride 1 the input is added. With stride 2 the pooled input is concatenated, so the branch
    has only ``channels - in_channels`` channels.
    """

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        out_channels = channels - in_channels if stride == 2 else channels
        inner = out_channels // 4
        # The stem has too few channels for groups.
        groups = 1 if in_channels == STEM else GROUPS
        self.conv1 = nn.Conv2d(in_channels, inner, 1, groups=groups, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.shuffle1 = ChannelShuffle(groups)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride, 1, groups=inner, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3 = nn.Conv2d(inner, out_channels, 1, groups=GROUPS, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, channels, H / stride, W / stride)."""
        y = self.shuffle1(functional.relu(self.bn1(self.conv1(x))))
        y = functional.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        if self.stride == 1:
            return functional.relu(y + x)
        pooled = functional.avg_pool2d(x, 3, stride=2, padding=1)
        return functional.relu(torch.cat([y, pooled], dim=1))


class CifarShuffleNet(nn.Module):
    """Images (B, C, H, W) to logits (B, num_classes); sides of 8 pixels or more."""

    def __init__(self, num_classes: int, in_channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, STEM, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(STEM)
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = _stage(STEM, CHANNELS[0], BLOCKS[0])
        self.layer2 = _stage(CHANNELS[0], CHANNELS[1], BLOCKS[1])
        self.layer3 = _stage(CHANNELS[1], CHANNELS[2], BLOCKS[2])
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.linear = nn.Linear(CHANNELS[2], num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of a normalized batch."""
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        logits: Tensor = self.linear(self.avgpool(x).flatten(1))
        return logits


def _stage(in_channels: int, channels: int, blocks: int) -> nn.Sequential:
    rest = [ShuffleUnit(channels, channels, 1) for _ in range(blocks - 1)]
    return nn.Sequential(ShuffleUnit(in_channels, channels, 2), *rest)
