"""CIFAR networks have the published keys and sizes and compute the published logits."""

import pytest
import torch

from kdcore.models import build, flops
from kdcore.models.registry import ENTRIES
from tests.kdcore.models.golden import LOGITS, PUBLISHED, TOLERANCE, fill, wave

# A key or two of each kind in the published checkpoints.
KEYS = {
    "resnet8x4": "conv1.weight bn1.running_var layer1.0.downsample.0.weight layer3.0.bn2.bias",
    "ResNet50": "bn1.bias layer1.0.shortcut.1.running_mean layer4.2.conv3.weight linear.bias",
    "wrn_16_2": "conv1.weight block1.layer.0.convShortcut.weight block3.layer.1.bn2.bias fc.weight",
    "vgg13": "block0.0.bias block0.3.weight block4.4.running_var classifier.weight",
    "MobileNetV2": "conv1.0.weight blocks.6.0.conv.7.bias conv2.1.weight classifier.0.weight",
    "ShuffleV1": "conv1.weight layer2.7.bn3.bias layer3.0.conv2.weight linear.weight",
    "ShuffleV2": "layer1.0.conv5.weight layer3.3.bn3.bias conv2.weight bn2.bias linear.bias",
}
# A block whose shapes are equal has no shortcut weights.
NO_KEYS = {
    "resnet20": "layer1.0.downsample.0.weight",
    "wrn_16_1": "block1.layer.0.convShortcut.weight",
    "ResNet50": "layer1.1.shortcut.0.weight",
}


def test_all_22_networks_are_registered():
    assert list(ENTRIES) == [f"cifar/{name}" for name in PUBLISHED]


@pytest.mark.parametrize("name", LOGITS)
def test_logits_match_the_reference(name):
    network = build(f"cifar/{name}", num_classes=10).eval()
    fill(network)
    golden = torch.tensor(LOGITS[name]).view(2, 10)
    with torch.no_grad():
        error = (network(wave()) - golden).abs().max() / golden.abs().max()
    assert error < TOLERANCE


@pytest.mark.parametrize("name", PUBLISHED)
def test_keys_and_sizes_match_the_published_ones(name):
    millions, keys = PUBLISHED[name]
    with torch.device("meta"):
        network = build(f"cifar/{name}", num_classes=100)
    state = network.state_dict()
    assert round(flops.num_params(network) / 1e6, 3) == millions
    assert len(state) == keys
    assert set(KEYS.get(name, "").split()) <= set(state)
    assert not set(NO_KEYS.get(name, "").split()) & set(state)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", LOGITS)
def test_networks_take_any_side_from_the_smallest(name, channels):
    smallest = ENTRIES[f"cifar/{name}"].min_input_size
    with torch.device("meta"):
        network = build(f"cifar/{name}", num_classes=7, in_channels=channels)
        for size in (smallest, smallest + 1, 65):
            assert network(torch.zeros(2, channels, size, size)).shape == (2, 7)


@pytest.mark.parametrize("name", LOGITS)
def test_batch_norms_run_once(name):
    with torch.device("meta"):
        network = build(f"cifar/{name}", num_classes=3)
        calls: dict[str, int] = {}
        for path, module in network.named_modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                calls[path] = 0
                module.register_forward_hook(
                    lambda *_, path=path: calls.__setitem__(path, calls[path] + 1)
                )
        network(torch.zeros(2, 3, 32, 32))
    assert set(calls.values()) == {1}


@pytest.mark.parametrize("name", ["wrn_16_1", "vgg8", "ShuffleV1"])
def test_networks_export_with_any_batch_size(name):
    network = build(f"cifar/{name}", num_classes=4).eval()
    batch = torch.export.Dim("batch", min=1, max=64)
    exported = torch.export.export(network, (wave(),), dynamic_shapes=({0: batch},), strict=False)
    images = torch.cat([wave(), wave().flip(0), wave()[:1]])
    with torch.no_grad():
        assert torch.allclose(exported.module()(images), network(images), atol=1e-5)


def test_equal_seeds_give_equal_weights():
    first, second = (
        torch.manual_seed(5) and build("cifar/resnet8", num_classes=3) for _ in range(2)
    )
    assert all(
        torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True)
    )
    # Fan-out: sqrt(2 / (16 * 9)), whatever the number of input channels.
    assert first.conv1.weight.std().item() == pytest.approx(0.118, rel=0.15)
