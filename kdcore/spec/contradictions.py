"""Faults between the fields of one job, found also where other fields are faulty."""

from collections.abc import Iterator

from kdcore.spec.faults import Fault
from kdcore.spec.fit import References
from kdcore.spec.methods import METHODS

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
    if asked.methods is not None:
        yield from _of_methods(asked, asked.methods)


def _of_methods(asked: References, names: list[str]) -> Iterator[Fault]:
    taught = [name for name in names if name != "supervised"]
    # A method that does not exist is told by itself; whether it needs a teacher, nobody knows.
    needing = [name for name in taught if name in METHODS]
    if needing and not asked.teachers:
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
    if not taught and asked.label_weight == 0:
        yield Fault(
            pointer="/label_weight",
            code="nothing_to_learn",
            detail="supervised learns from the labels alone, so their weight must be above 0",
            fix=[{"op": "replace", "path": "/label_weight", "value": 1.0}],
        )
