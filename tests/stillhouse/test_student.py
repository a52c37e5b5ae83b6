"""A downloaded student reaches the accuracy of its report; the client's files and errors."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stillhouse.client import ArtifactNotFoundError, Client
from stillhouse.student import load, top1
from store.database import transaction
from store.tables import Dataset
from tests.helpers import job_body, png_bytes

Json = dict[str, Any]


def test_derived_student_with_a_channel_rule_matches_its_report(
    trained_job: Any,
    trained_model: Json,
    api_url: str,
    run_queue: Callable[[str], None],
    tmp_path: Path,
) -> None:
    body = job_body(
        trained_job.dataset,
        teachers=[{"model": trained_model["id"]}],
        student={"derive": "teacher", "groups": 4, "width": 0.5, "channels": "repeat"},
        evaluation={"baseline": False},
        exports=["onnx"],
    )
    key = trained_job.client.headers["authorization"].removeprefix("Bearer ")
    with Client(api_url, key) as client:
        submitted = client.post("/v1/jobs", body)
        run_queue("train")
        done = client.wait(submitted)
        for name in ("student.safetensors", "config.json", "student.onnx"):
            assert client.fetch(done, name, tmp_path).name == name
        with pytest.raises(ArtifactNotFoundError, match=r"student\.onnx"):
            client.fetch(done, "student.tflite", tmp_path)
        report = client.report(done)
        # The job has published an ONNX file, so a prediction needs no worker.
        model = client.post("/v1/models", {"name": "mine", "source": f"job:{done['id']}"})
        image = tmp_path / "image.png"
        image.write_bytes(png_bytes(0, 8))
        prediction, failure = client.predict(model, [image, tmp_path / "config.json"], k=3)
    assert len(prediction["top"]) == 3
    assert "is not an image" in failure["error"]
    _, config = load(tmp_path)
    assert config["architecture"] == "cifar/resnet8+grouped-4+width-0.5"
    assert (config["in_channels"], config["channels"]) == (3, "repeat")
    assert top1(tmp_path, _images(trained_job.dataset["id"])) == pytest.approx(
        report.student.top1, abs=0.01
    )


def _images(dataset_id: str) -> Path:
    from worker.files import asset_cache

    with transaction() as session:
        return Path(asset_cache.fetch_asset(session.get_one(Dataset, dataset_id)))
