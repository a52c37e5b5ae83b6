"""`build` makes the networks of CIFAR, torchvision and timm."""

import subprocess
import sys

import pytest
import torch

from kdcore.models import build
from kdcore.runtime.errors import UserError

SMALL = {
    "cifar/resnet8": 8,
    "torchvision/shufflenet_v2_x0_5": 32,
    "torchvision/regnet_y_400mf": 32,
    "torchvision/vit_b_32": 32,
    "timm/lcnet_050": 32,
    "timm/vit_tiny_patch16_224": 48,
    "timm/levit_128s": 224,
}


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("channels", [1, 3])
def test_logits_have_the_requested_classes_for_any_channels_and_size(name, channels):
    size = SMALL[name]
    with torch.device("meta"):
        network = build(name, num_classes=7, in_channels=channels, input_size=size)
        # In training mode, because students are trained.
        assert network(torch.zeros(2, channels, size, size)).shape == (2, 7)


@pytest.mark.parametrize("name", ["inception_v3", "googlenet"])
def test_auxiliary_heads_are_off(name):
    with torch.device("meta"):
        network = build(f"torchvision/{name}", num_classes=5, input_size=128).train()
        logits = network(torch.zeros(2, 3, 128, 128))
    assert isinstance(logits, torch.Tensor)
    assert logits.shape == (2, 5)
    assert not [key for key in network.state_dict() if "aux" in key.lower()]


@pytest.mark.parametrize("name", ["torchvision/squeezenet1_1", "timm/lcnet_050"])
@pytest.mark.parametrize("channels", [1, 3])
def test_equal_seeds_give_equal_weights(name, channels):
    options = {"num_classes": 3, "in_channels": channels, "input_size": 64}
    first, second, other = (torch.manual_seed(n) and build(name, **options) for n in (1, 1, 2))
    pairs = list(zip(first.parameters(), second.parameters(), other.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b, _ in pairs)
    assert not all(torch.equal(a, c) for a, _, c in pairs)


def test_gray_stem_is_initialized_like_a_color_one():
    gray = build("torchvision/resnet18", num_classes=3, in_channels=1, input_size=64)
    assert gray.conv1.weight.shape == (64, 1, 7, 7)
    # Fan-out: sqrt(2 / (64 * 49)), whatever the number of input channels.
    assert gray.conv1.weight.std().item() == pytest.approx(0.0253, rel=0.1)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"name": "cifar/resnet21"}, "did you mean .*cifar/resnet20"),
        ({"name": "resnet51"}, "did you mean .*resnet51q"),
        ({"name": "timm/resnet50.a1_in1k"}, "did you mean timm/resnet50"),
        ({"name": "torchvision/fcn_resnet50"}, "there is no architecture"),
        ({"name": "xyzzy"}, "names begin with cifar/, timm/, torchvision/"),
        ({"input_size": 7}, "8 pixels or more, not of 7"),
        ({"name": "torchvision/vgg11", "input_size": 24}, "28 pixels or more|32 pixels or more"),
        ({"name": "torchvision/vit_b_16", "input_size": 40}, "cannot be built for images of 40"),
        ({"in_channels": 4}, "1 or 3 channels, not of 4"),
        ({"num_classes": 0}, "one class or more, not 0"),
    ],
)
def test_invalid_arguments_are_explained(options, words):
    with pytest.raises(UserError, match=words) as raised:
        build(**{"name": "cifar/resnet8", "num_classes": 10} | options)
    assert raised.value.code == "student_incompatible"


def test_cifar_networks_need_neither_torchvision_nor_timm():
    script = (
        "import sys; from kdcore.models import build; build('cifar/resnet8', num_classes=2); "
        "sys.exit(bool({'torchvision', 'timm'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
