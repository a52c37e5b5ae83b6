"""A model is asked over HTTP: it answers like the network that was trained, or says why not."""

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
    whole = kind + data
    return len(data).to_bytes(4) + whole + zlib.crc32(whole).to_bytes(4)


def bomb(side: int = 8000) -> bytes:
    """A PNG of some hundred bytes that claims 64 million pixels."""
    header = side.to_bytes(4) * 2 + bytes([8, 0, 0, 0, 0])
    data = chunk(b"IDAT", zlib.compress(bytes(1000)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + data + chunk(b"IEND", b"")


def form(*images: bytes) -> list[tuple[str, tuple[str, bytes]]]:
    return [("images", (f"{number}.png", image)) for number, image in enumerate(images)]


def in_json(*images: bytes, **more: Any) -> Json:
    return {"images": [base64.b64encode(image).decode() for image in images]} | more


@pytest.fixture(scope="module")
def split(trained_job: TrainedJob) -> dict[str, torch.Tensor]:
    """The data set's tensors."""
    from worker.files import local_copies

    with transaction() as session:
        path = local_copies.fetch_asset(session.get_one(Dataset, trained_job.dataset["id"]))
    found: dict[str, torch.Tensor] = load_file(path)
    return found


@pytest.fixture(scope="module")
def digits_png(split: dict[str, torch.Tensor]) -> list[bytes]:
    """The first images of the test split as files."""
    return [png(image[0].numpy()) for image in split["test/images"][:COUNT]]


@pytest.fixture(scope="module")
def first_answers(
    trained_model: Json, trained_job: TrainedJob, digits_png: list[bytes], run_queue: Any
) -> list[httpx.Response]:
    """What several clients were told who asked a fresh model at the same time."""
    key = trained_job.client.headers["authorization"].removeprefix("Bearer ")

    def ask(_: int) -> httpx.Response:
        with client_for(str(trained_job.client.base_url), key) as client:
            return client.post(trained_model["links"]["predict"], files=form(digits_png[0]))

    with ThreadPoolExecutor(CLIENTS) as pool:
        asked = [pool.submit(ask, number) for number in range(CLIENTS)]
        wait_until(lambda: _conversions(trained_model) > 0, 20, "the conversion is asked for")
        run_queue("prepare")
        return [each.result() for each in asked]


def _conversions(model: Json) -> int:
    with transaction() as session:
        query = select(func.count()).where(Job.model_id == model["id"], Job.kind == "convert")
        return session.scalar(query) or 0


@pytest.fixture
def model(trained_model: Json, first_answers: list[httpx.Response]) -> Json:
    """The trained student, ready to be asked."""
    return trained_model


@pytest.fixture
def url(model: Json) -> str:
    found: str = model["links"]["predict"]
    return found


@pytest.fixture
def own(trained_job: TrainedJob) -> httpx.Client:
    return trained_job.client


def test_many_who_ask_first_have_it_converted_once(
    first_answers: list[httpx.Response], model: Json, url: str, own: httpx.Client
) -> None:
    assert _conversions(model) == 1
    for answer in first_answers:
        if answer.status_code != 200:  # the machine was slow
            assert_problem(answer, 503, "preparing")
            assert int(answer.headers["retry-after"]) > 0
    assert own.get(model["links"]["self"]).headers["etag"] == own.get(url[:-8]).headers["etag"]


def test_it_answers_like_the_network_that_was_trained(
    own: httpx.Client,
    url: str,
    model: Json,
    trained_job: TrainedJob,
    digits_png: list[bytes],
    split: dict[str, torch.Tensor],
) -> None:
    network = build("cifar/resnet8", num_classes=10, in_channels=1, input_size=8).eval()
    network.load_state_dict(load(trained_job.student))
    scaled = split["test/images"][:COUNT].float() / 255
    (mean,), (std,) = (model["normalization"][name] for name in ("mean", "std"))
    with torch.inference_mode():
        expected = network((scaled - mean) / std).double().softmax(dim=1)
    answer = own.post(url, files=form(*digits_png), data={"k": "20"}).raise_for_status().json()
    assert (answer["object"], answer["model"]) == ("prediction", model["id"])
    assert answer["duration_ms"] > 0
    assert len(answer["data"]) == COUNT
    for entry, shares in zip(answer["data"], expected, strict=True):
        top = entry["top"]
        assert [each["index"] for each in top] == shares.argsort(descending=True).tolist()
        assert [each["class"] for each in top] == [str(each["index"]) for each in top]
        told = {each["index"]: each["probability"] for each in top}
        assert told == pytest.approx(dict(enumerate(shares.tolist())), abs=1e-5)


def test_a_form_and_json_are_answered_alike(
    own: httpx.Client, url: str, digits_png: list[bytes]
) -> None:
    images = digits_png[:3]
    by_form = own.post(url, files=form(*images), data={"k": "2"}).raise_for_status().json()
    by_json = own.post(url, json=in_json(*images, k=2)).raise_for_status().json()
    assert by_form["data"] == by_json["data"]
    assert [len(each["top"]) for each in by_json["data"]] == [2, 2, 2]
    assert len(own.post(url, json=in_json(images[0])).json()["data"][0]["top"]) == 5


def test_a_bad_image_is_an_error_of_its_own(
    own: httpx.Client, url: str, digits_png: list[bytes]
) -> None:
    good = own.post(url, files=form(digits_png[0])).raise_for_status().json()["data"][0]
    images = [b"no image", digits_png[0], digits_png[1][:60], bomb(), digits_png[0], b""]
    found = own.post(url, files=form(*images)).raise_for_status().json()["data"]
    assert [list(each) for each in found] == [
        *(["error"], ["top"], ["error"], ["error"], ["top"], ["error"])
    ]
    assert found[1] == found[4] == good
    assert "8000 x 8000" in found[3]["error"]
    assert not any("/" in each["error"] for each in found if "error" in each)


def test_what_is_wrong_with_a_request_is_told(
    own: httpx.Client, url: str, digits_png: list[bytes]
) -> None:
    one = digits_png[0]
    assert issue_codes(own.post(url, files=form(*[one] * 17))) == {"/images": "too_long"}
    assert issue_codes(own.post(url, json=in_json())) == {"/images": "too_short"}
    assert issue_codes(own.post(url, data={"k": "3"}, files={"picture": one})) == {
        "/images": "missing",
        "/picture": "extra_forbidden",
    }
    assert issue_codes(own.post(url, json={"images": ["*", 1], "k": 21})) == {
        "/images/0": "bad_base64",
        "/images/1": "string_type",
        "/k": "less_than_equal",
    }
    assert_problem(own.post(url, content=one, headers={"Content-Type": "image/png"}), 415)
    bad = {"Content-Type": "application/json"}
    assert_problem(own.post(url, content=b"{", headers=bad), 400, "malformed_json")
    torn = {"Content-Type": "multipart/form-data"}
    assert_problem(own.post(url, content=b"--", headers=torn), 400, "malformed_form")


@pytest.mark.parametrize("kind", ["form", "json"])
def test_too_many_bytes_are_refused(own: httpx.Client, url: str, kind: str) -> None:
    large = bytes(16 * 2**20)
    if kind == "form":
        answer = own.post(url, files=form(large))
    else:
        answer = own.post(url, content=b'"' + large, headers={"Content-Type": "application/json"})
    assert_problem(answer, 413, "body_too_large")


def test_nobody_asks_another_projects_model(
    other_client: httpx.Client, url: str, digits_png: list[bytes]
) -> None:
    assert_problem(other_client.post(url, files=form(digits_png[0])), 404)


def test_the_scope_to_read_is_enough(
    api_url: str, trained_job: TrainedJob, model: Json, url: str, digits_png: list[bytes]
) -> None:
    with transaction() as session:
        project = session.get_one(Dataset, trained_job.dataset["id"]).project_id
        key = credentials.create_key(session, project, "reader", ["jobs:read"])
    with client_for(api_url, key) as reader:
        assert reader.post(url, files=form(digits_png[0])).status_code == 200


def test_what_a_prediction_leaves_is_the_file_alone(
    own: httpx.Client, url: str, digits_png: list[bytes]
) -> None:
    from store.settings import settings

    own.post(url, files=form(*digits_png)).raise_for_status()
    assert list((settings().work_dir / "predictions").iterdir()) == []
    assert [len(path.name) for path in (settings().work_dir / "onnx").iterdir()] == [64]


@pytest.fixture(scope="module")
def found_again(trained_job: TrainedJob, trained_model: Json) -> Iterator[Json]:
    body = {"name": "another", "source": f"job:{trained_job.job['id']}"}
    made = trained_job.client.post("/v1/models", json=body).raise_for_status().json()
    yield made
    trained_job.client.delete(made["links"]["self"]).raise_for_status()


def test_a_jobs_models_are_found_by_their_source(
    own: httpx.Client, trained_model: Json, found_again: Json
) -> None:
    def ids(**query: str) -> set[str]:
        listed = own.get("/v1/models", params=query).raise_for_status().json()["data"]
        return {each["id"] for each in listed}

    # Others of this session's tests make models of the same job.
    assert ids(source=trained_model["source"]) >= {trained_model["id"], found_again["id"]}
    assert ids(source=trained_model["source"], state="failed") == set()
    assert ids(source="job:job_none", state="ready") == set()
    assert issue_codes(own.get("/v1/models", params={"state": "asleep"})) == {
        "?state": "literal_error"
    }


def test_both_kinds_of_body_are_described(api_url: str) -> None:
    paths = httpx.get(f"{api_url}/openapi.json", timeout=60).raise_for_status().json()["paths"]
    described = paths["/v1/models/{model_id}/predict"]["post"]
    kinds = described["requestBody"]["content"]
    assert set(kinds) == {"multipart/form-data", "application/json"}
    for kind in kinds.values():
        assert set(kind["schema"]["properties"]) == {"images", "k"}
    assert "PredictionOut" in str(described["responses"]["200"])


def test_a_model_that_is_not_ready_says_so(
    client: httpx.Client, digits_png: list[bytes], tmp_path: Path
) -> None:
    body = {"name": "a teacher", "source": "torchvision:resnet18"}
    waiting = client.post("/v1/models", json=body).raise_for_status().json()
    answer = client.post(waiting["links"]["predict"], files=form(digits_png[0]))
    assert assert_problem(answer, 409, "not_ready")["current_state"] == "verifying"
