"""Published weights by name: what they are is known before they are fetched; they fit."""

from pathlib import Path

import pytest
import torch

from kdcore.models import build, timm_networks
from kdcore.models.pretrained import load_pretrained, resolve_pretrained
from kdcore.runtime.errors import UserError
from kdcore.schema.catalog import architectures

SQUEEZENET = "torchvision/squeezenet1_1"
SQUEEZENET_FILE = "checkpoints/squeezenet1_1-b8a52dc0.pth"


@pytest.mark.parametrize(
    ("name", "architecture", "weights"),
    [
        ("torchvision/resnet50", "torchvision/resnet50", "ResNet50_Weights.IMAGENET1K_V2"),
        (
            "torchvision/resnet50.IMAGENET1K_V1",
            "torchvision/resnet50",
            "ResNet50_Weights.IMAGENET1K_V1",
        ),
        (
            "torchvision:ResNet50_Weights.DEFAULT",
            "torchvision/resnet50",
            "ResNet50_Weights.IMAGENET1K_V2",
        ),
        ("timm/resnet50", "timm/resnet50", "resnet50.a1_in1k"),
        ("timm:resnet50.tv_in1k", "timm/resnet50", "resnet50.tv_in1k"),
    ],
)
def test_a_name_means_weights(name, architecture, weights):
    published = resolve_pretrained(name)
    assert (published.architecture, published.weights) == (architecture, weights)
    assert (published.input_size, published.num_classes) == (224, 1000)
    assert published.normalization.mean == (0.485, 0.456, 0.406)
    assert weights in architectures()[architecture].pretrained


def test_weights_know_their_own_size_pixels_and_license():
    # Its checkpoint is used behind a layer that expects this instead of ImageNet's.
    assert resolve_pretrained("torchvision/inception_v3").normalization.std == (0.5, 0.5, 0.5)
    assert resolve_pretrained("torchvision/inception_v3").input_size == 299
    swag = resolve_pretrained("torchvision/vit_b_16.IMAGENET1K_SWAG_E2E_V1")
    assert (swag.input_size, swag.license) == (384, "CC-BY-NC-4.0")
    clip = resolve_pretrained("timm/vit_base_patch16_clip_224.openai")
    assert clip.normalization.mean == (0.48145466, 0.4578275, 0.40821073)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("torchvision/resnet51", "no network 'resnet51'; near it: .*resnet50"),
        ("torchvision/resnet18.V9", "it has IMAGENET1K_V1"),
        ("timm/resnett50", "no network 'resnett50'; near it: .*resnet50"),
        ("timm/resnet50.tv9", "it has resnet50.a1_in1k"),
        ("cifar/resnet8", "no published weights for 'cifar/resnet8'"),
        ("timm/aimv2_large_patch14_224", "have no classifier"),
    ],
)
def test_names_of_no_weights_are_said(name, words):
    with pytest.raises(UserError, match=words) as raised:
        load_pretrained(name)
    assert raised.value.code == "teacher_load_failed"


@pytest.fixture
def hub(tmp_path: Path) -> Path:
    """A cache in which torchvision's file already lies, though with weights of our own."""
    torch.manual_seed(3)
    file = tmp_path / SQUEEZENET_FILE
    file.parent.mkdir()
    torch.save(build(SQUEEZENET, num_classes=1000, input_size=64).state_dict(), file)
    return tmp_path


def test_weights_of_the_cache_fit_their_network(hub):
    own = torch.load(hub / SQUEEZENET_FILE)
    before = torch.hub.get_dir()
    found = load_pretrained(SQUEEZENET, cache=hub)
    assert (found.input_size, found.num_classes) == (224, 1000)
    assert found.weights.keys() == own.keys()
    assert all(torch.equal(found.weights[name], own[name]) for name in own)
    assert torch.hub.get_dir() == before


def test_weights_are_fitted_to_gray_images_and_other_classes(hub):
    own = torch.load(hub / SQUEEZENET_FILE)
    found = load_pretrained(SQUEEZENET, num_classes=7, in_channels=1, input_size=64, cache=hub)
    network = build(SQUEEZENET, num_classes=7, in_channels=1, input_size=64)
    network.load_state_dict(found.weights)
    stem, head = "features.0.weight", "classifier.1.weight"
    assert torch.equal(found.weights[stem], own[stem].sum(1, keepdim=True))
    assert found.weights[head].shape[0] == 7
    fitting = own.keys() - {stem, head, "classifier.1.bias"}
    assert all(torch.equal(found.weights[name], own[name]) for name in fitting)
    assert found.normalization.mean == pytest.approx((0.449,))


def test_weights_of_another_network_are_refused(hub):
    torch.save({"conv1.weight": torch.zeros(1)}, hub / SQUEEZENET_FILE)
    with pytest.raises(UserError, match="squeezenet1_1 could not be downloaded or read"):
        load_pretrained(SQUEEZENET, cache=hub)


def test_a_download_that_fails_says_what_else_can_be_done(tmp_path, monkeypatch):
    # A proxy that is not there: no name is looked up and no byte leaves this machine.
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    with pytest.raises(UserError, match="could not be downloaded or read") as raised:
        load_pretrained(SQUEEZENET, cache=tmp_path)
    assert raised.value.code == "teacher_load_failed"
    assert "upload the checkpoint" in raised.value.hint


def test_timm_without_a_network_says_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=r"timm/lcnet_050 could not be downloaded or read"):
        load_pretrained("timm/lcnet_050", cache=tmp_path)


def test_timms_weights_of_a_file_are_fitted(tmp_path):
    torch.manual_seed(4)
    own = build("timm/lcnet_050", num_classes=1000, input_size=64).state_dict()
    torch.save(own, tmp_path / "weights.pth")
    network = timm_networks.make(
        "lcnet_050.ra2_in1k",
        num_classes=5,
        in_channels=1,
        input_size=64,
        pretrained=True,
        pretrained_cfg_overlay={"file": str(tmp_path / "weights.pth")},
    )
    found = network.state_dict()
    fresh = build("timm/lcnet_050", num_classes=5, in_channels=1, input_size=64)
    fresh.load_state_dict(found)
    assert torch.allclose(found["conv_stem.weight"], own["conv_stem.weight"].sum(1, keepdim=True))
    assert torch.equal(found["bn1.weight"], own["bn1.weight"])
