"""Where a data set may come from, and what is said of other places."""

from typing import Any

import httpx

from tests.helpers import assert_problem, issue_codes


def test_torchvisions_sets_are_taken_by_name(client: httpx.Client) -> None:
    body = {"name": "cifar", "source": "torchvision:CIFAR10", "image_size": 64}
    made = client.post("/v1/datasets", json=body)
    assert made.status_code == 201
    assert made.json()["source"] == "torchvision:CIFAR10"
    assert made.json()["image_size"] is None


def test_an_unknown_source_is_told_the_nearest(client: httpx.Client) -> None:
    answer = client.post("/v1/datasets", json={"name": "x", "source": "torchvision:cifar10"})
    [fault] = assert_problem(answer, 422)["errors"]
    assert (fault["pointer"], fault["code"]) == ("/source", "unknown_source")
    assert "torchvision:CIFAR10" in fault["detail"]


def test_a_size_that_makes_no_sense(client: httpx.Client) -> None:
    for size in (7, 1025, 32.5, "x"):
        body: dict[str, Any] = {"name": "x", "source": "builtin:digits", "image_size": size}
        assert set(issue_codes(client.post("/v1/datasets", json=body))) == {"/image_size"}


def test_the_contract_lists_every_source(client: httpx.Client) -> None:
    schema = client.get("/openapi.json").json()["components"]["schemas"]["DatasetCreate"]
    assert "torchvision:SVHN" in str(schema["properties"]["source"])
