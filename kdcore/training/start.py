"""A learner before its first step."""

import torch

from kdcore.methods.base import DataFacts, Outputs
from kdcore.methods.objective import Objective
from kdcore.methods.registry import create
from kdcore.schemes.base import Phase
from kdcore.training.device import Machine
from kdcore.training.learner import Learner
from kdcore.training.task import Task

_PROBE = 2
"""Images that tell the methods the shapes of both networks' outputs."""


def begin(task: Task, phase: Phase, machine: Machine) -> Learner:
    """The learner of ``phase``: fresh or given weights, adapters built, optimizer empty."""
    student = task.student(phase.seed).to(machine.device)
    teachers = task.teachers
    objective = Objective(
        [create(method) for method in phase.methods],
        phase.label_weight,
        teachers.weights,
        task.job.training.epochs,
    )
    targets = task.store.targets("train")
    facts = DataFacts(len(targets), len(task.store.info.classes), targets)
    probe = task.store.images("train")[:_PROBE].to(machine.device)
    seen = teachers(probe, machine.autocast()) if objective.taught else []
    with torch.no_grad():
        # In eval mode, so that the probe leaves no trace in running statistics.
        outputs = Outputs(student.eval()(probe))
    objective.build(outputs, seen, facts)
    return Learner(student, objective, teachers, task.job.training, machine)
