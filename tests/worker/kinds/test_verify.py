"""Checkpoints through the real verification: what fits is ready, what does not says why."""

import io
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from safetensors.torch import load, save
from sqlalchemy import update

from kdcore.models import build
from store.database import transaction
from store.tables import Upload
from tests.helpers import issue_codes, upload
from tests.kdcore.programs import SIDE, SmallNetwork, external_model, program_bytes
from worker.maintenance.gc import delete_expired

Json = dict[str, Any]
BODY = {"architecture": "cifar/resnet8", "num_classes": 5}
UNKNOWN = {"num_classes": None}
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
        "inferred": (
            pytorch(
                {
                    "state_dict": {f"net.{name}": t for name, t in network().items()},
                    "classes": list("abcde"),
                }
            ),
            {"architecture": None, "num_classes": None},
        ),
        "renamed": (
            pytorch(
                {
                    "model": {name.replace("fc", "head"): t for name, t in network().items()},
                    "ema": network("cifar/resnet14"),
                }
            ),
            {"key_map": [["^head\\.", "fc."]], "weights": "raw"},
        ),
        "other_names": (
            pytorch({"state_dict": network(), "classes": list("abcde")}),
            {"class_names": list("edcba")},
        ),
        "six_classes": (weights_file, {"num_classes": 6}),
        "program": (program_bytes(SmallNetwork().eval()), {"architecture": None} | UNKNOWN),
        "program_as_resnet": (program_bytes(SmallNetwork().eval()), {}),
        "foreign_data": (external_model("../../etc/passwd"), {"architecture": "onnx"} | UNKNOWN),
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


def test_architecture_and_classes_are_inferred(outcomes: Any) -> None:
    client, created, models = outcomes
    assert (created["inferred"]["architecture"], created["inferred"]["num_classes"]) == (None, None)
    model = models["inferred"]
    assert (model["state"], model["error"]) == ("ready", None)
    assert (model["architecture"], model["num_classes"]) == ("cifar/resnet8", 5)
    assert model["sha256"] == models["safetensors"]["sha256"]
    default = client.get("/v1/architectures/cifar/resnet8").json()
    for name in ("normalization", "input_size"):
        assert model[name] == default[name]
    warnings = "\n".join(model["warnings"])
    assert "inferred from names and shapes" in warnings
    assert "`state_dict.net.`" in warnings
    assert model["class_names"] == list("abcde")
    assert "class_names are those in the checkpoint" in warnings


def test_class_names_of_the_request_that_contradict_the_file_are_a_warning(outcomes: Any) -> None:
    _, _, models = outcomes
    assert models["other_names"]["class_names"] == list("edcba")
    warnings = "\n".join(models["other_names"]["warnings"])
    assert "class_names are those of the request; the checkpoint has others" in warnings
    assert "or another order: a, b, c, d, e" in warnings


def test_names_are_changed_and_weights_chosen(outcomes: Any) -> None:
    _, _, models = outcomes
    assert models["renamed"]["error"] is None
    assert models["renamed"]["sha256"] == models["safetensors"]["sha256"]


def test_file_of_a_network_becomes_a_model(outcomes: Any) -> None:
    client, created, models = outcomes
    model = models["program"]
    assert (model["state"], model["error"]) == ("ready", None)
    assert (created["program"]["architecture"], model["architecture"]) == (None, "exported_program")
    assert (model["num_classes"], model["input_size"], model["outputs"]) == (3, SIDE, {})
    assert model["normalization"] == {"mean": [0, 0, 0], "std": [1, 1, 1]}
    normalization, recognized = model["warnings"]
    assert "pixels from 0 to 1 as they are" in normalization
    assert "architecture is exported_program" in recognized
    weights = client.get(model["links"]["weights"])
    assert f"{model['id']}.pt2" in weights.headers["content-disposition"]
    assert len(weights.content) == model["size_bytes"]
    errors = {name: models[name]["error"] for name in ("program_as_resnet", "foreign_data")}
    assert {error["code"] for error in errors.values()} == {"checkpoint_invalid"}
    assert errors["program_as_resnet"]["fix_fields"] == ["architecture"]
    assert "contains its network" in errors["program_as_resnet"]["message"]
    assert "../../etc/passwd" in errors["foreign_data"]["message"]


def _upload_of(model: Json) -> str:
    return str(model["source"]).removeprefix("upload:")


def test_upload_of_a_refusal_that_a_field_mends_is_used_again(
    outcomes: Any, run_queue: Any
) -> None:
    client, created, models = outcomes
    assert models["foreign"]["error"]["fix_fields"] == ["architecture", "num_classes", "key_map"]
    mends: dict[str, Json] = {
        "six_classes": {"num_classes": 5},
        "gray_and_wrong": {"normalization": {"mean": [0.5], "std": [0.2]}},
    }
    again = {}
    for name, changes in mends.items():
        assert models[name]["error"]["fix_fields"] == list(changes)
        body = BODY | {"name": name, "upload_id": _upload_of(created[name])} | changes
        response = client.post("/v1/models", json=body)
        assert response.status_code == 201, response.text
        again[name] = response.json()["id"]
    run_queue("prepare")
    for name, model_id in again.items():
        assert client.get(f"/v1/models/{model_id}").json()["error"] is None, name
    for name in ("truncated", "code"):
        assert models[name]["error"]["fix_fields"] == []
        body = BODY | {"name": "x", "upload_id": _upload_of(created[name])}
        assert issue_codes(client.post("/v1/models", json=body)) == {"/upload_id": "discarded"}


def test_expired_upload_of_a_refusal_is_discarded(outcomes: Any) -> None:
    client, created, _ = outcomes
    uploads = [_upload_of(created[name]) for name in ("foreign", "safetensors")]

    def states() -> list[str]:
        delete_expired()
        return [client.get(f"/v1/uploads/{upload_id}").json()["state"] for upload_id in uploads]

    assert states() == ["complete", "complete"]
    with transaction() as session:
        past = update(Upload).where(Upload.id.in_(uploads))
        session.execute(past.values(expires_at="2026-01-01T00:00:00Z"))
    assert states() == ["discarded", "complete"]
    body = BODY | {"name": "x", "upload_id": uploads[0]}
    assert issue_codes(client.post("/v1/models", json=body)) == {"/upload_id": "discarded"}


@pytest.mark.parametrize(
    ("field", "value", "pointer"),
    [
        ("key_map", [["a", "b"], ["(", "b"]], "/key_map/1"),
        ("key_map", [["a", "\\2"]], "/key_map/0"),
        ("weights", "best", "/weights"),
        ("key_map", [["", "b"]], "/key_map/0/0"),
    ],
)
def test_invalid_field_is_named(client: httpx.Client, field: str, value: Any, pointer: str) -> None:
    body = BODY | {"name": "x", "upload_id": upload(client, b"x"), field: value}
    assert list(issue_codes(client.post("/v1/models", json=body))) == [pointer]


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
