"""Faults between the fields of one job, found also where other fields are faulty."""

from collections.abc import Iterator

from kdcore.schema.methods import METHODS
from kdcore.schema.schemes import SCHEMES
from kdcore.schema.validation.errors import ValidationIssue
from kdcore.schema.validation.partial_job import PartialJob

_COMPARES_ALL_LOGITS = ("logit_matching", "dist", "batch_logits")
_COMPARES_WITH_TEACHER = ("max_top1_drop", "min_agreement")


def cross_field_issues(job: PartialJob) -> Iterator[ValidationIssue]:
    """What is allowed field by field and makes no sense together."""
    for name in job.accept_criteria:
        if name in _COMPARES_WITH_TEACHER and not job.teachers:
            yield ValidationIssue(
                pointer=f"/accept/{name}",
                code="teacher_required",
                detail="compares the student with a teacher, and this job has none: leave it out",
                fix=[{"op": "remove", "path": f"/accept/{name}"}],
            )
    if job.kind == "evaluate":
        yield from _evaluation_issues(job)
        return
    yield from _student_issues(job)
    if job.methods is not None:
        yield from _method_issues(job, job.methods)


def _evaluation_issues(job: PartialJob) -> Iterator[ValidationIssue]:
    if job.model is None:
        yield ValidationIssue(
            pointer="/model", code="missing", detail="name the model that is to be evaluated"
        )
    for pointer, present in (("/student", job.has_student), ("/from", job.from_job is not None)):
        if present:
            yield ValidationIssue(
                pointer=pointer,
                code="nothing_to_train",
                detail="an evaluation trains nothing: leave it out",
                fix=[{"op": "remove", "path": pointer}],
            )


def _student_issues(job: PartialJob) -> Iterator[ValidationIssue]:
    if job.model is not None:
        yield ValidationIssue(
            pointer="/model",
            code="contradiction",
            detail="only an evaluation names a model; a distillation names a student",
            fix=[{"op": "remove", "path": "/model"}],
        )
    if not job.has_student:
        yield ValidationIssue(pointer="/student", code="missing", detail="this field is required")
    elif not job.derive and not job.has_architecture:
        yield ValidationIssue(
            pointer="/student/architecture",
            code="missing",
            detail="this field is required, unless the student is derived from the teacher",
        )
    elif job.derive and job.has_architecture:
        yield ValidationIssue(
            pointer="/student/derive",
            code="contradiction",
            detail="a student has an architecture or is derived from the teacher, not both",
        )
    elif job.derive and not job.teachers:
        yield ValidationIssue(
            pointer="/student/derive",
            code="teacher_required",
            detail="there is no teacher to derive the student from; name one, or an architecture",
        )
    yield from _derivation_issues(job)


def _derivation_issues(job: PartialJob) -> Iterator[ValidationIssue]:
    for key in () if job.derive else job.derivation_fields:
        yield ValidationIssue(
            pointer=f"/student/{key}",
            code="contradiction",
            detail="only a derived student has it: add derive, or leave it out",
            fix=[{"op": "remove", "path": f"/student/{key}"}],
        )
    if job.from_job is not None and job.init_model is not None:
        yield ValidationIssue(
            pointer="/student/init",
            code="contradiction",
            detail="a student starts from a model or from an earlier job, not from both",
        )


def _method_issues(job: PartialJob, names: list[str]) -> Iterator[ValidationIssue]:
    teacher_methods = [name for name in names if name != "supervised"]
    # A method that does not exist is told by itself; whether it needs a teacher, nobody knows.
    known_methods = [name for name in teacher_methods if name in METHODS]
    scheme = SCHEMES.get(job.scheme or "")
    required = scheme is None or scheme.teacher == "required"
    if job.scheme == "teacher_assistant" and not job.teachers:
        yield ValidationIssue(
            pointer="/teachers",
            code="teacher_required",
            detail="assistants stand between a teacher and a student; name the teacher",
        )
    elif known_methods and not job.teachers and required:
        yield ValidationIssue(
            pointer="/teachers",
            code="teacher_required",
            detail=f"method {known_methods[0]} needs a teacher; name one, or choose supervised",
            fix=[{"op": "add", "path": "/method", "value": "supervised"}],
        )
    if len(set(names)) < len(names):
        yield ValidationIssue(
            pointer="/method",
            code="duplicate_method",
            detail="each method may stand in the list once; change its weight instead",
        )
    if job.teacher_cache_logits is not None:
        yield from _teacher_cache_issues(job, names)
    if (
        job.label_weight == 0
        and len(known_methods) == len(teacher_methods)
        and not _has_soft_targets(job, known_methods)
    ):
        yield ValidationIssue(
            pointer="/label_weight",
            code="nothing_to_learn",
            detail="labels do not count and nobody's answers are learned, so the classifier would "
            "stay as it began: raise the weight, or add kd with a teacher",
            fix=[{"op": "replace", "path": "/label_weight", "value": 1.0}],
        )


def _teacher_cache_issues(job: PartialJob, names: list[str]) -> Iterator[ValidationIssue]:
    all_logit_methods = [name for name in names if name in _COMPARES_ALL_LOGITS]
    reader = (
        all_logit_methods[0]
        if all_logit_methods
        else "logit_standardization"
        if job.standardized
        else None
    )
    if reader is not None:
        yield ValidationIssue(
            pointer="/training/teacher_cache_logits",
            code="contradiction",
            detail=f"{reader} compares every logit, and those that are not kept would be made up: "
            "keep all",
            fix=[{"op": "replace", "path": "/training/teacher_cache_logits", "value": "all"}],
        )


def _has_soft_targets(job: PartialJob, methods: list[str]) -> bool:
    """Whether some network that knows the classes teaches answers, not features alone."""
    if job.scheme == "label_refinery":
        # It begins with labels or a teacher, and adds soft labels where no method brings them.
        return True
    if job.scheme == "mutual" and not job.teachers:
        return False
    hints = "fitnet" in methods and not job.hint_only
    return hints or any(METHODS[name].group == "logits" for name in methods)
