"""Rules between the fields of one job."""

from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

from kdcore.schema.job import BUILT_IN_INITS, JobSpec
from kdcore.schema.methods import MethodParams
from kdcore.schema.validation.errors import ValidationIssue
from kdcore.schema.validation.partial_spec import PartialSpec

Job = PartialSpec[JobSpec]
_COMPARES_WITH_TEACHER = ("max_top1_drop", "min_agreement")
_DERIVATION_FIELDS = ("convolution", "groups", "width")


class CrossFieldRule(NamedTuple):
    """What must hold between fields of a job."""

    needs: Literal["student", "model"] | None
    """The kinds of job that it is for, by what they need; None for all."""
    reads: tuple[str, ...]
    """Pointers of the fields it reads: the rule is skipped where one of them is invalid."""
    issues: Callable[[Job], Iterator[ValidationIssue]]


def intact_methods(job: Job) -> list[tuple[str, MethodParams]]:
    """The valid methods of a job, each with its pointer; the default where the job names none."""
    if not job.is_readable("/method"):
        return []
    methods, field = job.spec.methods, job.spec.method
    if not isinstance(field, tuple):
        return [("/method", methods[0])]
    if len(methods) == 1 and job.is_intact("/method"):
        return [("/method", methods[0])]
    return [
        (f"/method/{job.index('/method', position)}", method)
        for position, method in enumerate(methods)
    ]


def _acceptance_issues(job: Job) -> Iterator[ValidationIssue]:
    for name in _COMPARES_WITH_TEACHER:
        if getattr(job.spec.accept, name, None) is not None and not job.spec.teachers:
            yield ValidationIssue(
                pointer=f"/accept/{name}",
                code="teacher_required",
                detail="this criterion compares the student with a teacher, and the job has none: "
                "remove the criterion, or name a teacher",
                fix=[{"op": "remove", "path": f"/accept/{name}"}],
            )


def _missing_model_issues(job: Job) -> Iterator[ValidationIssue]:
    if job.spec.model is None:
        yield ValidationIssue(
            pointer="/model",
            code="missing",
            detail="an evaluation needs a model: name the model to evaluate",
        )


def _unused_model_issues(job: Job) -> Iterator[ValidationIssue]:
    if job.spec.model is not None:
        yield ValidationIssue(
            pointer="/model",
            code="contradiction",
            detail="only an evaluation names a model; a distillation names a student",
            fix=[{"op": "remove", "path": "/model"}],
        )


def _missing_student_issues(job: Job) -> Iterator[ValidationIssue]:
    if job.spec.student is None:
        yield ValidationIssue(pointer="/student", code="missing", detail="this field is required")


def _unused_student_issues(job: Job) -> Iterator[ValidationIssue]:
    if job.spec.student is not None:
        yield _nothing_to_train("/student")


def _unused_start_issues(job: Job) -> Iterator[ValidationIssue]:
    if job.spec.from_ is not None:
        yield _nothing_to_train("/from")


def _nothing_to_train(pointer: str) -> ValidationIssue:
    return ValidationIssue(
        pointer=pointer,
        code="nothing_to_train",
        detail="an evaluation trains nothing: remove this field",
        fix=[{"op": "remove", "path": pointer}],
    )


def _architecture_issues(job: Job) -> Iterator[ValidationIssue]:
    student = job.spec.student
    if student is None:
        return
    if student.derive is None and student.architecture is None:
        yield ValidationIssue(
            pointer="/student/architecture",
            code="missing",
            detail="this field is required, unless the student is derived from the teacher",
        )
    elif student.derive is not None and student.architecture is not None:
        yield ValidationIssue(
            pointer="/student/derive",
            code="contradiction",
            detail="a student has an architecture or is derived from the teacher, not both",
        )
    elif student.derive is not None and not job.spec.teachers:
        yield ValidationIssue(
            pointer="/student/derive",
            code="teacher_required",
            detail="the student is derived from a teacher, and the job has none: name a teacher, "
            "or an architecture",
        )


def _derivation_issues(job: Job) -> Iterator[ValidationIssue]:
    student = job.spec.student
    if student is None or student.derive is not None:
        return
    for name in _DERIVATION_FIELDS:
        if getattr(student, name) is not None:
            yield ValidationIssue(
                pointer=f"/student/{name}",
                code="contradiction",
                detail="only a derived student has this field: add derive, or remove the field",
                fix=[{"op": "remove", "path": f"/student/{name}"}],
            )


