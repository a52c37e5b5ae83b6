"""Wide ResNets for 32-pixel images: few, wide pre-activation blocks.

Source: Zagoruyko and Komodakis 2016, https://arxiv.org/abs/1605.07146, table 1. Depth is 6n + 4: a
stem of 16 channels, three stages of n blocks with 16, 32 and 64 channels times the width.
"""

from torch import Tensor, nn

MIN_INPUT_SIZE = 8
"""The third stage has a quarter of the input's side."""


class PreactBlock(nn.Module):
    """Norm, ReLU, convolution, twice: (B, C, H, W) -> (B, C', H / stride, W / stride).

    If the shape changes, the shortcut starts after the first ReLU, as in the paper's code.
    """

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.relu1 = nn.ReLU(inplace=True)
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.relu2 = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.convShortcut: nn.Conv2d | None = None
        if stride != 1 or in_channels != channels:
            self.convShortcut = nn.Conv2d(in_channels, channels, 1, stride=stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Add the residual to the input."""
        active = self.relu1(self.bn1(x))
        shortcut = x if self.convShortcut is None else self.convShortcut(active)
        total: Tensor = shortcut + self.conv2(self.relu2(self.bn2(self.conv1(active))))
        return total


class WideResNetStage(nn.Module):
    """A sequence of blocks, of which the first changes the shape."""

    def __init__(self, in_channels: int, channels: int, blocks: int, stride: int) -> None:
        super().__init__()
        rest = [PreactBlock(channels, channels, 1) for _ in range(blocks - 1)]
        self.layer = nn.Sequential(PreactBlock(in_channels, channels, stride), *rest)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, channels, H / stride, W / stride)."""
        y: Tensor = self.layer(x)
        return y


class WideResNet(nn.Module):
    """Images (B, C, H, W) to logits (B, num_classes); sides of 8 pixels or more."""

    def __init__(self, depth: int, width: int, num_classes: int, in_channels: int) -> None:
        super().__init__()
        blocks = (depth - 4) // 6
        self.conv1 = nn.Conv2d(in_channels, 16, 3, padding=1, bias=False)
        self.block1 = WideResNetStage(16, 16 * width, blocks, stride=1)
        self.block2 = WideResNetStage(16 * width, 32 * width, blocks, stride=2)
        self.block3 = WideResNetStage(32 * width, 64 * width, blocks, stride=2)
        self.bn1 = nn.BatchNorm2d(64 * width)
        self.relu = nn.ReLU(inplace=True)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(64 * width, num_classes)
        self.apply(_init_weights)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of a normalized batch."""
        x = self.block3(self.block2(self.block1(self.conv1(x))))
        x = self.avgpool(self.relu(self.bn1(x)))
        logits: Tensor = self.fc(x.flatten(1))
        return logits


def _init_weights(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    elif isinstance(module, nn.Linear):
        nn.init.zeros_(module.bias)
