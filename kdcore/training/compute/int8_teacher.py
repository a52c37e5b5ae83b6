"""Int8 teachers: static quantization, run by onnxruntime on the CPU.

Views of training images calibrate the quantized teacher. It is compared with the exact teacher on
validation images before it teaches.
"""

import copy
import hashlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from kdcore.data.loader import Loader
from kdcore.export import exported_program
from kdcore.export.exportable import calibration_images
from kdcore.export.exporter import first_line
from kdcore.models.normalized_model import NormalizedModel
from kdcore.models.predict_logits import predict
from kdcore.models.programs.program_network import ProgramNetwork
from kdcore.models.teachers import FrozenTeacher, TeacherEnsemble
from kdcore.runtime.errors import UserError
from kdcore.schemes.base import Phase
from kdcore.training.context import JobContext
from kdcore.training.run_state import RunState

MIN_AGREEMENT = 99.0
"""Smallest percentage of equal predictions with which ``auto`` uses the int8 teacher."""
_FEATURE_NEEDS = {"maps", "pooled"}
_MAX_IMAGES = 2000
"""Largest number of validation images for the comparison."""


class QuantizedModel(nn.Module):
    """An int8 network: takes and returns float32 on the CPU."""

    def __init__(self, onnx_bytes: bytes) -> None:
        import onnxruntime  # takes 0.2 s to load, and most jobs need none

        super().__init__()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3
        # Spinning threads would take the cores from torch's threads.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session: Any = onnxruntime.InferenceSession(
            onnx_bytes, options, providers=["CPUExecutionProvider"]
        )
        self._input = self._session.get_inputs()[0].name
        # Another version of onnxruntime has other kernels, so other outputs.
        digest_input = onnx_bytes + onnxruntime.__version__.encode()
        self.sha256 = hashlib.sha256(digest_input).hexdigest()

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, num_classes) of images (B, C, H, W)."""
        (logits,) = self._session.run(None, {self._input: images.contiguous().numpy()})
        return torch.from_numpy(logits)


def quantize_teachers(
    run_state: RunState,
    context: JobContext,
    phase: Phase,
    teachers: TeacherEnsemble,
    min_agreement: float = MIN_AGREEMENT,
) -> TeacherEnsemble:
    """Quantize the teachers of ``phase`` as ``training.teacher_precision`` requires.

    ``auto`` uses an int8 teacher only if it predicts the same class as the exact one for
    ``min_agreement`` percent of the validation images. Raises ``UserError`` if int8 is required
    and a teacher cannot be quantized.
    """
    training = context.job.training
    requested = training.teacher_precision
    # With a teacher cache each view is computed once, so `auto` has nothing to gain.
    if requested == "same" or (requested == "auto" and training.views != "fresh"):
        return teachers
    if not teachers.members:
        return teachers
    reason = _unsupported_reason(run_state, phase)
    if reason is not None:
        message = f"the teachers run with training.precision instead of int8: {reason}"
        run_state.events.log("info" if requested == "auto" else "warning", message)
        return teachers
    if requested == "int8":
        min_agreement = 0.0
    trial = _QuantizationTrial(run_state, context, phase, min_agreement)
    members = [trial.run(index, member) for index, member in enumerate(teachers.members)]
    return TeacherEnsemble(members)


def _unsupported_reason(run_state: RunState, phase: Phase) -> str | None:
    """Why no teacher of the phase can run in int8."""
    if run_state.compute_env.device.type != "cpu":
        return "int8 teachers run on the CPU only"
    for student_spec in phase.students:
        for method in student_spec.methods:
            if _FEATURE_NEEDS & set(method.needs):
                return f"{method.type} needs features, and an int8 teacher gives only logits"
    return None


class _QuantizationTrial:
    """Quantizes teachers, compares them with the exact ones, and reports the agreement."""

    def __init__(
        self, run_state: RunState, context: JobContext, phase: Phase, min_agreement: float
    ) -> None:
        self._run_state = run_state
        self._required = context.job.training.teacher_precision == "int8"
        self._min_agreement = min_agreement
        loader = context.build_loader(phase.seed, phase.students[0], run_state.compute_env.device)
        self._views = _calibration_views(loader)
        self._val_images = sample_evenly(context.dataset.images("val"), _MAX_IMAGES)

    def run(self, index: int, member: FrozenTeacher) -> FrozenTeacher:
        """The int8 version of the teacher ``member``, or the teacher itself if it disagrees."""
        run_state = self._run_state
        if isinstance(member.network.network, ProgramNetwork):
            run_state.events.log("info", "a teacher from a file runs as the file says, not in int8")
            return member
        try:
            network = quantize(member.network, self._views)
        except Exception as error:  # exporters raise arbitrary exceptions
            reason = f"the teacher cannot be quantized to int8: {first_line(error)}"
            if self._required:
                hint = "Set training.teacher_precision to same or auto."
                raise UserError("job_invalid", reason, hint=hint) from error
            run_state.events.log("info", reason)
            return member
        percent = agreement(member.network, network, self._val_images, run_state.check_cancelled)
        used = percent >= self._min_agreement
        run_state.record_quantized_teacher(
            {"teacher_index": index, "agreement": round(percent, 2), "quantized": used}
        )
        decision = "it is used" if used else f"below {self._min_agreement:g} %, it is not used"
        run_state.events.log(
            "info",
            f"the int8 teacher predicts the same class as the exact one for {percent:.2f} % of "
            f"{len(self._val_images)} validation images: {decision}",
        )
        if not used:
            return member
        return replace(member, network=network, identity=_identity(member, network))


def sample_evenly(images: Tensor, count: int) -> Tensor:
    """At most ``count`` of the images (N, C, H, W), evenly spaced: a split is sorted by class."""
    if len(images) <= count:
        return images
    return images[torch.arange(count) * len(images) // count]


def _calibration_views(loader: Loader) -> Tensor:
    """The first view of at most 256 training images, (B, C, H, W): the teacher's later input."""
    ids = calibration_images(torch.arange(loader.num_samples), 0)
    return loader.views(ids.numpy(), 1)


def quantize(teacher: NormalizedModel, views: Tensor) -> NormalizedModel:
    """The same model with an int8 network; ``views`` (B, C, H, W) calibrate it."""
    from kdcore.export import onnx, onnx_int8  # take a second to load

    images = teacher.prepare(views)
    channels, height, width = images.shape[1:]
    program = exported_program.export_program(teacher.network, (channels, height, width))
    onnx_bytes = onnx_int8.quantize(onnx.export_onnx(program, {}), images.contiguous())
    model = copy.deepcopy(teacher)
    model.network = QuantizedModel(onnx_bytes)
    return model.eval()


def agreement(
    exact: NormalizedModel,
    other: NormalizedModel,
    images: Tensor,
    check_cancelled: Callable[[], None],
) -> float:
    """Percentage of the uint8 ``images`` (N, C, H, W) with the same predicted class."""
    device = torch.device("cpu")
    exact_classes, other_classes = (
        predict(network, images, device=device, check_cancelled=check_cancelled).argmax(dim=1)
        for network in (exact, other)
    )
    return 100 * float((exact_classes == other_classes).double().mean())


def _identity(member: FrozenTeacher, network: NormalizedModel) -> str | None:
    """Digest of everything that decides the int8 teacher's outputs, for the teacher cache."""
    inner = network.network
    if member.identity is None or not isinstance(inner, QuantizedModel):
        return None
    return hashlib.sha256(f"{member.identity} {inner.sha256}".encode()).hexdigest()
