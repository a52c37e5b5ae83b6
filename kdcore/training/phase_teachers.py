"""The teachers of a phase: which ones, in which precision, and their logits for fidelity."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from kdcore.models.inference import fuse_for_inference
from kdcore.models.normalized_model import NormalizedModel
from kdcore.models.programs.program_network import ProgramNetwork
from kdcore.models.teachers import FrozenTeacher, TeacherEnsemble, freeze
from kdcore.schema.training_config import TrainingConfig
from kdcore.schemes import planner
from kdcore.schemes.base import Phase, StudentResult
from kdcore.training.compute.autocast_policy import AutocastPolicy
from kdcore.training.compute.int8_teacher import MIN_AGREEMENT, QuantizedModel, quantize_teachers
from kdcore.training.context import JobContext
from kdcore.training.run_state import RunState

_NO_TEACHERS = TeacherEnsemble(())
_FEATURES = {"maps", "pooled"}


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


def convert_teachers(
    run_state: RunState,
    context: JobContext,
    phase: Phase,
    teachers: TeacherEnsemble,
    min_agreement: float = MIN_AGREEMENT,
) -> TeacherEnsemble:
    """The teachers as the phase runs them; none if no method of the phase uses a teacher.

    Teachers whose features a method needs stay as they are: hooks need the original modules.
    Raises ``UserError`` if the job requires int8 and a teacher cannot be quantized.
    """
    if not phase.uses_teacher:
        return _NO_TEACHERS
    teachers = quantize_teachers(run_state, context, phase, teachers, min_agreement)
    if _FEATURES & phase.needs:
        return teachers
    probe = context.probe(run_state.compute_env.device)
    return _convert_to_bfloat16(teachers, probe, context.job.training)


def _convert_to_bfloat16(
    teachers: TeacherEnsemble, probe: Tensor, training: TrainingConfig
) -> TeacherEnsemble:
    """The teachers in bfloat16 where the job allows and gains from it.

    Teachers in int8 and networks from files stay as they are.
    """
    if training.precision == "float32":
        return teachers
    return TeacherEnsemble(
        [
            replace(member, network=fuse_for_inference(member.network, probe))
            if not isinstance(member.network.network, QuantizedModel | ProgramNetwork)
            and (training.precision == "bfloat16" or _gains_from_bfloat16(member.network, probe))
            else member
            for member in teachers.members
        ]
    )


def _gains_from_bfloat16(teacher: NormalizedModel, probe: Tensor) -> bool:
    image = teacher.prepare(probe[:1])
    precision = AutocastPolicy().teacher_precision(
        image.device, teacher.network, image.shape[1], image.shape[2]
    )
    return precision == "bfloat16"
