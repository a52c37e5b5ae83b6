"""Taps are found in networks that know nothing of them, give what flows on, and change nothing."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from kdcore.models import build, feature_hooks
from kdcore.runtime.errors import UserError
from tests.kdcore.models.golden import LOGITS, fill, wave

MAPS = {
    "cifar/resnet20": "layer1 layer2 layer3",
    "cifar/ResNet50": "layer1 layer2 layer3 layer4",
    "cifar/wrn_16_2": "block1 block2 relu",
    "cifar/vgg13": "acts.0 acts.1 acts.2 acts.4",
    "cifar/MobileNetV2": "blocks.1 blocks.2 blocks.4 conv2",
    "cifar/ShuffleV1": "relu layer1 layer2 layer3",
    "cifar/ShuffleV2": "relu layer1 layer2 relu2",
    "torchvision/resnet50": "relu layer1 layer2 layer3 layer4",
    "torchvision/densenet121": "features.relu0 features.denseblock1 features.denseblock2 "
    "features.denseblock3 features",
    "torchvision/squeezenet1_1": "features.1 features.4 features.7 features",
    "torchvision/vit_b_16": "",
    "timm/vit_tiny_patch16_224": "",
    "timm/efficientnet_b0": "blocks.0 blocks.1 blocks.2 blocks.4 bn2",
}


@pytest.mark.parametrize("name", MAPS)
def test_the_last_map_of_each_stage_is_found(name):
    size = 32 if name.startswith("cifar/") else 224
    with torch.device("meta"):
        network = build(name, num_classes=10, input_size=size)
        points = feature_hooks.find_hook_points(network, torch.empty(1, 3, size, size))
        with feature_hooks.FeatureHooks(network, points) as tapped:
            seen = tapped(torch.empty(2, 3, size, size))
    assert points.maps == tuple(MAPS[name].split())
    assert [tuple(each.shape) for each in seen.maps] == [(2, *shape) for shape in points.shapes]
    sides = [shape[1] for shape in points.shapes]
    assert sides == sorted(set(sides), reverse=True)
    # Every network has a vector before its classifier, with or without maps.
    assert seen.pooled is not None
    assert seen.pooled.shape[0] == 2
    assert seen.pooled.ndim == 2


@pytest.mark.parametrize("name", LOGITS)
def test_taps_change_nothing_and_give_what_flows_on(name):
    network = build(f"cifar/{name}", num_classes=10).eval()
    fill(network)
    x = wave()
    with feature_hooks.FeatureHooks(
        network, feature_hooks.find_hook_points(network, x[:1])
    ) as tapped:
        seen = tapped(x)
    assert torch.equal(seen.logits, network(x))
    # All seven families average their last map: had it been taken before its rectification, or
    # changed in place after it, this would not hold.
    assert torch.allclose(seen.pooled, seen.maps[-1].mean((2, 3)), atol=1e-6)
    gradients = torch.autograd.grad(seen.logits.sum(), seen.maps)
    assert all(gradient.abs().sum() > 0 for gradient in gradients)
    assert not any(module._forward_hooks for module in network.modules())
    assert not any(module._forward_pre_hooks for module in network.modules())


def test_a_tapped_map_is_the_next_stages_input():
    network = build("cifar/vgg8", num_classes=10).eval()
    x = wave()
    with feature_hooks.FeatureHooks(
        network, feature_hooks.find_hook_points(network, x[:1])
    ) as tapped:
        first, second, *_ = tapped(x).maps
    assert torch.equal(second, functional.relu(network.block1(functional.max_pool2d(first, 2))))
    assert first.min() == 0


class InPlace(nn.Module):
    """Its stage's last module is rectified in place afterwards, by no module."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.classifier = nn.Conv2d(4, 2, 1)
        self.act = nn.ReLU()

    def forward(self, x):
        x = functional.relu(self.norm(self.conv(x)), inplace=True)
        return self.act(self.act(self.classifier(x))).mean((2, 3))


