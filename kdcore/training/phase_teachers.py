"""Select the teachers of a phase and compute the logits that fidelity is measured against."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kdcore.models.teachers import FrozenTeacher, TeacherEnsemble, freeze
from kdcore.schemes import planner
from kdcore.schemes.base import Phase, StudentResult
from kdcore.training.compute.teacher_precision import convert_teachers
from kdcore.training.context import JobContext
from kdcore.training.run_state import RunState

_NO_TEACHERS = TeacherEnsemble(())


@dataclass(frozen=True)
class PhaseTeachers:
    """The teachers of a phase and their logits on the validation split."""

    teachers: TeacherEnsemble
    """In the precision in which they run; empty if no method of the phase uses a teacher."""
    val_logits: Tensor | None
    """The exact teachers' logits (N, C) on the validation split, for fidelity metrics."""


def teachers_for_phase(run_state: RunState, context: JobContext, phase: Phase) -> PhaseTeachers:
    """The phase's teachers and the logits used for fidelity.

    Phases without a teacher, such as baselines, are compared with the job's teachers.
    """
    compute_env = run_state.compute_env
    teachers = select_teachers(context, phase, run_state.results, compute_env.device)
    val_logits = context.teacher_val_logits
    if phase.teacher == "last":
        logits = teachers.logits(
            context.dataset.images("val"),
            device=compute_env.device,
            check_cancelled=run_state.check_cancelled,
            autocast=compute_env.autocast(),
        )
        val_logits = teachers.mean(logits)
    return PhaseTeachers(convert_teachers(run_state, context, phase, teachers), val_logits)


def select_teachers(
    context: JobContext, phase: Phase, results: Sequence[StudentResult], device: torch.device
) -> TeacherEnsemble:
    """The exact teachers of ``phase``: the job's, the last network of ``results``, or none."""
    if phase.teacher != "last":
        return context.teachers if phase.teacher else _NO_TEACHERS
    previous = planner.last_result(results, phase.seed_index)
    return TeacherEnsemble(
        (FrozenTeacher(freeze(context.load_trained(previous), device), taps=previous.student.taps),)
    )
