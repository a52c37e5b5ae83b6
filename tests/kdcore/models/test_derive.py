"""Derived students: the teacher's architecture with cheaper convolutions or another width."""

import pytest
import torch

from kdcore.models import build, feature_hooks, flops
from kdcore.models.factory import derive, standard_convolutions
from kdcore.runtime.errors import UserError
from tests.kdcore.models.golden import wave

NETWORKS = {
    "cifar/resnet20": "conv1",
    "cifar/wrn_16_2": "conv1",
    "cifar/vgg8": "block0.0",
    "torchvision/resnet18": "conv1",
}


def derive_student(name, **options):
    return derive(name, **{"num_classes": 10, "input_size": 32} | options)


@pytest.mark.parametrize("name", NETWORKS)
def test_grouped_and_pointwise_convolutions_replace_a_standard_one(name):
    plain = build(name, num_classes=10)
    # k*k*N*M weights become k*k*N*N/g and N*M; the pointwise convolution has the bias.
    saved = {
        groups: sum(
            conv.kernel_size[0] ** 2 * conv.in_channels * conv.out_channels
            - conv.kernel_size[0] ** 2 * conv.in_channels**2 // (groups or conv.in_channels)
            - conv.in_channels * conv.out_channels
            for conv in standard_convolutions(plain, NETWORKS[name]).values()
        )
        for groups in (8, None)
    }
    grouped = derive_student(name, convolution="grouped", groups=8)
    separable = derive_student(name, convolution="depthwise_separable", groups=8)
    assert flops.num_params(grouped) == flops.num_params(plain) - saved[8]
    assert flops.num_params(separable) == flops.num_params(plain) - saved[None]
    for network in (grouped, separable):
        assert network(wave()).shape == (2, 10)
        stem = network.get_submodule(NETWORKS[name])
        assert torch.equal(
            torch.tensor(stem.weight.shape),
            torch.tensor(plain.get_submodule(NETWORKS[name]).weight.shape),
        )
    hook_points = feature_hooks.find_hook_points(separable.eval(), wave()[:1])
    assert hook_points.shapes == feature_hooks.find_hook_points(plain, wave()[:1]).shapes


@pytest.mark.parametrize("name", NETWORKS)
def test_half_width_has_about_a_quarter_of_the_weights(name):
    plain = build(name, num_classes=10)
    narrow = derive_student(name, width=0.5)
    shapes = feature_hooks.find_hook_points(plain, wave()[:1]).shapes
    assert feature_hooks.find_hook_points(narrow, wave()[:1]).shapes == tuple(
        (c // 2, h, w) for c, h, w in shapes
    )
    assert 0.2 < flops.num_params(narrow) / flops.num_params(plain) < 0.3
    assert narrow(wave()).shape == (2, 10)
    both = derive_student(name, width=0.5, convolution="grouped", groups=4)
    assert flops.num_params(both) < flops.num_params(narrow)
    assert both(wave()).shape == (2, 10)


def test_one_group_leaves_the_teachers_shape():
    torch.manual_seed(1)
    plain = build("cifar/resnet8", num_classes=10)
    torch.manual_seed(1)
    same = derive_student("cifar/resnet8", groups=1)
    assert {name: p.shape for name, p in same.named_parameters()} == {
        name: p.shape for name, p in plain.named_parameters()
    }
    assert torch.equal(same.fc.weight, plain.fc.weight)


def test_one_group_per_channel_is_depthwise():
    separable = derive_student("cifar/vgg8", convolution="depthwise_separable")
    spatial, pointwise = separable.block1[0]
    assert (spatial.groups, spatial.in_channels, spatial.bias) == (64, 64, None)
    assert (pointwise.kernel_size, pointwise.out_channels) == ((1, 1), 128)
    assert pointwise.bias is not None


def test_uneven_width_fits_residual_additions():
    network = derive_student("cifar/resnet20", width=0.3, in_channels=1)
    assert network(wave(channels=1)).shape == (2, 10)
    assert network.layer3[0].conv1.out_channels == 19


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"groups": 5}, "5 groups do not divide the channels of layer1.0.conv1.*16 channels.*1, 2"),
        ({"groups": 0}, "1 group or more"),
        ({"width": 0}, "a width above 0"),
        ({"name": "cifar/ShuffleV1", "width": 0.3}, r"layer1.0.conv3 has 3 groups, and would have"),
        ({"name": "cifar/ShuffleV2", "groups": 2}, "no standard convolution to replace"),
        ({"name": "cifar/ShuffleV2", "width": 0.3}, "does not fit together at 0.3 times"),
        ({"name": "timm/vit_tiny_patch16_224", "width": 0.5}, "has a fixed width"),
        ({"name": "cifar/resnet9"}, "there is no architecture"),
        ({"input_size": 4}, "8 pixels or more"),
    ],
)
def test_invalid_derivations_are_explained(options, words):
    with pytest.raises(UserError, match=words) as raised:
        derive_student(**{"name": "cifar/resnet20"} | options)
    assert raised.value.code == "student_incompatible"


def test_every_layer_that_the_groups_do_not_divide_is_named():
    with pytest.raises(UserError) as raised:
        derive_student("cifar/resnet8", groups=32)
    # Three layers have 16 input channels: two of the first stage and the next one.
    assert [item.name for item in raised.value.items] == [
        "layer1.0.conv1",
        "layer1.0.conv2",
        "layer2.0.conv1",
    ]


def test_equal_seeds_give_equal_students():
    first, second = (
        torch.manual_seed(2) and derive_student("cifar/resnet8", groups=4, width=0.5)
        for _ in range(2)
    )
    assert all(
        torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True)
    )
