"""A model becomes ONNX in the prepare queue, once; why it cannot is remembered, a mishap is not."""

from collections.abc import Iterator
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


def model(client: httpx.Client, run_queue: Any, factor: float) -> Json:
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
    made = client.post("/v1/models", json=body).raise_for_status().json()
    run_queue("prepare")
    return dict(client.get(made["links"]["self"]).raise_for_status().json())


@pytest.fixture
def impatient(tenant_client: httpx.Client) -> Iterator[httpx.Client]:
    """Does not wait for a worker: the test is that worker."""
    with httpx.Client(
        base_url=tenant_client.base_url, headers=tenant_client.headers, timeout=0.5
    ) as client:
        yield client


def ask(client: httpx.Client, made: Json) -> httpx.Response:
    return client.post(made["links"]["predict"], files={"images": png_bytes(1)})


def want(client: httpx.Client, made: Json) -> None:
    """Ask and go away: the conversion is on its way all the same."""
    before = len(conversions(made))
    with pytest.raises(httpx.TimeoutException):
        ask(client, made)
    wait_until(lambda: len(conversions(made)) > before, 10, "a conversion is queued")


def conversions(made: Json) -> list[Job]:
    with transaction() as session:
        query = select(Job).where(Job.model_id == made["id"], Job.kind == "convert")
        return list(session.scalars(query.order_by(Job.created_at)))


def row(made: Json) -> Model:
    with transaction() as session:
        return session.get_one(Model, made["id"])


def test_a_model_is_converted_kept_and_cleaned_away_with_it(
    tenant_client: httpx.Client, impatient: httpx.Client, run_queue: Any
) -> None:
    made = model(tenant_client, run_queue, 1.0)
    want(impatient, made)
    run_queue("prepare")
    (job,) = conversions(made)
    assert (job.state, job.queue) == ("succeeded", "prepare")
    assert job.result["max_rel_difference"] < 1e-4
    found = row(made)
    key = str(found.onnx_object_key)
    assert found.onnx_size_bytes == sum(len(part) for part in object_store.read(key))
    assert found.rev == made_rev(tenant_client, made)
    (answer,) = ask(tenant_client, made).raise_for_status().json()["data"]
    assert {each["class"] for each in answer["top"]} == {"ant", "bee", "cat", "dog"}
    assert np.isclose(sum(each["probability"] for each in answer["top"]), 1)
    assert referenced_keys({key}) == {key}
    tenant_client.delete(made["links"]["self"]).raise_for_status()
    assert referenced_keys({key}) == set()
    assert conversions(made) == []


def made_rev(client: httpx.Client, made: Json) -> int:
    """The version in the entity tag: a conversion changes nothing that is shown."""
    return int(client.get(made["links"]["self"]).headers["etag"].removeprefix("W/").strip('"'))


def test_a_network_that_answers_otherwise_as_onnx_is_refused_for_good(
    tenant_client: httpx.Client, impatient: httpx.Client, run_queue: Any
) -> None:
    made = model(tenant_client, run_queue, 1e38)  # finite weights, and nothing finite comes out
    assert made["state"] == "ready"
    want(impatient, made)
    run_queue("prepare")
    refusal = assert_problem(ask(tenant_client, made), 409, "no_onnx")
    assert "logits differ" in refusal["detail"]
    assert refusal["current_state"] == "ready"
    assert len(conversions(made)) == 1
    assert row(made).error is None


def test_a_mishap_is_tried_again(
    tenant_client: httpx.Client, impatient: httpx.Client, run_queue: Any
) -> None:
    made = model(tenant_client, run_queue, 0.5)
    found = row(made)
    (settings().work_dir / "cache" / str(found.sha256)).unlink(missing_ok=True)
    whole = b"".join(object_store.read(str(found.object_key)))
    object_store.delete(str(found.object_key))
    want(impatient, made)
    run_queue("prepare")
    assert row(made).onnx_error is None

    async def again() -> Any:
        yield whole

    run_in_thread(object_store.put_stream, str(found.object_key), again())
    want(impatient, made)
    run_queue("prepare")
    assert [job.state for job in conversions(made)] == ["failed", "succeeded"]
    assert ask(tenant_client, made).status_code == 200
