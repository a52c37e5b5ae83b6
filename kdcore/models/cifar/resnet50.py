"""ResNet-50 for 32-pixel images: bottleneck blocks after a 3x3 stem of stride 1.

Source: He et al. 2016, https://arxiv.org/abs/1512.03385, table 1, without the stem's stride and
pooling. A block's stride is in its 3x3 convolution.
"""

from torch import Tensor, nn

BLOCKS = (3, 4, 6, 3)
CHANNELS = (64, 128, 256, 512)
EXPANSION = 4
MIN_INPUT_SIZE = 8
"""The last stage has an eighth of the input's side."""


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 and a shortcut: (B, C, H, W) -> (B, 4 * channels, H / stride, W / stride)."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        out_channels = EXPANSION * channels
        self.conv1 = nn.Conv2d(in_channels, channels, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = nn.Conv2d(channels, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.shortcut = nn.Sequential()
        if stride != 1 or in_channels != out_channels:
            self.shortcut.append(nn.Conv2d(in_channels, out_channels, 1, stride, bias=False))
            self.shortcut.append(nn.BatchNorm2d(out_channels))

    def forward(self, x: Tensor) -> Tensor:
        """Add the residual to the input and apply ReLU."""
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        total: Tensor = self.relu(y + self.shortcut(x))
        return total


class CifarResNet50(nn.Module):
    """Images (B, C, H, W) to logits (B, num_classes); sides of 8 pixels or more."""

    def __init__(self, num_classes: int, in_channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, CHANNELS[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(CHANNELS[0])
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = _stage(0, stride=1)
        self.layer2 = _stage(1, stride=2)
        self.layer3 = _stage(2, stride=2)
        self.layer4 = _stage(3, stride=2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.linear = nn.Linear(EXPANSION * CHANNELS[-1], num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of a normalized batch."""
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        logits: Tensor = self.linear(self.avgpool(x).flatten(1))
        return logits


def _stage(index: int, stride: int) -> nn.Sequential:
    channels, blocks = CHANNELS[index], BLOCKS[index]
    in_channels = EXPANSION * CHANNELS[index - 1] if index else CHANNELS[0]
    first = Bottleneck(in_channels, channels, stride)
    rest = [Bottleneck(EXPANSION * channels, channels, 1) for _ in range(blocks - 1)]
    return nn.Sequential(first, *rest)
