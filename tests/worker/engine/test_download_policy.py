"""Published weights through the real worker and engine, with a cache and without a network."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from safetensors.torch import load

from kdcore.models import build
from store.settings import settings
from tests.helpers import job_body

Json = dict[str, Any]
FILE = "squeezenet1_1-b8a52dc0.pth"
UNREACHABLE_PROXY = "http://127.0.0.1:9"


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every download meets a proxy that is not there."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.setenv(name, UNREACHABLE_PROXY)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")


@pytest.fixture
def outcome(
    client: httpx.Client, empty_queue: None, run_queue: Callable[[str], None]
) -> Callable[[str], Json]:
    """A model from a source, after a worker has had it."""

    def make(source: str, **more: str) -> Json:
        body = {"name": "a teacher", "source": source} | more
        created = client.post("/v1/models", json=body).raise_for_status().json()
        run_queue("prepare")
        model: Json = client.get(created["links"]["self"]).raise_for_status().json()
        return model

    return make


@pytest.mark.usefixtures("no_network")
def test_verification_without_a_network_fails_with_a_message(outcome: Any) -> None:
    # Not with timm, because the Hub's client retries for a minute.
    model = outcome("torchvision:ResNet18_Weights.DEFAULT")
    assert (model["state"], model["error"]["code"]) == ("failed", "teacher_load_failed")
    assert "could not be downloaded" in model["error"]["message"]
    assert "upload the checkpoint" in model["error"]["hint"]


@pytest.mark.usefixtures("no_network", "empty_queue")
def test_pretrained_student_without_a_network_fails_with_a_message(
    client: httpx.Client, digits: Json, run_queue: Callable[[str], None]
) -> None:
    body = job_body(digits, student={"architecture": "torchvision/resnet18", "init": "pretrained"})
    created = client.post("/v1/jobs", json=body).raise_for_status().json()
    run_queue("train")
    failed = client.get(created["links"]["self"]).raise_for_status().json()
    assert (failed["state"], failed["error"]["code"]) == ("failed", "teacher_load_failed")
    assert "could not be downloaded" in failed["error"]["message"]


def test_weights_in_the_cache_become_a_complete_model(
    client: httpx.Client, outcome: Any, no_network: None
) -> None:
    torch.manual_seed(0)
    weights = build("torchvision/squeezenet1_1", num_classes=1000, input_size=224).state_dict()
    cached: Path = settings().work_dir / "downloads" / "torch" / "hub" / "checkpoints" / FILE
    cached.parent.mkdir(parents=True, exist_ok=True)
    torch.save(weights, cached)
    model = outcome("torchvision:squeezenet1_1", license="as agreed")
    assert (model["state"], model["error"]) == ("ready", None)
    assert (model["num_classes"], model["in_channels"], model["input_size"]) == (1000, 3, 224)
    assert model["normalization"]["mean"] == [0.485, 0.456, 0.406]
    assert model["class_names"][:2] == ["tench", "goldfish"]
    assert model["license"] == "as agreed"
    assert model["num_params"] == sum(
        parameter.numel()
        for parameter in build("torchvision/squeezenet1_1", num_classes=1000).parameters()
    )
    downloaded = load(client.get(model["links"]["weights"]).content)
    assert set(downloaded) == set(weights)
    assert all(torch.equal(downloaded[name], weights[name]) for name in weights)


def test_error_names_the_setting_that_forbids_downloads(
    outcome: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings(), "downloads", False)
    model = outcome("timm:resnet18")
    assert (model["state"], model["error"]["code"]) == ("failed", "teacher_load_failed")
    assert "STILLHOUSE_DOWNLOADS" in model["error"]["message"]
