"""A network with folded batch norms and bfloat16 weights computes nearly the same logits."""

import pytest
import torch
from torch import Tensor, nn

from kdcore.models import build
from kdcore.models.inference import fold_batch_norms, fuse_for_inference
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
        if isinstance(module, nn.BatchNorm2d):  # as after training, neither one nor zero
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.2, 0.2)
            nn.init.uniform_(module.running_mean, -0.3, 0.3)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    return NormalizedModel(network, NORMALIZATION, side).requires_grad_(requires_grad=False).eval()


@pytest.fixture
def views() -> Tensor:
    generator = torch.Generator().manual_seed(2)
    return torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8, generator=generator)


def num_batch_norms(network: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())


@pytest.mark.parametrize("name", [name for name in NETWORKS if name != "cifar/vgg8"])
def test_folded_network_computes_the_same(name: str, views: Tensor) -> None:
    model = teacher(name)
    folded = fold_batch_norms(model.network)
    assert folded is not None
    assert num_batch_norms(folded) < num_batch_norms(model.network)
    images = model.prepare(views)
    torch.testing.assert_close(folded(images), model.network(images), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", NETWORKS)
def test_bfloat16_copy_computes_nearly_the_same(name: str, views: Tensor) -> None:
    model = teacher(name)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    logits, reference = fuse_for_inference(model, views[:2])(views), model(views)
    assert logits.dtype == torch.float32
    assert (logits - reference).abs().max() < 0.05 * reference.abs().max()
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_logits_of_an_image_do_not_depend_on_its_batch(views: Tensor) -> None:
    fused = fuse_for_inference(teacher("cifar/resnet8x4"), views[:2])
    together = fused(views)
    assert torch.equal(together, fused(views))
    torch.testing.assert_close(fused(views[:1]), together[:1], rtol=0.02, atol=0.02)


class DataDependent(nn.Module):
    """Its branch depends on the pixels, so it cannot be traced."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.AdaptiveAvgPool2d(1))

    def forward(self, images: Tensor) -> Tensor:
        x = self.layers(images).flatten(1)
        return x if x.sum() > 0 else -x


def test_untraceable_network_is_not_folded(views: Tensor) -> None:
    model = NormalizedModel(DataDependent(), NORMALIZATION).eval()
    assert fold_batch_norms(model.network) is None
    fused = fuse_for_inference(model, views[:2])
    assert num_batch_norms(fused) == 1
    torch.testing.assert_close(fused(views), model(views), rtol=0.05, atol=0.05)


class SharedNorm(nn.Module):
    """One batch norm after two convolutions: folding it into either would be wrong."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3)
        self.norm = nn.BatchNorm2d(8)

    def forward(self, images: Tensor) -> Tensor:
        return self.norm(self.second(self.norm(self.first(images)))).mean(dim=(2, 3))


def test_batch_norm_that_is_used_twice_is_not_folded(views: Tensor) -> None:
    model = NormalizedModel(SharedNorm(), NORMALIZATION).eval()
    folded = fold_batch_norms(model.network)
    assert folded is not None
    assert num_batch_norms(folded) == 1
    images = model.prepare(views)
    torch.testing.assert_close(folded(images), model.network(images))
