"""Validation issues of a job: all in one response, each with a pointer into the body."""

from typing import Any

import httpx
import pytest

from tests.helpers import assert_problem, issue_codes, job_body

Json = dict[str, Any]
# kd without a teacher: an issue that comes in addition to the others.
MISSING_TEACHER: dict[str, str | None] = {"/teachers": "teacher_required"}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"method": "nonsense"}, {"/method": "literal_error"}),
        ({"method": {"type": "nonsense"}}, {"/method/type": "union_tag_invalid"}),
        ({"method": {}}, {"/method/type": "union_tag_not_found"}),
        ({"method": [{"type": "nonsense"}]}, {"/method/0/type": "union_tag_invalid"}),
        ({"method": []}, {"/method": "too_short"}),
        ({"method": 7}, {"/method": None}),
        (
            {"method": {"type": "kd", "temperature": 0}},
            {"/method/temperature": None, **MISSING_TEACHER},
        ),
        (
            {"method": [{"type": "kd", "temperature": 0}]},
            {"/method/0/temperature": None, **MISSING_TEACHER},
        ),
        ({"method": {"type": "kd", "kd": 1}}, {"/method/kd": "extra_forbidden", **MISSING_TEACHER}),
        (
            {"method": {"type": "kd", "one": {"kd": {}}}},
            {"/method/one": "extra_forbidden", **MISSING_TEACHER},
        ),
        (
            {"training": {"optimizer": {"type": "sgd", "sgd": {"lr": 1}, "lr": 0}}},
            {"/training/optimizer/sgd": "extra_forbidden", "/training/optimizer/lr": None},
        ),
        (
            {"training": {"optimizer": {"type": "adamw", "betas": [0.9]}}},
            {"/training/optimizer/betas": "missing"},
        ),
        ({"training": {"schedule": {"type": "x"}}}, {"/training/schedule/type": None}),
        ({"training": {"augmentation": "x"}}, {"/training/augmentation": None}),
        ({"student": {"architecture": "no/such"}}, {"/student/architecture": None}),
        ({"student": {}}, {"/student/architecture": "missing"}),
        ({"unknown": 1}, {"/unknown": "extra_forbidden"}),
        ({"a/b~c": 1}, {"/a~1b~0c": "extra_forbidden"}),
        ({"student": {"architecture": "cifar/resnet8", "x": 1}}, {"/student/x": None}),
        ({"teachers": [{"model": 1}]}, {"/teachers/0/model": "string_type"}),
        ({"teachers": {"model": "x"}}, {"/teachers": None}),
        ({"labels": {"bad key!": "x"}}, {"/labels/bad key!": None}),
        ({"labels": {"a": 1}}, {"/labels/a": "string_type"}),
        ({"priority": 10**30, "seed": -1}, {"/priority": None, "/seed": None}),
        ({"accept": {"max_size_bytes": 10**30}}, {"/accept/max_size_bytes": None}),
        ({"name": "a\u0000b"}, {"/name": None}),
        ({"name": "   "}, {"/name": None}),
        ({"dataset": None}, {"/dataset": "string_type"}),
        ({"kind": "evaluate!"}, {"/kind": "literal_error"}),
        ({"scheme": {"type": "mutual!"}}, {"/scheme/type": None}),
        ({"training": {"epochs": 1.5, "batch_size": "64x"}}, None),
    ],
    ids=str,
)
def test_pointer_addresses_the_body_as_sent(
    client: httpx.Client, digits: Json, changes: Json, expected: dict[str, str | None] | None
) -> None:
    codes = issue_codes(client.post("/v1/jobs", json=job_body(digits, **changes)))
    if expected is None:
        expected = {"/training/epochs": None, "/training/batch_size": None}
    assert set(codes) == set(expected)
    for pointer, code in expected.items():
        assert code in (None, codes[pointer])


def test_unknown_field_suggests_nearest_name(client: httpx.Client, digits: Json) -> None:
    for path, body, meant in (
        ("jobs", job_body(digits, epochs=3), "`/training/epochs`"),
        (
            "datasets",
            {"name": "digits", "source": "builtin:digits", "image_sizes": 8},
            "`image_size`",
        ),
        ("teacher-caches/warm", job_body(digits, teacher="x"), "`teachers`"),
    ):
        document = assert_problem(client.post(f"/v1/{path}", json=body), 422)
        assert f"there is no such field here; did you mean {meant}?" in [
            issue["detail"] for issue in document["errors"]
        ]


@pytest.mark.parametrize("body", [[], "text", 1, True])
def test_body_that_is_no_object_has_one_issue_at_the_root(
    client: httpx.Client, body: object
) -> None:
    for path in ("jobs", "datasets", "models", "uploads", "projects"):
        assert set(issue_codes(client.post(f"/v1/{path}", json=body))) == {""}


def test_issues_of_fields_catalog_and_data_come_together(client: httpx.Client) -> None:
    dataset = client.post(
        "/v1/datasets", json={"name": "digits", "source": "builtin:digits"}
    ).json()
    body = {
        "student": {"architecture": "no/such"},
        "dataset": dataset["id"],
        "method": {"type": "kd", "temperature": 0},
        "teachers": [{"model": "mdl_nothing"}],
        "extra": 1,
    }
    assert issue_codes(client.post("/v1/jobs", json=body)) == {
        "/student/architecture": "unknown_architecture",
        "/dataset": "not_ready",
        "/method/temperature": "greater_than_equal",
        "/teachers/0/model": "not_found",
        "/extra": "extra_forbidden",
    }


