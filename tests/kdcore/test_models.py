"""Networks give the published outputs under the published names; taps change nothing."""

import math

import pytest
import torch
from torch import nn

from kdcore.errors import UserFault
from kdcore.models import build, cost, taps
from kdcore.models.preprocess import Normalised
from kdcore.spec.catalogue import Normalisation

# Computed with the benchmarks' own resnet8x4, weights and input as `fill` and `wave` make them.
GOLDEN = [
    *(0.15851, -0.034378, -0.208683, -0.320136, -0.362895),
    *(-0.348832, -0.279304, -0.145076, 0.045655, 0.246874),
    *(0.159232, -0.033462, -0.207777, -0.319451, -0.362599),
    *(-0.349015, -0.279954, -0.146084, 0.044479, 0.245758),
]
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
}


def fill(network: nn.Module) -> None:
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


def wave() -> torch.Tensor:
    i = torch.arange(2 * 3 * 32 * 32, dtype=torch.float64)
    return (torch.sin(0.011 * i) + 0.3 * torch.cos(0.57 * i)).view(2, 3, 32, 32).float()


def test_resnet8x4_gives_the_reference_outputs():
    network = build("cifar/resnet8x4", num_classes=10).eval()
    fill(network)
    golden = torch.tensor(GOLDEN).view(2, 10)
    with torch.no_grad():
        error = (network(wave()) - golden).abs().max() / golden.abs().max()
    assert error < 2e-3


@pytest.mark.parametrize("name", PUBLISHED)
def test_names_and_sizes_are_the_published_ones(name):
    millions, keys = PUBLISHED[name]
    with torch.device("meta"):
        network = build(f"cifar/{name}", num_classes=100)
    assert round(cost.num_params(network) / 1e6, 3) == millions
    assert len(network.state_dict()) == keys


def test_keys_are_those_of_published_checkpoints():
    keys = build("cifar/resnet8x4", num_classes=10).state_dict()
    wanted = "conv1.weight bn1.running_var layer1.0.downsample.0.weight layer3.0.bn2.bias fc.bias"
    assert set(wanted.split()) <= set(keys)
    # The plain nets keep 16 channels in their first stage and so have no shortcut weights there.
    assert "layer1.0.downsample.0.weight" not in build("cifar/resnet20", num_classes=2).state_dict()


@pytest.mark.parametrize("size", [8, 9, 24, 32, 65])
@pytest.mark.parametrize("channels", [1, 3])
def test_any_side_from_eight_pixels_on(size, channels):
    network = build("cifar/resnet8", num_classes=7, in_channels=channels, input_size=size)
    assert network(torch.zeros(2, channels, size, size)).shape == (2, 7)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"name": "cifar/resnet21"}, "cifar/resnet20"),
        ({"input_size": 7}, "8 pixels or more, not of 7"),
        ({"in_channels": 4}, "1 or 3 channels, not of 4"),
        ({"num_classes": 0}, "needs a class"),
    ],
)
def test_what_cannot_be_built_is_said(options, words):
    with pytest.raises(UserFault, match=words):
        build(**{"name": "cifar/resnet8", "num_classes": 10} | options)


def test_equal_seeds_give_equal_weights():
    one, two = (torch.manual_seed(5) and build("cifar/resnet8", num_classes=3) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    # Fan-out: sqrt(2 / (16 * 9)), whatever the number of input channels.
    assert one.conv1.weight.std().item() == pytest.approx(0.118, rel=0.15)


def test_taps_see_the_last_map_of_each_stage_and_change_nothing():
    network = build("cifar/resnet20", num_classes=5).eval()
    points = taps.find(network, torch.zeros(1, 3, 32, 32))
    assert points == taps.Points(
        maps=("layer1", "layer2", "layer3"),
        shapes=((16, 32, 32), (32, 16, 16), (64, 8, 8)),
        classifier="fc",
    )
    x = wave()
    with taps.Tapped(network, points) as tapped:
        seen = tapped(x)
    assert torch.equal(seen.logits, network(x))
    assert torch.equal(seen.pooled, seen.maps[-1].mean((2, 3)))
    assert [tuple(m.shape[1:]) for m in seen.maps] == list(points.shapes)
    seen.maps[0].sum().backward()
    assert network.conv1.weight.grad is not None
    assert not any(module._forward_hooks for module in network.modules())


def test_each_network_normalises_the_view_for_itself():
    normalisation = Normalisation(mean=(0.5, 0.25, 0.0), std=(0.5, 0.25, 1.0))
    view = torch.randint(0, 256, (2, 3, 16, 16), dtype=torch.uint8)
    network = Normalised(nn.Identity(), normalisation)
    assert network(view)[1, 1, 2, 3] == pytest.approx((view[1, 1, 2, 3] / 255 - 0.25) / 0.25)
    assert torch.allclose(network(view), network(view / 255))
    resized = Normalised(nn.Identity(), normalisation, input_size=8)(view)
    assert resized.shape == (2, 3, 8, 8)
    assert not network.state_dict()
    with pytest.raises(ValueError, match="1 channels"):
        network(view[:, :1])


def test_macs_are_counted_by_hand():
    network = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Flatten(), nn.Linear(8 * 36, 5))
    assert cost.macs(network, 3, 6) == 36 * 8 * 3 * 9 + 8 * 36 * 5
    assert network.training
