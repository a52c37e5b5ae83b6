"""Who teaches in a phase."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kdcore.models.teachers import Frozen, Teachers, frozen
from kdcore.schemes import planner
from kdcore.schemes.base import Phase, Result
from kdcore.training.compute.quantized_teacher import as_asked
from kdcore.training.context import Task
from kdcore.training.run_state import Session

_NOBODY = Teachers(())


@dataclass(frozen=True)
class Lesson:
    """Who teaches in a phase."""

    teachers: Teachers
    val: Tensor | None
    """The logits (N, C) on the validation split that fidelity is measured against."""


def lesson(session: Session, task: Task, phase: Phase) -> Lesson:
    """Who teaches in ``phase``; the untaught are compared with the job's teachers all the same."""
    machine = session.machine
    teachers = teachers_of(task, phase, session.results, machine.device)
    if phase.teacher != "last":
        return Lesson(as_asked(session, task, phase, teachers), task.teacher_val)
    logits = teachers.logits(
        task.store.images("val"),
        device=machine.device,
        boundary=session.boundary,
        autocast=machine.autocast(),
    )
    return Lesson(as_asked(session, task, phase, teachers), teachers.mean(logits))


def teachers_of(
    task: Task, phase: Phase, results: Sequence[Result], device: torch.device
) -> Teachers:
    """The job's teachers, or the last network of ``results``, or nobody, as ``phase`` says."""
    if phase.teacher != "last":
        return task.teachers if phase.teacher else _NOBODY
    before = planner.last(results, phase.number)
    return Teachers((Frozen(frozen(task.trained(before), device), taps=before.student.taps),))