def _start_issues(job: Job) -> Iterator[ValidationIssue]:
    student = job.spec.student
    if student is None or job.spec.from_ is None:
        return
    if student.init not in BUILT_IN_INITS:
        yield ValidationIssue(
            pointer="/student/init",
            code="contradiction",
            detail="a student starts from a model or from an earlier job, not from both",
        )


def _missing_teacher_issues(job: Job) -> Iterator[ValidationIssue]:
    scheme = job.spec.scheme
    methods = [method for _, method in intact_methods(job) if method.uses_teacher]
    if job.spec.teachers:
        return
    if scheme.teacher_reason is not None:
        yield ValidationIssue(
            pointer="/teachers",
            code="teacher_required",
            detail=f"{scheme.teacher_reason}: name the teacher",
        )
    elif methods and scheme.teacher == "required":
        yield ValidationIssue(
            pointer="/teachers",
            code="teacher_required",
            detail=f"method {methods[0].type} needs a teacher: name one, or choose supervised",
            fix=[{"op": "add", "path": "/method", "value": "supervised"}],
        )


def _duplicate_method_issues(job: Job) -> Iterator[ValidationIssue]:
    names = [method.type for _, method in intact_methods(job)]
    if len(set(names)) < len(names):
        yield ValidationIssue(
            pointer="/method",
            code="duplicate_method",
            detail="a list names each method at most once: change the weight of the method instead",
        )


def _teacher_cache_issues(job: Job) -> Iterator[ValidationIssue]:
    num_logits = job.spec.training.teacher_cache_logits
    readers = [
        method.type if method.compares_all_logits else f"{method.type} with logit_standardization"
        for _, method in intact_methods(job)
        if method.compares_all_logits or getattr(method, "logit_standardization", False)
    ]
    if num_logits != "all" and readers:
        yield ValidationIssue(
            pointer="/training/teacher_cache_logits",
            code="contradiction",
            detail=f"{readers[0]} compares the logits of all classes, and the cache would hold "
            f"only the {num_logits} largest: set teacher_cache_logits to all",
            fix=[{"op": "replace", "path": "/training/teacher_cache_logits", "value": "all"}],
        )


def _nothing_to_learn_issues(job: Job) -> Iterator[ValidationIssue]:
    spec = job.spec
    if spec.label_weight != 0:
        return
    if not spec.scheme.has_soft_targets(spec.methods, has_teacher=bool(spec.teachers)):
        yield ValidationIssue(
            pointer="/label_weight",
            code="nothing_to_learn",
            detail="label_weight is 0 and no method trains the classifier: raise label_weight, or "
            "add the method kd with a teacher",
            fix=[{"op": "replace", "path": "/label_weight", "value": 1.0}],
        )


def _label_weight_issues(job: Job) -> Iterator[ValidationIssue]:
    methods = intact_methods(job)
    if job.spec.label_weight != "auto" or not job.is_readable(*(f"{p}/weight" for p, _ in methods)):
        return
    if not any(method.resolved_weight == "auto" for _, method in methods):
        yield ValidationIssue(
            pointer="/label_weight",
            code="contradiction",
            detail="label_weight is found only beside a method whose weight is auto, and no method "
            "of the job has it: leave label_weight out, or set the weight of a method to auto",
            fix=[{"op": "remove", "path": "/label_weight"}],
        )


CROSS_FIELD_RULES = (
    CrossFieldRule(None, ("/accept", "/teachers"), _acceptance_issues),
    CrossFieldRule("model", ("/kind", "/model"), _missing_model_issues),
    CrossFieldRule("model", ("/kind", "/student"), _unused_student_issues),
    CrossFieldRule("model", ("/kind", "/from"), _unused_start_issues),
    CrossFieldRule("student", ("/kind", "/model"), _unused_model_issues),
    CrossFieldRule("student", ("/kind", "/student"), _missing_student_issues),
    CrossFieldRule(
        "student",
        ("/student/architecture", "/student/derive", "/teachers"),
        _architecture_issues,
    ),
    CrossFieldRule("student", ("/student/derive",), _derivation_issues),
    CrossFieldRule("student", ("/student/init", "/from"), _start_issues),
    CrossFieldRule("student", ("/scheme", "/teachers"), _missing_teacher_issues),
    CrossFieldRule("student", (), _duplicate_method_issues),
    CrossFieldRule("student", ("/training/teacher_cache_logits",), _teacher_cache_issues),
    CrossFieldRule("student", ("/label_weight", "/method"), _label_weight_issues),
    CrossFieldRule(
        "student", ("/label_weight", "/method", "/scheme", "/teachers"), _nothing_to_learn_issues
    ),
)