def test_a_later_change_in_place_flows_on_but_does_not_reach_a_named_tap():
    network = InPlace().eval()
    x = wave(8)
    normed = network.norm(network.conv(x))
    assert normed.min() < 0
    found = feature_hooks.find_hook_points(network, x)
    with feature_hooks.FeatureHooks(network, found) as tapped:
        seen = tapped(x)
    assert found.maps == ("norm",)
    assert torch.equal(seen.maps[0], normed.relu())
    with feature_hooks.FeatureHooks(
        network, feature_hooks.hook_points_at(network, x, ["norm", "conv"])
    ) as tapped:
        own = tapped(x)
    assert torch.equal(own.maps[0], normed)
    own.maps[0].sum().backward()
    assert network.norm.weight.grad.abs().sum() > 0


def test_a_convolution_may_be_the_classifier():
    network = InPlace().eval()
    x = wave(8)
    points = feature_hooks.find_hook_points(network, x)
    with feature_hooks.FeatureHooks(network, points) as tapped:
        seen = tapped(x)
    assert points.classifier == "classifier"
    assert torch.equal(seen.pooled, seen.maps[0].mean((2, 3)))


def test_only_what_is_asked_for_is_taken():
    network = build("cifar/resnet8", num_classes=3)
    points = feature_hooks.find_hook_points(network, wave()[:1])
    assert network.training
    with feature_hooks.FeatureHooks(network, points, maps=False) as tapped:
        seen = tapped(wave())
        assert seen.maps == []
        assert seen.pooled.shape == (2, 64)
    with feature_hooks.FeatureHooks(network, points, pooled=False) as tapped:
        for _ in range(2):
            seen = tapped(wave())
            assert seen.pooled is None
            assert len(seen.maps) == 3


def test_taps_work_under_autocast_and_channels_last():
    network = build("cifar/resnet8", num_classes=3).to(memory_format=torch.channels_last)
    points = feature_hooks.find_hook_points(network, wave()[:1])
    x = wave().to(memory_format=torch.channels_last)
    with (
        feature_hooks.FeatureHooks(network, points) as tapped,
        torch.autocast("cpu", torch.bfloat16),
    ):
        seen = tapped(x)
    assert seen.maps[0].dtype == torch.bfloat16
    assert seen.maps[0].is_contiguous(memory_format=torch.channels_last)
    sum(each.float().mean() for each in [*seen.maps, seen.pooled]).backward()
    assert all(parameter.grad is not None for parameter in network.layer3.parameters())


def test_a_network_without_a_classifier_has_no_pooled_features():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(1))
    points = feature_hooks.find_hook_points(network, wave()[:1])
    assert points.classifier in (None, "0")
    headless = nn.Sequential(nn.AvgPool2d(8), nn.ReLU(), nn.AvgPool2d(4), nn.Flatten(1))
    points = feature_hooks.find_hook_points(headless, wave()[:1])
    assert points.classifier is None
    with feature_hooks.FeatureHooks(headless, points) as tapped:
        assert tapped(wave()).pooled is None
    with pytest.raises(UserError, match="no pooled features"):
        feature_hooks.FeatureHooks(headless, points, pooled=True).__enter__()


def test_named_taps_are_taken_in_their_order():
    network = build("cifar/resnet8", num_classes=3).eval()
    points = feature_hooks.hook_points_at(network, wave()[:1], ["layer2.0", "layer1.0.bn1"])
    assert points.shapes == ((32, 16, 16), (16, 32, 32))
    with feature_hooks.FeatureHooks(network, points) as tapped:
        deep, shallow = tapped(wave()).maps
    x = network.relu(network.bn1(network.conv1(wave())))
    assert torch.equal(deep, network.layer2(network.layer1(x)))
    # The block's rectification works in place: the tap has a copy from before it.
    assert torch.equal(shallow, network.layer1[0].bn1(network.layer1[0].conv1(x)))
    assert shallow.min() < 0


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("layer4", "no such module; near it: layer3"),
        ("", "no such module"),
        ("fc", r"it gives \(1, 3\), not a map"),
        ("layer1.0.relu", "calls it 2 times; name the module around it"),
        ("layer1.0.unused", "calls it never"),
    ],
)
def test_what_cannot_be_tapped_is_said(path, words):
    network = build("cifar/resnet8", num_classes=3)
    network.layer1[0].unused = nn.Identity()
    with pytest.raises(UserError, match=words) as raised:
        feature_hooks.hook_points_at(network, wave()[:1], ["layer1", path, "layer9"])
    assert raised.value.code == "student_incompatible"
    assert [each.name for each in raised.value.items] == [path, "layer9"]
