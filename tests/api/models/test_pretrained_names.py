"""Models with pretrained weights of torchvision or timm, selected by name."""

from typing import Any

import httpx
import pytest

from tests.helpers import assert_problem, issue_codes

Json = dict[str, Any]


@pytest.mark.parametrize(
    ("source", "full_name", "architecture"),
    [
        ("torchvision:resnet18", "ResNet18_Weights.IMAGENET1K_V1", "torchvision/resnet18"),
        (
            "torchvision:ResNet50_Weights.IMAGENET1K_V1",
            "ResNet50_Weights.IMAGENET1K_V1",
            "torchvision/resnet50",
        ),
        (
            "torchvision:ResNet50_Weights.DEFAULT",
            "ResNet50_Weights.IMAGENET1K_V2",
            "torchvision/resnet50",
        ),
        ("timm:resnet50.tv_in1k", "resnet50.tv_in1k", "timm/resnet50"),
    ],
)
def test_pretrained_weights_are_a_model(
    client: httpx.Client, source: str, full_name: str, architecture: str
) -> None:
    response = client.post("/v1/models", json={"name": "a teacher", "source": source})
    assert response.status_code == 201, response.text
    model = response.json()
    assert model["state"] == "verifying"
    assert model["source"] == f"{source.partition(':')[0]}:{full_name}"
    assert model["architecture"] == architecture


@pytest.mark.parametrize(
    ("source", "code", "suggestion"),
    [
        ("torchvision:ResNet50_Weights.V9", "unknown_weights", "ResNet50_Weights.IMAGENET1K_V2"),
        ("torchvision:resnet51", "unknown_weights", "torchvision:resnet50"),
        ("timm:resnet50.a9_in1k", "unknown_weights", "timm:resnet50.a1_in1k"),
        ("timm:", "unknown_weights", "GET /v1/architectures"),
        ("cifar:resnet8", "unknown_source", "timm:"),
        ("http://example.org/weights.pt", "unknown_source", "job:"),
    ],
)
def test_unknown_weights_suggest_nearest_name(
    client: httpx.Client, source: str, code: str, suggestion: str
) -> None:
    response = client.post("/v1/models", json={"name": "x", "source": source})
    (issue,) = assert_problem(response, 422)["errors"]
    assert (issue["pointer"], issue["code"]) == ("/source", code)
    assert suggestion in issue["detail"]
    assert "example.org" not in issue["detail"]


def test_pretrained_model_takes_no_other_field(client: httpx.Client) -> None:
    body = {"name": "x", "source": "timm:resnet50", "num_classes": 10}
    assert issue_codes(client.post("/v1/models", json=body)) == {"": "source_conflict"}


def test_evaluation_has_no_student_for_a_model(trained_job: Any, trained_model: Json) -> None:
    body = {"kind": "evaluate", "model": trained_model["id"], "dataset": trained_job.dataset["id"]}
    job = trained_job.client.post("/v1/jobs", json=body).raise_for_status().json()
    trained_job.client.post(f"{job['links']['self']}/cancel").raise_for_status()
    response = trained_job.client.post(
        "/v1/models", json={"name": "x", "source": f"job:{job['id']}"}
    )
    assert issue_codes(response) == {"/source": "no_student"}
