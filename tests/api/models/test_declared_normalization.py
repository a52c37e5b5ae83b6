"""The normalization of a new model is of pixels from 0 to 1."""

import httpx

from tests.helpers import assert_problem


def test_values_of_255_are_refused_with_a_fix(client: httpx.Client) -> None:
    body = {
        "name": "caffe",
        "upload_id": "up_1",
        "architecture": "cifar/resnet8",
        "num_classes": 10,
        "normalization": {"mean": [123.7, 116.3, 103.5], "std": [58.4, 57.1, 57.4]},
    }
    problem = assert_problem(client.post("/v1/models", json=body), 422)
    codes = {issue["pointer"]: issue["code"] for issue in problem["errors"]}
    assert codes == {"/normalization": "normalization_of_255", "/upload_id": "not_found"}
    (issue,) = (issue for issue in problem["errors"] if issue["pointer"] == "/normalization")
    assert "divide mean and std by 255, which gives mean [0.48509804" in issue["detail"]
    fixes = [patch for patch in problem["fix"] if patch["path"] == "/normalization"]
    assert fixes[0]["value"]["std"][0] == 0.22901961
