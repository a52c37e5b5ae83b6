"""VGG with batch normalization for 32-pixel images, with one linear layer as its head.

Source: Simonyan and Zisserman 2015, https://arxiv.org/abs/1409.1556, table 1 (columns A, B, D, E;
``vgg8`` has one convolution a stage), with the batch normalization of Ioffe and Szegedy 2015.
"""

from torch import Tensor, nn

CHANNELS = (64, 128, 256, 512, 512)
CONVOLUTIONS = {
    8: (1, 1, 1, 1, 1),
    11: (1, 1, 2, 2, 2),
    13: (2, 2, 2, 2, 2),
    16: (2, 2, 3, 3, 3),
    19: (2, 2, 4, 4, 4),
}
"""Convolutions of each stage, by depth."""
MIN_INPUT_SIZE = 8
"""Three stages halve the side, so one pixel remains."""
_LARGE = 64
"""From this side on, a pooling separates the last two stages, too."""


class CifarVgg(nn.Module):
    """Images (B, C, H, W) to logits (B, num_classes); sides of 8 pixels or more."""

    def __init__(self, depth: int, num_classes: int, in_channels: int) -> None:
        super().__init__()
        inputs = (in_channels, *CHANNELS)
        for stage, convolutions in enumerate(CONVOLUTIONS[depth]):
            block = _block(inputs[stage], CHANNELS[stage], convolutions)
            self.add_module(f"block{stage}", block)
        # The last ReLU of a stage is outside its block, because the checkpoints number modules so.
        self.acts = nn.ModuleList(nn.ReLU(inplace=True) for _ in CHANNELS)
        self.pool = nn.MaxPool2d(2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(CHANNELS[-1], num_classes)
        self.apply(_init_weights)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of a normalized batch."""
        large = x.shape[2] >= _LARGE
        for stage, act in enumerate(self.acts):
            if 1 <= stage <= 3 or (stage == 4 and large):
                x = self.pool(x)
            x = act(self.get_submodule(f"block{stage}")(x))
        logits: Tensor = self.classifier(self.avgpool(x).flatten(1))
        return logits


def _block(in_channels: int, channels: int, convolutions: int) -> nn.Sequential:
    """Convolutions with batch norm and ReLU, without the last ReLU."""
    layers: list[nn.Module] = []
    for _ in range(convolutions):
        layers += [nn.Conv2d(in_channels, channels, 3, padding=1), nn.BatchNorm2d(channels)]
        layers.append(nn.ReLU(inplace=True))
        in_channels = channels
    return nn.Sequential(*layers[:-1])


def _init_weights(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=0.01)
        nn.init.zeros_(module.bias)
