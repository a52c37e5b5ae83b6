"""A network that only answers, in bfloat16 and folded, says what it said before."""

import pytest
import torch
from torch import Tensor, nn

from kdcore.models import build
from kdcore.models.inference import _fold_batch_norms, fuse_for_inference
from kdcore.models.normalized_model import NormalizedModel
from kdcore.schema.catalog import Normalization

NORMALIZATION = Normalization(mean=(0.5, 0.4, 0.6), std=(0.2, 0.3, 0.25))
NETWORKS = [
    *("cifar/resnet20", "cifar/resnet8x4", "cifar/wrn_16_2", "cifar/vgg8", "cifar/MobileNetV2"),
    *("cifar/ShuffleV1", "cifar/ShuffleV2", "torchvision/resnet18"),
]


def teacher(name: str, side: int = 32) -> NormalizedModel:
    torch.manual_seed(1)
    network = build(name, num_classes=10, in_channels=3, input_size=side)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):  # as after a training: nothing is one or zero
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.2, 0.2)
            nn.init.uniform_(module.running_mean, -0.3, 0.3)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    return NormalizedModel(network, NORMALIZATION, side).requires_grad_(requires_grad=False).eval()


@pytest.fixture
def views() -> Tensor:
    generator = torch.Generator().manual_seed(2)
    return torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8, generator=generator)


def norms(network: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())


@pytest.mark.parametrize("name", [name for name in NETWORKS if name != "cifar/vgg8"])
def test_folded_it_answers_the_same(name: str, views: Tensor) -> None:
    own = teacher(name)
    folded = _fold_batch_norms(own.network)
    assert folded is not None
    assert norms(folded) < norms(own.network)
    images = own.prepare(views)
    torch.testing.assert_close(folded(images), own.network(images), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", NETWORKS)
def test_in_bfloat16_it_says_nearly_the_same(name: str, views: Tensor) -> None:
    own = teacher(name)
    before = {key: value.clone() for key, value in own.state_dict().items()}
    ours, theirs = fuse_for_inference(own, views[:2])(views), own(views)
    assert ours.dtype == torch.float32
    assert (ours - theirs).abs().max() < 0.05 * theirs.abs().max()
    assert all(torch.equal(value, before[key]) for key, value in own.state_dict().items())


def test_an_image_has_one_answer_whatever_stands_beside_it(views: Tensor) -> None:
    swift = fuse_for_inference(teacher("cifar/resnet8x4"), views[:2])
    together = swift(views)
    assert torch.equal(together, swift(views))
    torch.testing.assert_close(swift(views[:1]), together[:1], rtol=0.02, atol=0.02)


class Choosy(nn.Module):
    """Its way depends on what it sees: nobody can trace it."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.AdaptiveAvgPool2d(1))

    def forward(self, images: Tensor) -> Tensor:
        x = self.layers(images).flatten(1)
        return x if x.sum() > 0 else -x


def test_what_cannot_be_traced_is_not_folded(views: Tensor) -> None:
    own = NormalizedModel(Choosy(), NORMALIZATION).eval()
    assert _fold_batch_norms(own.network) is None
    swift = fuse_for_inference(own, views[:2])
    assert norms(swift) == 1
    torch.testing.assert_close(swift(views), own(views), rtol=0.05, atol=0.05)


class Shared(nn.Module):
    """One normalization after two convolutions: folding it into either would be wrong."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.other = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3)
        self.norm = nn.BatchNorm2d(8)

    def forward(self, images: Tensor) -> Tensor:
        return self.norm(self.other(self.norm(self.one(images)))).mean(dim=(2, 3))


def test_what_is_used_twice_is_not_folded(views: Tensor) -> None:
    own = NormalizedModel(Shared(), NORMALIZATION).eval()
    folded = _fold_batch_norms(own.network)
    assert folded is not None
    assert norms(folded) == 1
    images = own.prepare(views)
    torch.testing.assert_close(folded(images), own.network(images))
