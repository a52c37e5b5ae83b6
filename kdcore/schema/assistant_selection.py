"""Which assistants stand between a teacher and a student, where a job does not say."""

import math
from collections.abc import Iterable

from kdcore.schema.catalog import Architecture, architectures
from kdcore.schema.methods import METHODS
from kdcore.schema.validation.method_compatibility import TeacherStudentPair, find_incompatibility


def propose_assistants(
    teacher: str, student: str, num_assistants: int, methods: Iterable[str] = ()
) -> tuple[str, ...]:
    """``num`` architectures whose parameter counts step down from teacher to student evenly.

    In equal ratios, as Mirzadeh et al. 2020 (https://arxiv.org/abs/1902.03393) found the middle
    best on a scale of capacity. Of the student's family where one is strictly between the two,
    else of the teacher's, else of anything that takes such images; all of them bear every one of
    the ``methods``. Fewer than ``num`` where the catalog has no more.
    """
    known, known_methods = architectures(), [name for name in methods if name in METHODS]
    big, small = known[teacher], known[student]
    between = [
        entry
        for entry in known.values()
        if small.num_params < entry.num_params < big.num_params
        and entry.min_input_size <= small.min_input_size
        and _namespace(entry) == _namespace(small)
        and all(_supports(entry, method) for method in known_methods)
    ]
    families = ([e for e in between if e.family == family] for family in (small.family, big.family))
    pool = next((candidates for candidates in families if candidates), between)
    chosen: list[Architecture] = []
    for index in range(1, num_assistants + 1):
        ratio = (small.num_params / big.num_params) ** (index / (num_assistants + 1))
        remaining = [entry for entry in pool if entry not in chosen]
        if remaining:
            chosen.append(
                min(remaining, key=lambda e: abs(math.log(e.num_params / big.num_params / ratio)))
            )
    ordered = sorted(chosen, key=lambda entry: -entry.num_params)
    return tuple(entry.name for entry in ordered)


def _supports(entry: Architecture, method: str) -> bool:
    return (
        find_incompatibility(method, TeacherStudentPair(entry.name, teacher_required=False)) is None
    )


def _namespace(entry: Architecture) -> str:
    return entry.name.partition("/")[0]
