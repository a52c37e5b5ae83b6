"""Which assistants stand between a teacher and a student, where a job does not say."""

import math
from collections.abc import Iterable

from kdcore.schema.catalog import Architecture, architectures
from kdcore.schema.methods import METHODS
from kdcore.schema.validation.method_compatibility import Pair, misfit


def propose(teacher: str, student: str, num: int, methods: Iterable[str] = ()) -> tuple[str, ...]:
    """``num`` architectures whose parameter counts step down from teacher to student evenly.

    In equal ratios, as Mirzadeh et al. 2020 (https://arxiv.org/abs/1902.03393) found the middle
    best on a scale of capacity. Of the student's family where one is strictly between the two,
    else of the teacher's, else of anything that takes such images; all of them bear every one of
    the ``methods``. Fewer than ``num`` where the catalogue has no more.
    """
    known, taught = architectures(), [name for name in methods if name in METHODS]
    big, small = known[teacher], known[student]
    between = [
        entry
        for entry in known.values()
        if small.num_params < entry.num_params < big.num_params
        and entry.min_input_size <= small.min_input_size
        and _namespace(entry) == _namespace(small)
        and all(_bears(entry, method) for method in taught)
    ]
    families = ([e for e in between if e.family == family] for family in (small.family, big.family))
    pool = next((found for found in families if found), between)
    chosen: list[Architecture] = []
    for position in range(1, num + 1):
        ratio = (small.num_params / big.num_params) ** (position / (num + 1))
        left = [entry for entry in pool if entry not in chosen]
        if left:
            chosen.append(
                min(left, key=lambda e: abs(math.log(e.num_params / big.num_params / ratio)))
            )
    ordered = sorted(chosen, key=lambda entry: -entry.num_params)
    return tuple(entry.name for entry in ordered)


def _bears(entry: Architecture, method: str) -> bool:
    return misfit(method, Pair(entry.name, teacher_required=False)) is None


def _namespace(entry: Architecture) -> str:
    return entry.name.partition("/")[0]