def test_the_name_of_a_data_set_is_no_id(client: httpx.Client, digits: Json) -> None:
    body = job_body(digits, dataset="digits")
    (issue,) = assert_problem(client.post("/v1/jobs", json=body), 422)["errors"]
    assert (issue["pointer"], issue["code"]) == ("/dataset", "not_found")
    assert issue["detail"] == "there is no such data set; an id begins with `ds_`"


def test_fix_for_mismatched_classes_makes_the_job_valid(client: httpx.Client, digits: Json) -> None:
    body = job_body(digits, student={"architecture": "cifar/resnet8", "num_classes": 7})
    document = assert_problem(client.post("/v1/jobs", json=body | {"seed": -1}), 422)
    codes = {issue["pointer"]: issue["code"] for issue in document["errors"]}
    assert codes == {"/student/num_classes": "classes_mismatch", "/seed": "greater_than_equal"}
    document = assert_problem(client.post("/v1/jobs", json=body), 422)
    assert client.post("/v1/jobs", json=apply_patch(body, document["fix"])).status_code == 201


@pytest.mark.parametrize(
    "changes",
    [
        {"method": "kd"},
        {"method": [{"type": "kd"}, {"type": "logit_matching"}]},
        {"method": "supervised", "label_weight": 0},
    ],
    ids=str,
)
def test_fix_makes_the_request_valid(client: httpx.Client, digits: Json, changes: Json) -> None:
    body = job_body(digits, **changes)
    fix = assert_problem(client.post("/v1/jobs", json=body), 422)["fix"]
    response = client.post("/v1/jobs", json=apply_patch(body, fix))
    assert response.status_code == 201, response.text


def apply_patch(body: Json, fix: list[Json]) -> Json:
    """Apply a JSON Patch that has only `replace` and `add`. Raises ``KeyError`` (RFC 6902)."""
    for step in fix:
        *path, last = step["path"].lstrip("/").split("/")
        node = body
        for name in path:
            node = node[name]
        if step["op"] == "replace":
            del node[last]
        node[last] = step["value"]
    return body


def test_duplicate_method_is_rejected(
    client: httpx.Client, trained_job: Any, trained_model: Any
) -> None:
    body = job_body(trained_job.dataset, teachers=[{"model": trained_model["id"]}], method=2 * [KD])
    assert issue_codes(trained_job.client.post("/v1/jobs", json=body)) == {
        "/method": "duplicate_method"
    }


KD = {"type": "kd"}


def test_mismatched_teacher_is_rejected(client: httpx.Client, digits: Json, tenant: Any) -> None:
    model = ready_model(tenant.id, num_classes=3, in_channels=3)
    body = job_body(digits, teachers=[{"model": model}, {"model": model}])
    issues = assert_problem(client.post("/v1/jobs", json=body), 422)["errors"]
    assert [(issue["pointer"], issue["code"]) for issue in issues] == [
        ("/teachers/0/model", "classes_mismatch"),
        ("/teachers/0/model", "channels_mismatch"),
        ("/teachers/1/model", "classes_mismatch"),
        ("/teachers/1/model", "channels_mismatch"),
    ]
    student = {"architecture": "cifar/resnet8", "init": model}
    response = client.post("/v1/jobs", json=job_body(digits, student=student, method="supervised"))
    assert issue_codes(response) == {"/student/init": "init_mismatch"}


def ready_model(project_id: str, **facts: int) -> str:
    from store.database import transaction
    from store.ids import new_id
    from store.tables import Model

    model = Model(
        id=new_id("mdl"),
        project_id=project_id,
        name="made up",
        source="upload:none",
        architecture="cifar/resnet8",
        input_size=32,
        labels={},
        warnings=[],
        state="ready",
        **facts,
    )
    with transaction() as session:
        session.add(model)
    return model.id


def test_issues_never_echo_values(client: httpx.Client, digits: Json) -> None:
    secret = "stk_do-not-show-this"
    bodies = [
        job_body(
            digits, name=secret + "\n", priority=secret, seed=secret, kind=secret, method=secret
        ),
        job_body(digits, method={"type": secret}, training={"optimizer": {"type": secret}}),
        job_body({"id": secret}, teachers=[{"model": secret, "weight": secret}], student=secret),
        job_body(digits, student={"architecture": secret, "init": secret, "num_classes": secret}),
        job_body(digits, labels={"a": {"b": secret}}, accept=[secret], limits={"wall_s": secret}),
    ]
    for body in bodies:
        response = client.post("/v1/jobs", json=body)
        assert_problem(response, 422)
        assert secret not in response.text
    for path, body in (
        ("uploads", {"filename": "x\0", "size_bytes": secret, "sha256": secret}),
        ("datasets", {"name": "x", "source": secret, "split_seed": secret}),
        ("models", {"name": "x", "source": secret, "normalization": secret}),
    ):
        response = client.post(f"/v1/{path}", json=body)
        assert_problem(response, 422)
        assert secret not in response.text
    for query in ({"limit": secret}, {"cursor": secret}, {"state": secret}, {"sort": secret}):
        response = client.get("/v1/jobs", params=query)
        assert_problem(response, 422)
        assert secret not in response.text


@pytest.mark.parametrize(
    "normalization",
    [{"mean": [0.5], "std": [0.5, 0.5, 0.5]}, {"mean": [0.5, 0.5], "std": [0.5, 0.5]}, {}],
)
def test_normalization_needs_one_mean_and_std_per_channel(
    client: httpx.Client, normalization: Json
) -> None:
    body = {"name": "x", "architecture": "cifar/resnet8", "num_classes": 10, "upload_id": "upl_x"}
    codes = issue_codes(client.post("/v1/models", json=body | {"normalization": normalization}))
    assert codes.pop("/upload_id") == "not_found"
    assert codes
    assert all(pointer.startswith("/normalization") for pointer in codes)
