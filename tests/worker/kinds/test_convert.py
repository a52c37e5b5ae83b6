"""A model becomes ONNX in the prepare queue, once; a refusal is stored, a storage error is not."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from safetensors.torch import save
from sqlalchemy import select

from kdcore.models import build
from store import object_store
from store.database import transaction
from store.settings import settings
from store.tables import Job, Model
from tests.helpers import assert_problem, png_bytes, run_in_thread, upload, wait_until
from worker.maintenance.gc import referenced_keys

Json = dict[str, Any]


@pytest.fixture(scope="module")
def tenant_client(api_url: str, environment: Any) -> Iterator[httpx.Client]:
    from tests.conftest import client_for, create_tenant

    with client_for(api_url, create_tenant().key) as client:
        yield client


def create_model(client: httpx.Client, run_queue: Any, factor: float) -> Json:
    """A small network whose weights are multiplied, verified."""
    torch.manual_seed(0)
    state = build("cifar/resnet8", num_classes=4).state_dict()
    state["conv1.weight"] *= factor
    body = {
        "name": "a model",
        "architecture": "cifar/resnet8",
        "num_classes": 4,
        "input_size": 16,
        "upload_id": upload(client, save(state)),
        "class_names": ["ant", "bee", "cat", "dog"],
    }
    model_out = client.post("/v1/models", json=body).raise_for_status().json()
    run_queue("prepare")
    return dict(client.get(model_out["links"]["self"]).raise_for_status().json())


@pytest.fixture
def background() -> Iterator[ThreadPoolExecutor]:
    """Threads for predictions that wait for a worker: the test is that worker."""
    with ThreadPoolExecutor(2) as pool:
        yield pool


def predict(client: httpx.Client, model_out: Json) -> httpx.Response:
    return client.post(model_out["links"]["predict"], files={"images": png_bytes(1)})


def request_conversion(
    background: ThreadPoolExecutor, client: httpx.Client, model_out: Json
) -> None:
    """Start a prediction, and wait until it has queued a conversion."""
    before = len(conversions(model_out))
    background.submit(predict, client, model_out)
    wait_until(lambda: len(conversions(model_out)) > before, 60, "a conversion is queued")


def conversions(model_out: Json) -> list[Job]:
    with transaction() as session:
        query = select(Job).where(Job.model_id == model_out["id"], Job.kind == "convert")
        return list(session.scalars(query.order_by(Job.created_at)))


def row(model_out: Json) -> Model:
    with transaction() as session:
        return session.get_one(Model, model_out["id"])


def test_model_is_converted_once_and_deleted_with_its_onnx(
    tenant_client: httpx.Client, background: ThreadPoolExecutor, run_queue: Any
) -> None:
    model_out = create_model(tenant_client, run_queue, 1.0)
    request_conversion(background, tenant_client, model_out)
    run_queue("prepare")
    (job,) = conversions(model_out)
    assert (job.state, job.queue) == ("succeeded", "prepare")
    assert job.result["max_rel_difference"] < 1e-4
    stored = row(model_out)
    key = str(stored.onnx_object_key)
    assert stored.onnx_size_bytes == sum(len(part) for part in object_store.read(key))
    assert stored.rev == etag_revision(tenant_client, model_out)
    (response,) = predict(tenant_client, model_out).raise_for_status().json()["data"]
    assert {prediction["class"] for prediction in response["top"]} == {"ant", "bee", "cat", "dog"}
    assert np.isclose(sum(prediction["probability"] for prediction in response["top"]), 1)
    assert referenced_keys({key}) == {key}
    tenant_client.delete(model_out["links"]["self"]).raise_for_status()
    assert referenced_keys({key}) == set()
    assert conversions(model_out) == []


def etag_revision(client: httpx.Client, model_out: Json) -> int:
    """The version in the entity tag: a conversion changes nothing that is shown."""
    return int(client.get(model_out["links"]["self"]).headers["etag"].removeprefix("W/").strip('"'))


def test_network_with_other_logits_as_onnx_is_refused_permanently(
    tenant_client: httpx.Client, background: ThreadPoolExecutor, run_queue: Any
) -> None:
    model_out = create_model(
        tenant_client, run_queue, 1e38
    )  # finite weights, and nothing finite comes out
    assert model_out["state"] == "ready"
    request_conversion(background, tenant_client, model_out)
    run_queue("prepare")
    refusal = assert_problem(predict(tenant_client, model_out), 409, "no_onnx")
    assert "logits differ" in refusal["detail"]
    assert refusal["current_state"] == "ready"
    assert len(conversions(model_out)) == 1
    assert row(model_out).error is None


def test_conversion_is_repeated_after_a_storage_error(
    tenant_client: httpx.Client, background: ThreadPoolExecutor, run_queue: Any
) -> None:
    model_out = create_model(tenant_client, run_queue, 0.5)
    stored = row(model_out)
    (settings().work_dir / "cache" / str(stored.sha256)).unlink(missing_ok=True)
    weights = b"".join(object_store.read(str(stored.object_key)))
    object_store.delete(str(stored.object_key))
    request_conversion(background, tenant_client, model_out)
    run_queue("prepare")
    assert row(model_out).onnx_error is None

    async def again() -> Any:
        yield weights

    run_in_thread(object_store.put_stream, str(stored.object_key), again())
    request_conversion(background, tenant_client, model_out)
    run_queue("prepare")
    assert [job.state for job in conversions(model_out)] == ["failed", "succeeded"]
    assert predict(tenant_client, model_out).status_code == 200
