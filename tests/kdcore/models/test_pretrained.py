"""Published weights by name: their metadata without a download, and how they are fitted."""

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
def test_name_resolves_to_architecture_and_weights(name, architecture, weights):
    info = resolve_pretrained(name)
    assert (info.architecture, info.weights) == (architecture, weights)
    assert (info.input_size, info.num_classes) == (224, 1000)
    assert info.normalization.mean == (0.485, 0.456, 0.406)
    assert weights in architectures()[architecture].pretrained


def test_weights_have_their_size_normalization_and_license():
    # A layer inside the network undoes ImageNet's normalization in favor of this one.
    assert resolve_pretrained("torchvision/inception_v3").normalization.std == (0.5, 0.5, 0.5)
    assert resolve_pretrained("torchvision/inception_v3").input_size == 299
    swag = resolve_pretrained("torchvision/vit_b_16.IMAGENET1K_SWAG_E2E_V1")
    assert (swag.input_size, swag.license) == (384, "CC-BY-NC-4.0")
    clip = resolve_pretrained("timm/vit_base_patch16_clip_224.openai")
    assert clip.normalization.mean == (0.48145466, 0.4578275, 0.40821073)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("torchvision/resnet51", "no network 'resnet51'; did you mean .*resnet50"),
        ("torchvision/resnet18.V9", "it has IMAGENET1K_V1"),
        ("timm/resnett50", "no network 'resnett50'; did you mean .*resnet50"),
        ("timm/resnet50.tv9", "it has resnet50.a1_in1k"),
        ("cifar/resnet8", "no published weights for 'cifar/resnet8'"),
        ("timm/aimv2_large_patch14_224", "have no classifier"),
    ],
)
def test_unknown_weights_are_explained(name, words):
    with pytest.raises(UserError, match=words) as raised:
        load_pretrained(name)
    assert raised.value.code == "teacher_load_failed"


@pytest.fixture
def hub_cache(tmp_path: Path) -> Path:
    """A cache with torchvision's file, which holds random weights."""
    torch.manual_seed(3)
    file = tmp_path / SQUEEZENET_FILE
    file.parent.mkdir()
    torch.save(build(SQUEEZENET, num_classes=1000, input_size=64).state_dict(), file)
    return tmp_path


def test_cached_weights_fit_their_network(hub_cache):
    cached = torch.load(hub_cache / SQUEEZENET_FILE)
    before = torch.hub.get_dir()
    pretrained = load_pretrained(SQUEEZENET, cache=hub_cache)
    assert (pretrained.input_size, pretrained.num_classes) == (224, 1000)
    assert pretrained.weights.keys() == cached.keys()
    assert all(torch.equal(pretrained.weights[name], cached[name]) for name in cached)
    assert torch.hub.get_dir() == before


def test_weights_are_fitted_to_gray_images_and_other_classes(hub_cache):
    cached = torch.load(hub_cache / SQUEEZENET_FILE)
    pretrained = load_pretrained(
        SQUEEZENET, num_classes=7, in_channels=1, input_size=64, cache=hub_cache
    )
    network = build(SQUEEZENET, num_classes=7, in_channels=1, input_size=64)
    network.load_state_dict(pretrained.weights)
    stem, head = "features.0.weight", "classifier.1.weight"
    assert torch.equal(pretrained.weights[stem], cached[stem].sum(1, keepdim=True))
    assert pretrained.weights[head].shape[0] == 7
    fitting = cached.keys() - {stem, head, "classifier.1.bias"}
    assert all(torch.equal(pretrained.weights[name], cached[name]) for name in fitting)
    assert pretrained.normalization.mean == pytest.approx((0.449,))


def test_weights_of_another_network_are_refused(hub_cache):
    torch.save({"conv1.weight": torch.zeros(1)}, hub_cache / SQUEEZENET_FILE)
    with pytest.raises(UserError, match="squeezenet1_1 could not be downloaded or read"):
        load_pretrained(SQUEEZENET, cache=hub_cache)


def test_failed_download_suggests_an_upload(tmp_path, monkeypatch):
    # A proxy with a closed port: no name is looked up and no byte leaves this machine.
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    with pytest.raises(UserError, match="could not be downloaded or read") as raised:
        load_pretrained(SQUEEZENET, cache=tmp_path)
    assert raised.value.code == "teacher_load_failed"
    assert "upload the checkpoint" in raised.value.hint


def test_failed_download_of_timm_is_reported(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=r"timm/lcnet_050 could not be downloaded or read"):
        load_pretrained("timm/lcnet_050", cache=tmp_path)


def test_timm_weights_of_a_file_are_fitted(tmp_path):
    torch.manual_seed(4)
    cached = build("timm/lcnet_050", num_classes=1000, input_size=64).state_dict()
    torch.save(cached, tmp_path / "weights.pth")
    network = timm_networks.make(
        "lcnet_050.ra2_in1k",
        num_classes=5,
        in_channels=1,
        input_size=64,
        pretrained=True,
        pretrained_cfg_overlay={"file": str(tmp_path / "weights.pth")},
    )
    weights = network.state_dict()
    fresh = build("timm/lcnet_050", num_classes=5, in_channels=1, input_size=64)
    fresh.load_state_dict(weights)
    assert torch.allclose(
        weights["conv_stem.weight"], cached["conv_stem.weight"].sum(1, keepdim=True)
    )
    assert torch.equal(weights["bn1.weight"], cached["bn1.weight"])
