"""MobileNetV2 at half width for 32-pixel images, as distillation benchmarks use it.

Source: Sandler et al. 2018, https://arxiv.org/abs/1801.04381, table 2: expansion 6, width 0.5, with
plain ReLU and a second stage of stride 1. The first block has expansion 1 and still a pointwise
convolution, as in the published checkpoints.
"""

import math

from torch import Tensor, nn

# expansion, channels, blocks, stride
STAGES = (
    (1, 8, 1, 1),
    (6, 12, 2, 1),
    (6, 16, 3, 2),
    (6, 32, 4, 2),
    (6, 48, 3, 1),
    (6, 80, 3, 2),
    (6, 160, 1, 1),
)
STEM, HEAD = 16, 1280
MIN_INPUT_SIZE = 16
"""The last stage has a sixteenth of the input's side."""


class InvertedResidual(nn.Module):
    """Expand, depthwise, project: (B, C, H, W) -> (B, C', H / stride, W / stride)."""

    def __init__(self, in_channels: int, channels: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = in_channels * expansion
        self.use_shortcut = stride == 1 and in_channels == channels
        self.conv = nn.Sequential(
            *_conv_bn_relu(in_channels, inner, 1),
            *_conv_bn_relu(inner, inner, 3, stride=stride, groups=inner),
            *_conv_bn_relu(inner, channels, 1)[:2],
        )

    def forward(self, x: Tensor) -> Tensor:
        """Add the linear projection to the input if the shapes are equal."""
        y: Tensor = self.conv(x)
        return x + y if self.use_shortcut else y


class CifarMobileNetV2(nn.Module):
    """Images (B, C, H, W) to logits (B, num_classes); sides of 16 pixels or more."""

    def __init__(self, num_classes: int, in_channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(*_conv_bn_relu(in_channels, STEM, 3, stride=2))
        self.blocks = nn.Sequential()
        channels = STEM
        for expansion, out_channels, num_blocks, stride in STAGES:
            stage = nn.Sequential(InvertedResidual(channels, out_channels, stride, expansion))
            for _ in range(num_blocks - 1):
                stage.append(InvertedResidual(out_channels, out_channels, 1, expansion))
            self.blocks.append(stage)
            channels = out_channels
        self.conv2 = nn.Sequential(*_conv_bn_relu(channels, HEAD, 1))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(nn.Linear(HEAD, num_classes))
        self.apply(_init_weights)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of a normalized batch."""
        x = self.conv2(self.blocks(self.conv1(x)))
        logits: Tensor = self.classifier(self.avgpool(x).flatten(1))
        return logits


def _conv_bn_relu(
    in_channels: int, channels: int, kernel: int, *, stride: int = 1, groups: int = 1
) -> list[nn.Module]:
    padding = kernel // 2
    return [
        nn.Conv2d(in_channels, channels, kernel, stride, padding, groups=groups, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU(inplace=True),
    ]


def _init_weights(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        # Fan-out of all groups together, as in the benchmarks.
        fan = module.kernel_size[0] * module.kernel_size[1] * module.out_channels
        nn.init.normal_(module.weight, std=math.sqrt(2 / fan))
    elif isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=0.01)
        nn.init.zeros_(module.bias)
