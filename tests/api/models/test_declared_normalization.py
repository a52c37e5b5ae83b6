"""Numbers of a new model: the normalization is of pixels from 0 to 1, and text is no number."""

import httpx

from tests.helpers import assert_problem, issue_codes


def test_text_and_true_are_no_numbers(client: httpx.Client) -> None:
    body = {
        "name": "x",
        "upload_id": "up_1",
        "num_classes": "4",
        "input_size": True,
        "normalization": {"mean": ["0.5"], "std": [0.5]},
    }
    codes = issue_codes(client.post("/v1/models", json=body | {"reported_top1": True}))
    fields = ("/num_classes", "/input_size", "/normalization/mean/0", "/reported_top1")
    assert codes == dict.fromkeys(fields, "number_type") | {"/upload_id": "not_found"}
    body = {"name": "x", "source": "builtin:digits", "image_size": "16", "split_seed": True}
    codes = issue_codes(client.post("/v1/datasets", json=body))
    assert codes == dict.fromkeys(("/image_size", "/split_seed"), "number_type")


def test_share_as_the_reported_accuracy_is_refused_with_its_percent(client: httpx.Client) -> None:
    body = {"name": "x", "upload_id": "up_1", "reported_top1": 0.93}
    problem = assert_problem(client.post("/v1/models", json=body), 422)
    (issue,) = (i for i in problem["errors"] if i["pointer"] == "/reported_top1")
    assert issue["code"] == "share_not_percent"
    assert "in percent: 93.0 for a share of 0.93" in issue["detail"]


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
