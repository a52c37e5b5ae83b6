"""The digest of a job changes with its numbers and with nothing else."""

from typing import Any

import pytest

from kdcore.protocol.requests import (
    CheckpointFile,
    DatasetFile,
    ModelFile,
    RunRequest,
    TeacherFile,
)
from kdcore.schema.catalog import Normalization
from kdcore.schema.job import ResolvedJob
from kdcore.schema.methods import as_methods
from kdcore.schema.methods.fitnet import FitNet
from kdcore.schema.methods.fsp import FSP
from kdcore.training.job_digest import compute_job_digest
from tests.kdcore.training.helpers import World, with_fields, with_job


@pytest.mark.parametrize("fields", [{"name": "other"}, {"priority": 3}, {"preset": "fast"}])
def test_descriptive_fields_leave_the_digest_unchanged(
    world: World, fields: dict[str, Any]
) -> None:
    request = world.request()
    assert compute_job_digest(with_job(request, **fields)) == compute_job_digest(request)


def test_fields_that_decide_numbers_change_the_digest(world: World) -> None:
    request = world.request()
    digests = {compute_job_digest(request), compute_job_digest(with_job(request, seed=8))}
    digests.add(compute_job_digest(world.request(training={"views": 3})))
    digests.add(compute_job_digest(world.request("dkd")))
    assert len(digests) == 4


class LaterJob(ResolvedJob):
    """A job of a later version, with one more field."""

    extra: int = 3


def test_a_field_of_a_later_version_changes_the_digest_only_if_set(world: World) -> None:
    request = world.request()
    job = LaterJob.model_validate(request.job.model_dump(mode="json"))
    assert job.model_dump() != request.job.model_dump()
    assert compute_job_digest(with_fields(request, job=job)) == compute_job_digest(request)
    changed = job.model_copy(update={"extra": 4})
    assert compute_job_digest(with_fields(request, job=changed)) != compute_job_digest(request)


def stored_request(
    method: Any, training: dict[str, Any] | None = None, **request: Any
) -> RunRequest:
    """A request whose digest does not depend on files of this test."""
    model = {
        "path": "model",
        "sha256": "a" * 64,
        "architecture": "cifar/resnet8",
        "num_classes": 7,
        "in_channels": 1,
        "input_size": 8,
        "normalization": Normalization(mean=(0.25,), std=(0.5,)),
    }
    num_teachers = 0 if request else 1
    job = {
        "name": "a job",
        "student": {"architecture": "cifar/resnet8"},
        "dataset": "ds_1",
        "teachers": [{"model": "mdl_1"}] * num_teachers,
        "method": method,
        "label_weight": 0.1,
        "training": {"epochs": 3, "batch_size": 32, **(training or {})},
        "evaluation": {"baseline": False},
        "seed": 7,
    }
    if request.get("init"):
        request["init"] = ModelFile.model_validate(model)
    return RunRequest(
        job=ResolvedJob.model_validate(job),
        dataset=DatasetFile(path="dataset", sha256="b" * 64),
        teachers=(TeacherFile.model_validate(model | {"weight": 1.0}),) * num_teachers,
        **request,
    )


@pytest.mark.parametrize(
    ("request_", "digest"),
    [
        (
            stored_request(as_methods("kd")),
            "37447700e655d7f9e4cab38a144a22de868f2f57994afe3da8fb59763630e129",
        ),
        (
            stored_request((FitNet(type="fitnet", stage_one=0.5),)),
            "964d0a7972be94573675f787348612a1f57edc32fd99439c125064bb8bf948e3",
        ),
        (
            stored_request((FSP(type="fsp", between="neighbors"),)),
            "68c021f09f0d4c1aeea42e2561c2a4b354380a9fad984a9fdfb4e61fd163c919",
        ),
        (
            stored_request(as_methods("kd"), {"views": 3, "teacher_cache_logits": 5}),
            "35479f2142bbd5158a57684d769fa8b11737b1dd87cf58dbc3019692128ea655",
        ),
        (
            stored_request(
                as_methods("supervised"),
                continue_from=CheckpointFile(path="checkpoint", sha256="c" * 64),
            ),
            "96703d351ce10784fea7197741fcb5de9ec9500e9487004a28a329b80feda3b0",
        ),
        (
            stored_request(as_methods("supervised"), init=True),
            "5b59dc60441aada69a6559400c4d9e1b149db66be02d9084a75a2454bfb39250",
        ),
    ],
    ids=["kd", "fitnet", "fsp", "views", "continued", "init"],
)
def test_stored_jobs_have_the_digest_of_version_0_0(request_: RunRequest, digest: str) -> None:
    """The digests were computed by the version that wrote the first checkpoints."""
    assert compute_job_digest(request_) == digest


@pytest.mark.parametrize("path", ["weights.safetensors", "../other folder/student.safetensors"])
def test_paths_of_initial_weights_have_the_digest_of_version_0_1(path: str) -> None:
    """The digest was computed by a version that hashed an id of the content."""
    request = with_fields(stored_request(as_methods("supervised"), init=True), init_is_path=True)
    student = request.job.student.model_copy(update={"init": path})
    assert compute_job_digest(with_job(request, student=student)) == (
        "fb6baa4ee4f802fd383e234b217afb1ad73d2d234183e0e688ab45ed6d2a4e95"
    )
