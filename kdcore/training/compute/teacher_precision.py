"""Convert the teachers of a phase to the precision in which they run: int8, bfloat16 or float32."""

from dataclasses import replace

from torch import Tensor

from kdcore.models.inference import fuse_for_inference
from kdcore.models.normalized_model import NormalizedModel
from kdcore.models.teachers import TeacherEnsemble
from kdcore.schema.training import TrainingConfig
from kdcore.schemes.base import Phase
from kdcore.training.compute.autocast_policy import AutocastPolicy
from kdcore.training.compute.quantized_teacher import (
    MIN_AGREEMENT,
    QuantizedModel,
    quantize_teachers,
)
from kdcore.training.context import JobContext
from kdcore.training.run_state import RunState

_FEATURES = {"maps", "pooled"}


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
        return TeacherEnsemble(())
    teachers = quantize_teachers(run_state, context, phase, teachers, min_agreement)
    if _FEATURES & phase.needs:
        return teachers
    probe = context.probe(run_state.compute_env.device)
    return _convert_to_bfloat16(teachers, probe, context.job.training)


def _convert_to_bfloat16(
    teachers: TeacherEnsemble, probe: Tensor, training: TrainingConfig
) -> TeacherEnsemble:
    """The teachers in bfloat16 where the job allows and gains from it; int8 ones stay int8."""
    if training.precision == "float32":
        return teachers
    return TeacherEnsemble(
        [
            replace(member, network=fuse_for_inference(member.network, probe))
            if not isinstance(member.network.network, QuantizedModel)
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
