"""Logits of one CIFAR network per family, computed with the networks of the benchmarks.

Weights come from `fill` and the two images from `wave`; 10 classes.
"""

import math

import torch
from torch import nn

LOGITS = {
    "resnet8x4": [
        *(0.15851, -0.034378, -0.208683, -0.320136, -0.362895),
        *(-0.348832, -0.279304, -0.145076, 0.045655, 0.246874),
        *(0.159232, -0.033462, -0.207777, -0.319451, -0.362599),
        *(-0.349015, -0.279954, -0.146084, 0.044479, 0.245758),
    ],
    "ResNet50": [
        *(0.9674, -0.745882, 0.108177, 0.502161, -0.86433),
        *(1.002281, -0.541716, 0.093147, 0.491804, -0.80934),
        *(0.968323, -0.746423, 0.108259, 0.50249, -0.865004),
        *(1.003173, -0.542534, 0.093485, 0.492211, -0.810366),
    ],
    "wrn_16_2": [
        *(0.028746, -0.1875, 0.150048, -0.167232, 0.165484),
        *(-0.174839, 0.153957, -0.085743, 0.131489, -0.03682),
        *(0.022565, -0.186758, 0.148737, -0.170977, 0.16911),
        *(-0.182448, 0.161557, -0.095691, 0.141291, -0.047006),
    ],
    "vgg8": [
        *(0.024558, 0.463342, 0.492614, 0.059077, -0.501119),
        *(-0.733319, -0.431919, 0.188864, 0.658543, 0.621654),
        *(0.024539, 0.463415, 0.492742, 0.059188, -0.501078),
        *(-0.73335, -0.43198, 0.188822, 0.658535, 0.621653),
    ],
    "MobileNetV2": [
        *(-0.317505, 0.100166, 0.207541, -0.403356, 0.155036),
        *(-0.075441, -0.078175, 0.420573, -0.265104, 0.031284),
        *(-0.317509, 0.100164, 0.207545, -0.403346, 0.155028),
        *(-0.075448, -0.078172, 0.420575, -0.265095, 0.031279),
    ],
    "ShuffleV1": [
        *(0.122605, -0.257178, 0.178458, -0.307767, 0.359633),
        *(-0.561002, 0.551144, -0.63664, 0.539611, -0.387395),
        *(0.068518, -0.202314, 0.130824, -0.275599, 0.345763),
        *(-0.561446, 0.559061, -0.648321, 0.557465, -0.41745),
    ],
    "ShuffleV2": [
        *(-0.412669, -0.221503, 0.51268, -0.104972, -0.521967),
        *(0.261125, 0.180914, -0.436845, 0.186249, 0.495421),
        *(-0.412769, -0.221562, 0.512834, -0.104973, -0.5221),
        *(0.261195, 0.180967, -0.436972, 0.186285, 0.495559),
    ],
}
TOLERANCE = 2e-3
"""Of the largest logit."""
# Parameters in millions and number of state-dict keys, as published for 100 classes.
PUBLISHED = {
    "resnet8": (0.084, 56),
    "resnet14": (0.181, 92),
    "resnet20": (0.278, 128),
    "resnet32": (0.473, 200),
    "resnet44": (0.667, 272),
    "resnet56": (0.862, 344),
    "resnet110": (1.737, 668),
    "resnet8x4": (1.234, 62),
    "resnet32x4": (7.434, 206),
    "ResNet50": (23.705, 320),
    "wrn_16_1": (0.181, 82),
    "wrn_16_2": (0.703, 83),
    "wrn_40_1": (0.570, 226),
    "wrn_40_2": (2.255, 227),
    "vgg8": (3.965, 37),
    "vgg11": (9.277, 58),
    "vgg13": (9.462, 72),
    "vgg16": (14.774, 93),
    "vgg19": (20.087, 114),
    "MobileNetV2": (0.813, 320),
    "ShuffleV1": (0.949, 296),
    "ShuffleV2": (1.356, 338),
}


def fill(network: nn.Module) -> None:
    """Set all weights by a formula of the order of their names."""
    state = network.state_dict()
    for k, name in enumerate(sorted(state)):
        tensor = state[name]
        i = torch.arange(tensor.numel(), dtype=torch.float64)
        w = torch.sin(0.37 * i + 0.61 * k) + 0.5 * torch.cos(1.13 * i + 0.2 * k)
        if not tensor.is_floating_point():
            w = torch.zeros_like(i)
        elif "running_var" in name:
            w = 1 + 0.3 * w.abs()
        elif tensor.ndim >= 2:
            w = w * math.sqrt(1.6 / tensor[0].numel())
        elif "weight" in name:
            w = 1 + 0.1 * w
        else:
            w = 0.05 * w
        tensor.copy_(w.view_as(tensor))


def wave(size: int = 32, channels: int = 3) -> torch.Tensor:
    """Two images by a formula."""
    i = torch.arange(2 * channels * size * size, dtype=torch.float64)
    images = torch.sin(0.011 * i) + 0.3 * torch.cos(0.57 * i)
    return images.view(2, channels, size, size).float()
