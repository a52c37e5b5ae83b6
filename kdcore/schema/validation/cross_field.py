"""Faults between the fields of one job, found also where other fields are faulty."""

from collections.abc import Iterator

from kdcore.schema.methods import METHODS
from kdcore.schema.schemes import SCHEMES
from kdcore.schema.validation.errors import Fault
from kdcore.schema.validation.partial_job import References

_EVERY_LOGIT = ("logit_matching", "dist", "batch_logits")
_COMPARES_WITH_TEACHER = ("max_top1_drop", "min_agreement")


def contradictions(asked: References) -> Iterator[Fault]:
    """What is allowed field by field and makes no sense together."""
    for name in asked.accept:
        if name in _COMPARES_WITH_TEACHER and not asked.teachers:
            yield Fault(
                pointer=f"/accept/{name}",
                code="teacher_required",
                detail="compares the student with a teacher, and this job has none: leave it out",
                fix=[{"op": "remove", "path": f"/accept/{name}"}],
            )
    if asked.kind == "evaluate":
        yield from _of_evaluation(asked)
        return
    yield from _of_student(asked)
    if asked.methods is not None:
        yield from _of_methods(asked, asked.methods)


def _of_evaluation(asked: References) -> Iterator[Fault]:
    if asked.model is None:
        yield Fault(
            pointer="/model", code="missing", detail="name the model that is to be evaluated"
        )
    for pointer, given in (("/student", asked.student), ("/from", asked.continued is not None)):
        if given:
            yield Fault(
                pointer=pointer,
                code="nothing_to_train",
                detail="an evaluation trains nothing: leave it out",
                fix=[{"op": "remove", "path": pointer}],
            )


def _of_student(asked: References) -> Iterator[Fault]:
    if asked.model is not None:
        yield Fault(
            pointer="/model",
            code="contradiction",
            detail="only an evaluation names a model; a distillation names a student",
            fix=[{"op": "remove", "path": "/model"}],
        )
    if not asked.student:
        yield Fault(pointer="/student", code="missing", detail="this field is required")
    elif not asked.derive and not asked.has_architecture:
        yield Fault(
            pointer="/student/architecture",
            code="missing",
            detail="this field is required, unless the student is derived from the teacher",
        )
    elif asked.derive and asked.has_architecture:
        yield Fault(
            pointer="/student/derive",
            code="contradiction",
            detail="a student has an architecture or is derived from the teacher, not both",
        )
    elif asked.derive and not asked.teachers:
        yield Fault(
            pointer="/student/derive",
            code="teacher_required",
            detail="there is no teacher to derive the student from; name one, or an architecture",
        )
    yield from _of_derivation(asked)


def _of_derivation(asked: References) -> Iterator[Fault]:
    for key in () if asked.derive else asked.derivation:
        yield Fault(
            pointer=f"/student/{key}",
            code="contradiction",
            detail="only a derived student has it: add derive, or leave it out",
            fix=[{"op": "remove", "path": f"/student/{key}"}],
        )
    if asked.continued is not None and asked.init is not None:
        yield Fault(
            pointer="/student/init",
            code="contradiction",
            detail="a student starts from a model or from an earlier job, not from both",
        )


def _of_methods(asked: References, names: list[str]) -> Iterator[Fault]:
    taught = [name for name in names if name != "supervised"]
    # A method that does not exist is told by itself; whether it needs a teacher, nobody knows.
    needing = [name for name in taught if name in METHODS]
    scheme = SCHEMES.get(asked.scheme or "")
    required = scheme is None or scheme.teacher == "required"
    if asked.scheme == "teacher_assistant" and not asked.teachers:
        yield Fault(
            pointer="/teachers",
            code="teacher_required",
            detail="assistants stand between a teacher and a student; name the teacher",
        )
    elif needing and not asked.teachers and required:
        yield Fault(
            pointer="/teachers",
            code="teacher_required",
            detail=f"method {needing[0]} needs a teacher; name one, or choose supervised",
            fix=[{"op": "add", "path": "/method", "value": "supervised"}],
        )
    if len(set(names)) < len(names):
        yield Fault(
            pointer="/method",
            code="duplicate_method",
            detail="each method may stand in the list once; change its weight instead",
        )
    if asked.kept_logits is not None:
        yield from _of_kept_logits(asked, names)
    if asked.label_weight == 0 and len(needing) == len(taught) and not _soft(asked, needing):
        yield Fault(
            pointer="/label_weight",
            code="nothing_to_learn",
            detail="labels do not count and nobody's answers are learned, so the classifier would "
            "stay as it began: raise the weight, or add kd with a teacher",
            fix=[{"op": "replace", "path": "/label_weight", "value": 1.0}],
        )


def _of_kept_logits(asked: References, names: list[str]) -> Iterator[Fault]:
    whole = [name for name in names if name in _EVERY_LOGIT]
    reader = whole[0] if whole else "logit_standardization" if asked.standardized else None
    if reader is not None:
        yield Fault(
            pointer="/training/kept_logits",
            code="contradiction",
            detail=f"{reader} compares every logit, and those that are not kept would be made up: "
            "keep all",
            fix=[{"op": "replace", "path": "/training/kept_logits", "value": "all"}],
        )


def _soft(asked: References, methods: list[str]) -> bool:
    """Whether some network that knows the classes teaches answers, not features alone."""
    if asked.scheme == "label_refinery":
        # It begins with labels or a teacher, and adds soft labels where no method brings them.
        return True
    if asked.scheme == "mutual" and not asked.teachers:
        return False
    hints = "fitnet" in methods and not asked.hint_alone
    return hints or any(METHODS[name].group == "logits" for name in methods)
