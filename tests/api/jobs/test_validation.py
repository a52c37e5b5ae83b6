"""What is wrong with a job is told at once, all of it, where the client wrote it."""

from typing import Any

import httpx
import pytest

from tests.helpers import assert_problem, issue_codes, job_body

Json = dict[str, Any]
# kd without a teacher: told beside whatever else is wrong with it.
TAUGHT: dict[str, str | None] = {"/teachers": "teacher_required"}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"method": "nonsense"}, {"/method": "literal_error"}),
        ({"method": {"type": "nonsense"}}, {"/method/type": "union_tag_invalid"}),
        ({"method": {}}, {"/method/type": "union_tag_not_found"}),
        ({"method": [{"type": "nonsense"}]}, {"/method/0/type": "union_tag_invalid"}),
        ({"method": []}, {"/method": "too_short"}),
        ({"method": 7}, {"/method": None}),
        ({"method": {"type": "kd", "temperature": 0}}, {"/method/temperature": None, **TAUGHT}),
        ({"method": [{"type": "kd", "temperature": 0}]}, {"/method/0/temperature": None, **TAUGHT}),
        ({"method": {"type": "kd", "kd": 1}}, {"/method/kd": "extra_forbidden", **TAUGHT}),
        (
            {"method": {"type": "kd", "one": {"kd": {}}}},
            {"/method/one": "extra_forbidden", **TAUGHT},
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
def test_a_fault_points_to_where_it_was_written(
    client: httpx.Client, digits: Json, changes: Json, expected: dict[str, str | None] | None
) -> None:
    found = issue_codes(client.post("/v1/jobs", json=job_body(digits, **changes)))
    if expected is None:
        expected = {"/training/epochs": None, "/training/batch_size": None}
    assert set(found) == set(expected)
    for pointer, code in expected.items():
        assert code in (None, found[pointer])


def test_an_unknown_field_is_told_which_one_was_meant(client: httpx.Client, digits: Json) -> None:
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
            fault["detail"] for fault in document["errors"]
        ]


@pytest.mark.parametrize("body", [[], "text", 1, True])
def test_a_body_that_is_no_object_is_one_fault_of_the_whole(
    client: httpx.Client, body: object
) -> None:
    for path in ("jobs", "datasets", "models", "uploads", "projects"):
        assert set(issue_codes(client.post(f"/v1/{path}", json=body))) == {""}


def test_faults_of_fields_catalog_and_data_come_together(client: httpx.Client) -> None:
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


def test_classes_that_do_not_fit_come_with_a_fix_that_helps(
    client: httpx.Client, digits: Json
) -> None:
    body = job_body(digits, student={"architecture": "cifar/resnet8", "num_classes": 7})
    document = assert_problem(client.post("/v1/jobs", json=body | {"seed": -1}), 422)
    codes = {fault["pointer"]: fault["code"] for fault in document["errors"]}
    assert codes == {"/student/num_classes": "classes_mismatch", "/seed": "greater_than_equal"}
    document = assert_problem(client.post("/v1/jobs", json=body), 422)
    assert client.post("/v1/jobs", json=patched(body, document["fix"])).status_code == 201


@pytest.mark.parametrize(
    "changes",
    [
        {"method": "kd"},
        {"method": [{"type": "kd"}, {"type": "logit_matching"}]},
        {"method": "supervised", "label_weight": 0},
    ],
    ids=str,
)
def test_a_fix_makes_the_request_valid(client: httpx.Client, digits: Json, changes: Json) -> None:
    body = job_body(digits, **changes)
    fix = assert_problem(client.post("/v1/jobs", json=body), 422)["fix"]
    answer = client.post("/v1/jobs", json=patched(body, fix))
    assert answer.status_code == 201, answer.text


def patched(body: Json, fix: list[Json]) -> Json:
    """A JSON Patch of replacements and additions, applied."""
    for step in fix:
        *path, last = step["path"].lstrip("/").split("/")
        here = body
        for name in path:
            here = here[name]
        assert step["op"] == "add" or last in here
        here[last] = step["value"]
    return body


def test_a_duplicate_method_is_told(
    client: httpx.Client, trained_job: Any, trained_model: Any
) -> None:
    body = job_body(trained_job.dataset, teachers=[{"model": trained_model["id"]}], method=2 * [KD])
    assert issue_codes(trained_job.client.post("/v1/jobs", json=body)) == {
        "/method": "duplicate_method"
    }


KD = {"type": "kd"}


def test_a_misfit_teacher_is_told(client: httpx.Client, digits: Json, tenant: Any) -> None:
    model = ready_model(tenant.id, num_classes=3, in_channels=3)
    body = job_body(digits, teachers=[{"model": model}, {"model": model}])
    found = assert_problem(client.post("/v1/jobs", json=body), 422)["errors"]
    assert [(fault["pointer"], fault["code"]) for fault in found] == [
        ("/teachers/0/model", "classes_mismatch"),
        ("/teachers/0/model", "channels_mismatch"),
        ("/teachers/1/model", "classes_mismatch"),
        ("/teachers/1/model", "channels_mismatch"),
    ]
    student = {"architecture": "cifar/resnet8", "init": model}
    answer = client.post("/v1/jobs", json=job_body(digits, student=student, method="supervised"))
    assert issue_codes(answer) == {"/student/init": "init_mismatch"}


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


def test_no_fault_echoes_what_was_sent(client: httpx.Client, digits: Json) -> None:
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
        answer = client.post("/v1/jobs", json=body)
        assert_problem(answer, 422)
        assert secret not in answer.text
    for path, body in (
        ("uploads", {"filename": "x\0", "size_bytes": secret, "sha256": secret}),
        ("datasets", {"name": "x", "source": secret, "split_seed": secret}),
        ("models", {"name": "x", "source": secret, "normalization": secret}),
    ):
        answer = client.post(f"/v1/{path}", json=body)
        assert_problem(answer, 422)
        assert secret not in answer.text
    for query in ({"limit": secret}, {"cursor": secret}, {"state": secret}, {"sort": secret}):
        answer = client.get("/v1/jobs", params=query)
        assert_problem(answer, 422)
        assert secret not in answer.text


@pytest.mark.parametrize(
    "normalization",
    [{"mean": [0.5], "std": [0.5, 0.5, 0.5]}, {"mean": [0.5, 0.5], "std": [0.5, 0.5]}, {}],
)
def test_a_normalization_has_one_mean_and_deviation_for_each_channel(
    client: httpx.Client, normalization: Json
) -> None:
    body = {"name": "x", "architecture": "cifar/resnet8", "num_classes": 10, "upload_id": "upl_x"}
    found = issue_codes(client.post("/v1/models", json=body | {"normalization": normalization}))
    assert found.pop("/upload_id") == "not_found"
    assert found
    assert all(pointer.startswith("/normalization") for pointer in found)
