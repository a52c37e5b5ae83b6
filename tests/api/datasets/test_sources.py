"""Sources of data sets without an upload."""

from typing import Any

import httpx

from tests.helpers import assert_problem, issue_codes


def test_torchvision_data_set_is_selected_by_name(client: httpx.Client) -> None:
    body = {"name": "cifar", "source": "torchvision:CIFAR10", "image_size": 64}
    response = client.post("/v1/datasets", json=body)
    assert response.status_code == 201
    assert response.json()["source"] == "torchvision:CIFAR10"
    assert response.json()["image_size"] is None


def test_unknown_source_suggests_nearest_name(client: httpx.Client) -> None:
    response = client.post("/v1/datasets", json={"name": "x", "source": "torchvision:cifar10"})
    [issue] = assert_problem(response, 422)["errors"]
    assert (issue["pointer"], issue["code"]) == ("/source", "unknown_source")
    assert "torchvision:CIFAR10" in issue["detail"]


def test_invalid_image_size_is_rejected(client: httpx.Client) -> None:
    for size in (7, 1025, 32.5, "x"):
        body: dict[str, Any] = {"name": "x", "source": "builtin:digits", "image_size": size}
        assert set(issue_codes(client.post("/v1/datasets", json=body))) == {"/image_size"}


def test_openapi_lists_every_source(client: httpx.Client) -> None:
    schema = client.get("/openapi.json").json()["components"]["schemas"]["DatasetCreate"]
    assert "torchvision:SVHN" in str(schema["properties"]["source"])
