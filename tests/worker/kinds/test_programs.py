"""Networks from files through the API: the service's exports come back as teachers."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.helpers import upload

Json = dict[str, Any]
FORMATS = ("onnx", "exported_program", "onnx_int8")


def run_job(client: httpx.Client, run_queue: Callable[[str], None], body: Json) -> Json:
    posted = client.post("/v1/jobs", json=body)
    assert posted.status_code == 201, posted.text
    run_queue("train")
    job: Json = client.get(f"/v1/jobs/{posted.json()['id']}").json()
    assert job["state"] == "succeeded", job["error"]
    return job


def get_report(client: httpx.Client, job: Json) -> Json:
    report: Json = client.get(f"/v1/jobs/{job['id']}/report").json()
    return report


@pytest.fixture(scope="module")
def exports(
    trained_job: Any, trained_model: Json, run_queue: Callable[[str], None]
) -> tuple[Json, dict[str, Json]]:
    """The report of a student's exports, and each exported file as a model."""
    client = trained_job.client
    body = {
        "kind": "evaluate",
        "model": trained_model["id"],
        "dataset": trained_job.dataset["id"],
        "exports": FORMATS,
    }
    job = run_job(client, run_queue, body)
    listed = client.get(f"/v1/jobs/{job['id']}/artifacts").json()["data"]
    files = {item["format"]: item for item in listed if item["format"] in FORMATS}
    created = {}
    for name, file in files.items():
        data = client.get(file["links"]["content"], follow_redirects=True).content
        body = {"name": name, "upload_id": upload(client, data, file["name"])}
        if name == "exported_program":
            body["normalization"] = trained_model["normalization"]
            body["class_names"] = trained_model["class_names"]
        response = client.post("/v1/models", json=body)
        assert response.status_code == 201, response.text
        created[name] = response.json()["id"]
    run_queue("prepare")
    models = {name: client.get(f"/v1/models/{id_}").json() for name, id_ in created.items()}
    return get_report(client, job), models


def test_exports_become_models(exports: Any, trained_job: Any, trained_model: Json) -> None:
    _, models = exports
    client = trained_job.client
    for name, model in models.items():
        assert (model["state"], model["error"]) == ("ready", None)
        program_format = name.removesuffix("_int8")
        assert model["architecture"] == program_format
        for field in ("num_classes", "in_channels", "input_size", "normalization", "class_names"):
            assert model[field] == trained_model[field], (name, field)
        has_params = program_format == "exported_program"
        assert (model["num_params"] is None) != has_params
        assert model["outputs"] == {}
        assert "so architecture is" in "".join(model["warnings"])
        weights = client.get(model["links"]["weights"])
        suffix = ".pt2" if has_params else ".onnx"
        assert suffix in weights.headers["content-disposition"]
        assert len(weights.content) == model["size_bytes"]


def test_exports_have_the_accuracy_of_their_row(
    exports: Any, trained_job: Any, run_queue: Callable[[str], None]
) -> None:
    report, models = exports
    client, dataset = trained_job.client, trained_job.dataset["id"]
    for name, model in models.items():
        body = {"kind": "evaluate", "model": model["id"], "dataset": dataset}
        measured = get_report(client, run_job(client, run_queue, body))
        assert measured["student"]["top1"] == report["exports"][name]["top1"], name
        assert measured["student"]["size_bytes"] == model["size_bytes"]


def test_exports_teach_together(
    exports: Any, trained_job: Any, run_queue: Callable[[str], None]
) -> None:
    report, models = exports
    client = trained_job.client
    body = {
        "student": {"architecture": "cifar/resnet8"},
        "dataset": trained_job.dataset["id"],
        "teachers": [{"model": model["id"]} for model in models.values()],
        "training": {"epochs": 1, "batch_size": 256, "views": 1},
        "evaluation": {"baseline": False},
    }
    job = run_job(client, run_queue, body)
    teacher = get_report(client, job)["teacher"]
    assert (teacher["num_params"], teacher["macs"]) == (None, None)
    assert teacher["top1"] == pytest.approx(report["student"]["top1"], abs=3)
    for path in ("", "/artifacts", "/report"):
        assert client.get(f"/v1/jobs/{job['id']}{path}").status_code == 200
    assert client.get("/v1/frontier", params={"dataset": body["dataset"]}).status_code == 200


def test_exports_predict(exports: Any, trained_job: Any, run_queue: Callable[[str], None]) -> None:
    from PIL import Image

    from tests.kdcore.uploads import encode_image

    _, models = exports
    client = trained_job.client
    files = {"images": ("a.png", encode_image(Image.new("L", (8, 8), 200)))}
    tops = []
    for name in ("onnx", "exported_program"):
        path = models[name]["links"]["predict"]
        response = client.post(path, files=files)
        if response.status_code == 503:
            run_queue("prepare")
            response = client.post(path, files=files)
        assert response.status_code == 200, response.text
        tops.append(response.json()["data"][0]["top"][0])
    assert tops[0]["class"] == tops[1]["class"]
    assert tops[0]["probability"] == pytest.approx(tops[1]["probability"], abs=1e-4)
