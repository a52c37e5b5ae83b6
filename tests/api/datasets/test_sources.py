"""Sources of data sets without an upload."""

from pathlib import Path
from typing import Any

import httpx
import pytest

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


def test_source_in_an_allowed_folder_is_accepted(client: httpx.Client, source_folder: Path) -> None:
    for source in (f"folder:{source_folder}", f"folder:{source_folder}/does/not/exist/"):
        response = client.post("/v1/datasets", json={"name": "x", "source": source})
        assert response.status_code == 201
        assert response.json()["source"] == source.removesuffix("/")


@pytest.mark.parametrize(
    "source",
    ["folder:{}2", "folder:{}2/sets", "folder:/etc", "s3://other-bucket/data", "s3://none"],
)
def test_other_sources_are_refused_alike(
    client: httpx.Client, source_folder: Path, source: str
) -> None:
    body = {"name": "x", "source": source.format(source_folder)}
    [issue] = assert_problem(client.post("/v1/datasets", json=body), 422)["errors"]
    assert (issue["pointer"], issue["code"]) == ("/source", "source_not_allowed")
    assert issue["detail"] == (
        "the project may not read this source; the operator allows sources with the setting "
        "STILLHOUSE_SOURCES"
    )
    codes = issue_codes(client.post("/v1/datasets", json=body | {"name": ""}))
    assert codes["/source"] == "source_not_allowed"


@pytest.mark.parametrize(
    "source",
    [
        *("folder:data", "folder:{}/../x", "folder:{}//x", "folder:{}/./x", "folder:{}/a\nb"),
        *("s3://", "s3:///data", "s3://b/../c", "s3://key:secret@bucket/data"),
    ],
)
def test_source_in_no_plain_form_is_refused(
    client: httpx.Client, source_folder: Path, source: str
) -> None:
    body = {"name": "x", "source": source.format(source_folder)}
    assert issue_codes(client.post("/v1/datasets", json=body)) == {"/source": "invalid_source"}
