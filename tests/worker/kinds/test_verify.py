"""Checkpoints through the real verification: what fits is ready, what does not says why."""

import io
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load, save

from kdcore.models import build
from tests.helpers import upload

Json = dict[str, Any]
BODY = {"architecture": "cifar/resnet8", "num_classes": 5}
NORMALIZATION = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.2, 0.2]}


class Runs:
    """Unpickling it makes a file: the canary."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def network(name: str = "cifar/resnet8", **changes: int) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    state: dict[str, torch.Tensor] = build(name, **{"num_classes": 5} | changes).state_dict()
    return state


def pytorch(state: Any) -> bytes:
    file = io.BytesIO()
    torch.save(state, file)
    return file.getvalue()


@pytest.fixture(scope="module")
def canary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("canary") / "sang"


@pytest.fixture(scope="module")
def outcomes(api_url: str, run_queue: Any, canary: Path) -> Iterator[Any]:
    """All checkpoints, verified in one go."""
    from tests.conftest import client_for, create_tenant

    weights_file = save(network())
    gray = save(network(in_channels=1))
    declared = {"normalization": NORMALIZATION, "input_size": 16}
    sent: dict[str, tuple[bytes, Json]] = {
        "safetensors": (weights_file, declared),
        "pytorch": (pytorch({"state_dict": network()}), {}),
        "gray": (gray, {}),
        "gray_and_wrong": (gray, declared),
        "foreign": (save(network("cifar/resnet14")), {}),
        "truncated": (weights_file[: len(weights_file) // 2], {}),
        "code": (pytorch({"a": Runs(canary)}), {}),
    }
    tenant = create_tenant()
    with client_for(api_url, tenant.key) as client:
        created = {}
        for name, (data, changes) in sent.items():
            body = BODY | {"name": name, "upload_id": upload(client, data)} | changes
            response = client.post("/v1/models", json=body)
            assert response.status_code == 201, response.text
            created[name] = response.json()
            assert created[name]["state"] == "verifying"
        run_queue("prepare")
        yield (
            client,
            created,
            {name: client.get(f"/v1/models/{item['id']}").json() for name, item in created.items()},
        )


def test_weights_come_back_as_they_were(outcomes: Any) -> None:
    client, _, models = outcomes
    expected = network()
    for name in ("safetensors", "pytorch"):
        model = models[name]
        assert (model["state"], model["error"]) == ("ready", None)
        assert (model["in_channels"], model["num_classes"]) == (3, 5)
        weights = load(client.get(model["links"]["weights"]).content)
        assert set(weights) == set(expected)
        assert all(torch.equal(weights[key], expected[key]) for key in expected)
    assert models["safetensors"]["sha256"] == models["pytorch"]["sha256"]


def test_missing_fields_come_from_the_architecture_with_a_warning(outcomes: Any) -> None:
    client, created, models = outcomes
    assert created["safetensors"]["warnings"] == []
    assert models["safetensors"]["normalization"] == NORMALIZATION
    assert models["safetensors"]["input_size"] == 16
    warnings = created["pytorch"]["warnings"]
    assert len(warnings) == 2
    assert "normalization" in warnings[0]
    assert "input_size" in warnings[1]
    architecture = client.get("/v1/architectures/cifar/resnet8").json()
    assert models["pytorch"]["normalization"] == architecture["normalization"]
    assert models["pytorch"]["input_size"] == architecture["input_size"]


def test_gray_network_has_a_normalization_of_one_channel(outcomes: Any) -> None:
    _, _, models = outcomes
    model = models["gray"]
    assert (model["state"], model["in_channels"]) == ("ready", 1)
    assert [len(values) for values in model["normalization"].values()] == [1, 1]
    failed = models["gray_and_wrong"]
    assert failed["state"] == "failed"
    assert [item["name"] for item in failed["error"]["items"]] == ["normalization"]


def test_foreign_network_is_compared_key_by_key(outcomes: Any) -> None:
    _, _, models = outcomes
    failed = models["foreign"]
    assert (failed["state"], failed["error"]["code"]) == ("failed", "checkpoint_invalid")
    assert failed["error"]["items"]
    assert all(item["name"] and item["detail"] for item in failed["error"]["items"])


@pytest.mark.parametrize("name", ["truncated", "code"])
def test_invalid_file_fails_with_a_message(outcomes: Any, name: str) -> None:
    client, _, models = outcomes
    failed = models[name]
    assert (failed["state"], failed["error"]["code"]) == ("failed", "checkpoint_invalid")
    assert failed["error"]["message"]
    assert "Traceback" not in str(failed)
    assert client.get(failed["links"]["weights"]).status_code == 409


def test_no_code_of_a_pickle_has_run(outcomes: Any, canary: Path) -> None:
    _, _, models = outcomes
    assert models["code"]["state"] == "failed"
    assert not canary.exists()
    pickle.loads(pickle.dumps(Runs(canary)))  # noqa: S301 - so that the canary is known to sing
    assert canary.exists()
