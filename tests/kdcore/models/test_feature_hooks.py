"""Feature hooks find the last map of each stage, capture it and leave the network unchanged."""

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
def test_last_map_of_a_stage_is_detected(name):
    size = 32 if name.startswith("cifar/") else 224
    with torch.device("meta"):
        network = build(name, num_classes=10, input_size=size)
        points = feature_hooks.find_hook_points(network, torch.empty(1, 3, size, size))
        with feature_hooks.FeatureHooks(network, points) as hooked:
            outputs = hooked(torch.empty(2, 3, size, size))
    assert points.maps == tuple(MAPS[name].split())
    assert [tuple(feature_map.shape) for feature_map in outputs.maps] == [
        (2, *shape) for shape in points.shapes
    ]
    sides = [shape[1] for shape in points.shapes]
    assert sides == sorted(set(sides), reverse=True)
    # With and without maps, a vector enters the classifier.
    assert outputs.pooled is not None
    assert outputs.pooled.shape[0] == 2
    assert outputs.pooled.ndim == 2


@pytest.mark.parametrize("name", LOGITS)
def test_hooks_leave_logits_unchanged_and_capture_the_flow(name):
    network = build(f"cifar/{name}", num_classes=10).eval()
    fill(network)
    x = wave()
    with feature_hooks.FeatureHooks(
        network, feature_hooks.find_hook_points(network, x[:1])
    ) as hooked:
        outputs = hooked(x)
    assert torch.equal(outputs.logits, network(x))
    # All seven families average their last map, so a map from before its activation, or one
    # that was changed in place later, would not match.
    assert torch.allclose(outputs.pooled, outputs.maps[-1].mean((2, 3)), atol=1e-6)
    gradients = torch.autograd.grad(outputs.logits.sum(), outputs.maps)
    assert all(gradient.abs().sum() > 0 for gradient in gradients)
    assert not any(module._forward_hooks for module in network.modules())
    assert not any(module._forward_pre_hooks for module in network.modules())


def test_captured_map_is_the_input_of_the_next_stage():
    network = build("cifar/vgg8", num_classes=10).eval()
    x = wave()
    with feature_hooks.FeatureHooks(
        network, feature_hooks.find_hook_points(network, x[:1])
    ) as hooked:
        first, second, *_ = hooked(x).maps
    assert torch.equal(second, functional.relu(network.block1(functional.max_pool2d(first, 2))))
    assert first.min() == 0


class InPlace(nn.Module):
    """An in-place ReLU, which is no module, follows the last module of its stage."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.classifier = nn.Conv2d(4, 2, 1)
        self.act = nn.ReLU()

    def forward(self, x):
        x = functional.relu(self.norm(self.conv(x)), inplace=True)
        return self.act(self.act(self.classifier(x))).mean((2, 3))


def test_in_place_change_reaches_a_detected_layer_but_not_a_named_one():
    network = InPlace().eval()
    x = wave(8)
    normed = network.norm(network.conv(x))
    assert normed.min() < 0
    points = feature_hooks.find_hook_points(network, x)
    with feature_hooks.FeatureHooks(network, points) as hooked:
        outputs = hooked(x)
    assert points.maps == ("norm",)
    assert torch.equal(outputs.maps[0], normed.relu())
    with feature_hooks.FeatureHooks(
        network, feature_hooks.hook_points_at(network, x, ["norm", "conv"])
    ) as hooked:
        copied = hooked(x)
    assert torch.equal(copied.maps[0], normed)
    copied.maps[0].sum().backward()
    assert network.norm.weight.grad.abs().sum() > 0


def test_convolution_may_be_the_classifier():
    network = InPlace().eval()
    x = wave(8)
    points = feature_hooks.find_hook_points(network, x)
    with feature_hooks.FeatureHooks(network, points) as hooked:
        outputs = hooked(x)
    assert points.classifier == "classifier"
    assert torch.equal(outputs.pooled, outputs.maps[0].mean((2, 3)))


def test_only_requested_features_are_captured():
    network = build("cifar/resnet8", num_classes=3)
    points = feature_hooks.find_hook_points(network, wave()[:1])
    assert network.training
    with feature_hooks.FeatureHooks(network, points, maps=False) as hooked:
        outputs = hooked(wave())
        assert outputs.maps == []
        assert outputs.pooled.shape == (2, 64)
    with feature_hooks.FeatureHooks(network, points, pooled=False) as hooked:
        for _ in range(2):
            outputs = hooked(wave())
            assert outputs.pooled is None
            assert len(outputs.maps) == 3


def test_hooks_work_under_autocast_and_channels_last():
    network = build("cifar/resnet8", num_classes=3).to(memory_format=torch.channels_last)
    points = feature_hooks.find_hook_points(network, wave()[:1])
    x = wave().to(memory_format=torch.channels_last)
    with (
        feature_hooks.FeatureHooks(network, points) as hooked,
        torch.autocast("cpu", torch.bfloat16),
    ):
        outputs = hooked(x)
    assert outputs.maps[0].dtype == torch.bfloat16
    assert outputs.maps[0].is_contiguous(memory_format=torch.channels_last)
    sum(feature.float().mean() for feature in [*outputs.maps, outputs.pooled]).backward()
    assert all(parameter.grad is not None for parameter in network.layer3.parameters())


def test_network_without_a_classifier_has_no_pooled_features():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(1))
    points = feature_hooks.find_hook_points(network, wave()[:1])
    assert points.classifier in (None, "0")
    headless = nn.Sequential(nn.AvgPool2d(8), nn.ReLU(), nn.AvgPool2d(4), nn.Flatten(1))
    points = feature_hooks.find_hook_points(headless, wave()[:1])
    assert points.classifier is None
    with feature_hooks.FeatureHooks(headless, points) as hooked:
        assert hooked(wave()).pooled is None
    with pytest.raises(UserError, match="no pooled features"):
        feature_hooks.FeatureHooks(headless, points, pooled=True).__enter__()


def test_named_layers_are_captured_in_their_order():
    network = build("cifar/resnet8", num_classes=3).eval()
    points = feature_hooks.hook_points_at(network, wave()[:1], ["layer2.0", "layer1.0.bn1"])
    assert points.shapes == ((32, 16, 16), (16, 32, 32))
    with feature_hooks.FeatureHooks(network, points) as hooked:
        deep, shallow = hooked(wave()).maps
    x = network.relu(network.bn1(network.conv1(wave())))
    assert torch.equal(deep, network.layer2(network.layer1(x)))
    # The block's ReLU works in place, so the hook keeps a copy from before it.
    assert torch.equal(shallow, network.layer1[0].bn1(network.layer1[0].conv1(x)))
    assert shallow.min() < 0


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("layer4", "no such module; did you mean layer3"),
        ("", "no such module"),
        ("fc", r"it returns \(1, 3\), not a map"),
        ("layer1.0.relu", "calls it 2 times; name the module around it"),
        ("layer1.0.unused", "calls it never"),
    ],
)
def test_unusable_layer_is_explained(path, words):
    network = build("cifar/resnet8", num_classes=3)
    network.layer1[0].unused = nn.Identity()
    with pytest.raises(UserError, match=words) as raised:
        feature_hooks.hook_points_at(network, wave()[:1], ["layer1", path, "layer9"])
    assert raised.value.code == "student_incompatible"
    assert [item.name for item in raised.value.items] == [path, "layer9"]
