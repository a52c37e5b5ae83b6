"""Predictions over HTTP equal those of the trained network."""

import base64
import io
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load, load_file
from sqlalchemy import func, select

from kdcore.models import build
from store.access import credentials
from store.database import transaction
from store.tables import Dataset, Job
from tests.conftest import TrainedJob, client_for
from tests.helpers import assert_problem, issue_codes, wait_until

Json = dict[str, Any]
COUNT = 16
CLIENTS = 4


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    content = kind + data
    return len(data).to_bytes(4) + content + zlib.crc32(content).to_bytes(4)


def decompression_bomb(side: int = 8000) -> bytes:
    """A PNG of some hundred bytes whose header declares 64 million pixels."""
    header = side.to_bytes(4) * 2 + bytes([8, 0, 0, 0, 0])
    data = chunk(b"IDAT", zlib.compress(bytes(1000)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + data + chunk(b"IEND", b"")


def image_form(*images: bytes) -> list[tuple[str, tuple[str, bytes]]]:
    return [("images", (f"{number}.png", image)) for number, image in enumerate(images)]


def image_json(*images: bytes, **fields: Any) -> Json:
    return {"images": [base64.b64encode(image).decode() for image in images]} | fields


@pytest.fixture(scope="module")
def tensors(trained_job: TrainedJob) -> dict[str, torch.Tensor]:
    """The tensors of the data set."""
    from worker.files import asset_cache

    with transaction() as session:
        path = asset_cache.fetch_asset(session.get_one(Dataset, trained_job.dataset["id"]))
    arrays: dict[str, torch.Tensor] = load_file(path)
    return arrays


@pytest.fixture(scope="module")
def digits_png(tensors: dict[str, torch.Tensor]) -> list[bytes]:
    """The first test images as PNG files."""
    return [png(image[0].numpy()) for image in tensors["test/images"][:COUNT]]


@pytest.fixture(scope="module")
def first_responses(
    trained_model: Json, trained_job: TrainedJob, digits_png: list[bytes], run_queue: Any
) -> list[httpx.Response]:
    """Responses to concurrent predictions of a model that has no ONNX file yet."""
    key = trained_job.client.headers["authorization"].removeprefix("Bearer ")

    def predict(_: int) -> httpx.Response:
        with client_for(str(trained_job.client.base_url), key) as client:
            return client.post(trained_model["links"]["predict"], files=image_form(digits_png[0]))

    with ThreadPoolExecutor(CLIENTS) as pool:
        pending = [pool.submit(predict, number) for number in range(CLIENTS)]
        wait_until(lambda: _count_conversions(trained_model) > 0, 60, "the export job exists")
        run_queue("prepare")
        return [future.result() for future in pending]


def _count_conversions(model: Json) -> int:
    with transaction() as session:
        query = select(func.count()).where(Job.model_id == model["id"], Job.kind == "convert")
        return session.scalar(query) or 0


@pytest.fixture
def model(trained_model: Json, first_responses: list[httpx.Response]) -> Json:
    """The trained student, exported to ONNX."""
    return trained_model


@pytest.fixture
def url(model: Json) -> str:
    predict_url: str = model["links"]["predict"]
    return predict_url


@pytest.fixture
def owner(trained_job: TrainedJob) -> httpx.Client:
    return trained_job.client


def test_concurrent_first_predictions_convert_once(
    first_responses: list[httpx.Response], model: Json, url: str, owner: httpx.Client
) -> None:
    assert _count_conversions(model) == 1
    for response in first_responses:
        if response.status_code != 200:  # the machine was slow
            assert_problem(response, 503, "preparing")
            assert int(response.headers["retry-after"]) > 0
    assert owner.get(model["links"]["self"]).headers["etag"] == owner.get(url[:-8]).headers["etag"]


def test_prediction_equals_the_trained_network(
    owner: httpx.Client,
    url: str,
    model: Json,
    trained_job: TrainedJob,
    digits_png: list[bytes],
    tensors: dict[str, torch.Tensor],
) -> None:
    network = build("cifar/resnet8", num_classes=10, in_channels=1, input_size=8).eval()
    network.load_state_dict(load(trained_job.student))
    scaled = tensors["test/images"][:COUNT].float() / 255
    (mean,), (std,) = (model["normalization"][name] for name in ("mean", "std"))
    with torch.inference_mode():
        expected = network((scaled - mean) / std).double().softmax(dim=1)
    response = (
        owner.post(url, files=image_form(*digits_png), data={"k": "20"}).raise_for_status().json()
    )
    assert (response["object"], response["model"]) == ("prediction", model["id"])
    assert response["duration_ms"] > 0
    assert len(response["data"]) == COUNT
    for entry, expected_probabilities in zip(response["data"], expected, strict=True):
        top = entry["top"]
        assert [row["index"] for row in top] == expected_probabilities.argsort(
            descending=True
        ).tolist()
        assert [row["class"] for row in top] == [str(row["index"]) for row in top]
        probabilities = {row["index"]: row["probability"] for row in top}
        assert probabilities == pytest.approx(
            dict(enumerate(expected_probabilities.tolist())), abs=1e-5
        )


def test_form_and_json_get_the_same_response(
    owner: httpx.Client, url: str, digits_png: list[bytes]
) -> None:
    images = digits_png[:3]
    by_form = owner.post(url, files=image_form(*images), data={"k": "2"}).raise_for_status().json()
    by_json = owner.post(url, json=image_json(*images, k=2)).raise_for_status().json()
    assert by_form["data"] == by_json["data"]
    assert [len(entry["top"]) for entry in by_json["data"]] == [2, 2, 2]
    assert len(owner.post(url, json=image_json(images[0])).json()["data"][0]["top"]) == 5


def test_unreadable_image_gets_an_error(
    owner: httpx.Client, url: str, digits_png: list[bytes]
) -> None:
    good = owner.post(url, files=image_form(digits_png[0])).raise_for_status().json()["data"][0]
    images = [
        b"no image",
        digits_png[0],
        digits_png[1][:60],
        decompression_bomb(),
        digits_png[0],
        b"",
    ]
    predictions = owner.post(url, files=image_form(*images)).raise_for_status().json()["data"]
    assert [list(entry) for entry in predictions] == [
        *(["error"], ["top"], ["error"], ["error"], ["top"], ["error"])
    ]
    assert predictions[1] == predictions[4] == good
    assert "8000 x 8000" in predictions[3]["error"]
    assert not any("/" in entry["error"] for entry in predictions if "error" in entry)


def test_invalid_request_is_rejected(
    owner: httpx.Client, url: str, digits_png: list[bytes]
) -> None:
    one = digits_png[0]
    assert issue_codes(owner.post(url, files=image_form(*[one] * 17))) == {"/images": "too_long"}
    assert issue_codes(owner.post(url, json=image_json())) == {"/images": "too_short"}
    assert issue_codes(owner.post(url, data={"k": "3"}, files={"picture": one})) == {
        "/images": "missing",
        "/picture": "extra_forbidden",
    }
    assert issue_codes(owner.post(url, json={"images": ["*", 1], "k": 21})) == {
        "/images/0": "bad_base64",
        "/images/1": "string_type",
        "/k": "less_than_equal",
    }
    assert_problem(owner.post(url, content=one, headers={"Content-Type": "image/png"}), 415)
    bad = {"Content-Type": "application/json"}
    assert_problem(owner.post(url, content=b"{", headers=bad), 400, "malformed_json")
    torn = {"Content-Type": "multipart/form-data"}
    assert_problem(owner.post(url, content=b"--", headers=torn), 400, "malformed_form")


@pytest.mark.parametrize("kind", ["form", "json"])
def test_oversized_body_is_rejected(owner: httpx.Client, url: str, kind: str) -> None:
    large = bytes(16 * 2**20)
    if kind == "form":
        response = owner.post(url, files=image_form(large))
    else:
        response = owner.post(
            url, content=b'"' + large, headers={"Content-Type": "application/json"}
        )
    assert_problem(response, 413, "body_too_large")


def test_model_of_another_project_is_not_found(
    other_client: httpx.Client, url: str, digits_png: list[bytes]
) -> None:
    assert_problem(other_client.post(url, files=image_form(digits_png[0])), 404)


def test_read_scope_is_enough(
    api_url: str, trained_job: TrainedJob, model: Json, url: str, digits_png: list[bytes]
) -> None:
    with transaction() as session:
        project = session.get_one(Dataset, trained_job.dataset["id"]).project_id
        key = credentials.create_key(session, project, "reader", ["jobs:read"])
    with client_for(api_url, key) as reader:
        assert reader.post(url, files=image_form(digits_png[0])).status_code == 200


def test_prediction_leaves_only_the_cached_file(
    owner: httpx.Client, url: str, digits_png: list[bytes]
) -> None:
    from store.settings import settings

    owner.post(url, files=image_form(*digits_png)).raise_for_status()
    assert list((settings().work_dir / "predictions").iterdir()) == []
    assert [len(path.name) for path in (settings().work_dir / "onnx").iterdir()] == [64]


@pytest.fixture(scope="module")
def second_model(trained_job: TrainedJob, trained_model: Json) -> Iterator[Json]:
    body = {"name": "another", "source": f"job:{trained_job.job['id']}"}
    created = trained_job.client.post("/v1/models", json=body).raise_for_status().json()
    yield created
    trained_job.client.delete(created["links"]["self"]).raise_for_status()


def test_models_of_a_job_are_filtered_by_source(
    owner: httpx.Client, trained_model: Json, second_model: Json
) -> None:
    def ids(**query: str) -> set[str]:
        listed = owner.get("/v1/models", params=query).raise_for_status().json()["data"]
        return {row["id"] for row in listed}

    # Other tests of this session create models of the same job.
    assert ids(source=trained_model["source"]) >= {trained_model["id"], second_model["id"]}
    assert ids(source=trained_model["source"], state="failed") == set()
    assert ids(source="job:job_none", state="ready") == set()
    assert issue_codes(owner.get("/v1/models", params={"state": "asleep"})) == {
        "?state": "literal_error"
    }


def test_both_media_types_are_documented(api_url: str) -> None:
    paths = httpx.get(f"{api_url}/openapi.json", timeout=60).raise_for_status().json()["paths"]
    operation = paths["/v1/models/{model_id}/predict"]["post"]
    contents = operation["requestBody"]["content"]
    assert set(contents) == {"multipart/form-data", "application/json"}
    for content in contents.values():
        assert set(content["schema"]["properties"]) == {"images", "k"}
    assert "PredictionOut" in str(operation["responses"]["200"])


def test_model_that_is_not_ready_is_a_409(
    client: httpx.Client, digits_png: list[bytes], tmp_path: Path
) -> None:
    body = {"name": "a teacher", "source": "torchvision:resnet18"}
    waiting = client.post("/v1/models", json=body).raise_for_status().json()
    response = client.post(waiting["links"]["predict"], files=image_form(digits_png[0]))
    assert assert_problem(response, 409, "not_ready")["current_state"] == "verifying"
