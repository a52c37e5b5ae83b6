"""Teachers that answer in eight bits: static quantization, run by onnxruntime on a processor.

Calibrated on views of training images, and compared with the exact teacher before it teaches.
"""

import copy
import hashlib
from collections.abc import Callable, Sequence
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
from kdcore.models.teachers import FrozenTeacher, TeacherEnsemble
from kdcore.runtime.errors import UserError
from kdcore.schema.methods import METHODS
from kdcore.schemes.base import Phase
from kdcore.training.context import JobContext
from kdcore.training.run_state import RunState

MIN_AGREEMENT = 99.0
"""Percent of validation images on which `auto` wants the same class from both."""
_FEATURE_NEEDS = {"maps", "pooled"}
_MAX_IMAGES = 2000
"""That the two are compared on."""


class QuantizedModel(nn.Module):
    """A quantized network: takes and returns float32 on the CPU."""

    def __init__(self, onnx_bytes: bytes) -> None:
        import onnxruntime  # a fifth of a second, for those who ask for it

        super().__init__()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3
        # Its threads would otherwise wait busily where torch's want to work.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session: Any = onnxruntime.InferenceSession(
            onnx_bytes, options, providers=["CPUExecutionProvider"]
        )
        self._input = self._session.get_inputs()[0].name
        # Another version has other kernels.
        digest_input = onnx_bytes + onnxruntime.__version__.encode()
        self.sha256 = hashlib.sha256(digest_input).hexdigest()

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, num_classes) of images (B, C, H, W)."""
        (logits,) = self._session.run(None, {self._input: images.contiguous().numpy()})
        return torch.from_numpy(logits)


def apply_teacher_precision(
    run_state: RunState, context: JobContext, phase: Phase, teachers: TeacherEnsemble
) -> TeacherEnsemble:
    """The ``teachers`` of a phase as the recipe's ``teacher_precision`` wants them.

    Raises ``UserFault`` where eight bits are asked for and a teacher cannot have them.
    """
    training = context.job.training
    requested = training.teacher_precision
    # Kept answers cost their asking once: there `auto` has nothing to win.
    if requested == "same" or (requested == "auto" and training.views != "fresh"):
        return teachers
    methods = [method.type for student_spec in phase.students for method in student_spec.methods]
    if not teachers.members or set(methods) <= {"supervised"}:
        return teachers  # nobody is asked
    reason = _unsupported_reason(run_state, methods)
    if reason is not None:
        message = f"{reason}, so the teacher answers as training.precision says, not in eight bits"
        run_state.events.log("info" if requested == "auto" else "warning", message)
        return teachers
    val_images = sample_evenly(context.dataset.images("val"), _MAX_IMAGES)
    loader = context.build_loader(phase.seed, phase.students[0], run_state.compute_env.device)
    return TeacherEnsemble(
        [
            _quantize_teacher(
                run_state, (index, member), loader, val_images, forced=requested == "int8"
            )
            for index, member in enumerate(teachers.members)
        ]
    )


def sample_evenly(images: Tensor, count: int) -> Tensor:
    """At most ``count`` of the images (N, C, H, W), evenly: a split is sorted by class."""
    if len(images) <= count:
        return images
    return images[torch.arange(count) * len(images) // count]


def _unsupported_reason(run_state: RunState, methods: Sequence[str]) -> str | None:
    """Why no teacher of these methods can answer in eight bits."""
    if run_state.compute_env.device.type != "cpu":
        return "eight bits are for processors"
    feature_methods = [name for name in methods if _FEATURE_NEEDS & set(METHODS[name].needs)]
    return f"{feature_methods[0]} looks inside the teacher" if feature_methods else None


def _quantize_teacher(
    run_state: RunState,
    indexed_teacher: tuple[int, FrozenTeacher],
    loader: Loader,
    val_images: Tensor,
    *,
    forced: bool,
) -> FrozenTeacher:
    """A teacher, ``which`` has its place, in eight bits, or as it is where it answers otherwise."""
    index, member = indexed_teacher
    try:
        network = quantize(member.network, _calibration_views(loader))
    except Exception as error:  # exporters raise whatever a network provokes
        reason = f"the teacher cannot be made to answer in eight bits: {first_line(error)}"
        if forced:
            hint = "Set training.teacher_precision to same or auto."
            raise UserError("job_invalid", reason, hint=hint) from error
        run_state.events.log("info", reason)
        return member
    percent = agreement(member.network, network, val_images, run_state.check_cancelled)
    used = forced or percent >= MIN_AGREEMENT
    trial = {"teacher_index": index, "agreement": round(percent, 2), "quantized": used}
    if trial not in run_state.teacher_cache_stats.quantized_teachers:  # another seed finds the same
        run_state.teacher_cache_stats.quantized_teachers.append(trial)
    run_state.events.log(
        "info",
        f"in eight bits the teacher names the same class for {percent:.2f} % of "
        f"{len(val_images)} validation images: "
        + ("it teaches so" if used else f"below {MIN_AGREEMENT:g} %, it teaches as it is"),
    )
    return replace(member, network=network, identity=_identity(member, network)) if used else member


def _calibration_views(loader: Loader) -> Tensor:
    """Of at most 256 images their first view: what the teacher will be shown."""
    ids = calibration_images(torch.arange(loader.num_samples), 0)
    return loader.views(ids.numpy(), 1)


def quantize(teacher: NormalizedModel, views: Tensor) -> NormalizedModel:
    """The same network in eight bits behind the same input; ``views`` (B, C, H, W) calibrate it."""
    from kdcore.export import onnx, onnx_int8  # they take a second to load

    images = teacher.prepare(views)
    channels, height, width = images.shape[1:]
    traced = exported_program.export_program(teacher.network, (channels, height, width))
    onnx_bytes = onnx_int8.quantize(onnx.export_onnx(traced, {}), images.contiguous())
    model = copy.deepcopy(teacher)
    model.network = QuantizedModel(onnx_bytes)
    return model.eval()


def agreement(
    exact: NormalizedModel,
    other: NormalizedModel,
    images: Tensor,
    check_cancelled: Callable[[], None],
) -> float:
    """Percent of uint8 ``images`` (N, C, H, W) for which both name the same class."""
    device = torch.device("cpu")
    exact_classes, other_classes = (
        predict(network, images, device=device, check_cancelled=check_cancelled).argmax(dim=1)
        for network in (exact, other)
    )
    return 100 * float((exact_classes == other_classes).double().mean())


def _identity(member: FrozenTeacher, network: NormalizedModel) -> str | None:
    """Of what it answers now, for those who keep answers."""
    inner = network.network
    if member.identity is None or not isinstance(inner, QuantizedModel):
        return None
    return hashlib.sha256(f"{member.identity} {inner.sha256}".encode()).hexdigest()
