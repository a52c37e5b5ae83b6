"""Teachers that answer in eight bits: static quantisation, run by onnxruntime on a processor.

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
from kdcore.export.exporter import brief
from kdcore.models.normalized_model import Normalised
from kdcore.models.predict_logits import predict
from kdcore.models.teachers import Frozen, Teachers
from kdcore.runtime.errors import UserFault
from kdcore.schema.methods import METHODS
from kdcore.schemes.base import Phase
from kdcore.training.context import Task
from kdcore.training.run_state import Session

LEAST_AGREEMENT = 99.0
"""Percent of validation images on which `auto` wants the same class from both."""
_INSIDE = {"maps", "pooled"}
_MOST_IMAGES = 2000
"""That the two are compared on."""


class InEightBits(nn.Module):
    """A quantised network: takes and returns float32 on the CPU."""

    def __init__(self, encoded: bytes) -> None:
        import onnxruntime  # a fifth of a second, for those who ask for it

        super().__init__()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3
        # Its threads would otherwise wait busily where torch's want to work.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session: Any = onnxruntime.InferenceSession(
            encoded, options, providers=["CPUExecutionProvider"]
        )
        self._input = self._session.get_inputs()[0].name
        # Another version has other kernels.
        decides = encoded + onnxruntime.__version__.encode()
        self.sha256 = hashlib.sha256(decides).hexdigest()

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, num_classes) of images (B, C, H, W)."""
        (logits,) = self._session.run(None, {self._input: images.contiguous().numpy()})
        return torch.from_numpy(logits)


def as_asked(session: Session, task: Task, phase: Phase, teachers: Teachers) -> Teachers:
    """The ``teachers`` of a phase as the recipe's ``teacher_precision`` wants them.

    Raises ``UserFault`` where eight bits are asked for and a teacher cannot have them.
    """
    recipe = task.job.training
    asked = recipe.teacher_precision
    # Kept answers cost their asking once: there `auto` has nothing to win.
    if asked == "same" or (asked == "auto" and recipe.views != "fresh"):
        return teachers
    methods = [method.type for pupil in phase.pupils for method in pupil.methods]
    if not teachers.members or set(methods) <= {"supervised"}:
        return teachers  # nobody is asked
    against = _against(session, methods)
    if against is not None:
        told = f"{against}, so the teacher answers as training.precision says, not in eight bits"
        session.events.log("info" if asked == "auto" else "warning", told)
        return teachers
    compared = spread(task.store.images("val"), _MOST_IMAGES)
    loader = task.loader(phase.seed, phase.pupils[0], session.machine.device)
    return Teachers(
        [
            _chosen(session, (place, member), loader, compared, always=asked == "int8")
            for place, member in enumerate(teachers.members)
        ]
    )


def spread(images: Tensor, count: int) -> Tensor:
    """At most ``count`` of the images (N, C, H, W), evenly: a split is sorted by class."""
    if len(images) <= count:
        return images
    return images[torch.arange(count) * len(images) // count]


def _against(session: Session, methods: Sequence[str]) -> str | None:
    """Why no teacher of these methods can answer in eight bits."""
    if session.machine.device.type != "cpu":
        return "eight bits are for processors"
    inside = [name for name in methods if _INSIDE & set(METHODS[name].needs)]
    return f"{inside[0]} looks inside the teacher" if inside else None


def _chosen(
    session: Session, which: tuple[int, Frozen], loader: Loader, val: Tensor, *, always: bool
) -> Frozen:
    """A teacher, ``which`` has its place, in eight bits, or as it is where it answers otherwise."""
    place, member = which
    try:
        network = quantised(member.network, _views(loader))
    except Exception as error:  # exporters raise whatever a network provokes
        reason = f"the teacher cannot be made to answer in eight bits: {brief(error)}"
        if always:
            hint = "Set training.teacher_precision to same or auto."
            raise UserFault("recipe_invalid", reason, hint=hint) from error
        session.events.log("info", reason)
        return member
    found = agreement(member.network, network, val, session.boundary)
    used = always or found >= LEAST_AGREEMENT
    tried = {"teacher": place, "agreement": round(found, 2), "used": used}
    if tried not in session.tally.eight_bits:  # another seed finds the same
        session.tally.eight_bits.append(tried)
    session.events.log(
        "info",
        f"in eight bits the teacher names the same class for {found:.2f} % of "
        f"{len(val)} validation images: "
        + ("it teaches so" if used else f"below {LEAST_AGREEMENT:g} %, it teaches as it is"),
    )
    return replace(member, network=network, identity=_identity(member, network)) if used else member


def _views(loader: Loader) -> Tensor:
    """Of at most 256 images their first view: what the teacher will be shown."""
    ids = calibration_images(torch.arange(loader.num_samples), 0)
    return loader.pictures(ids.numpy(), 1)


def quantised(teacher: Normalised, views: Tensor) -> Normalised:
    """The same network in eight bits behind the same input; ``views`` (B, C, H, W) calibrate it."""
    from kdcore.export import onnx, onnx_int8  # they take a second to load

    images = teacher.prepare(views)
    channels, height, width = images.shape[1:]
    traced = exported_program.trace(teacher.network, (channels, height, width))
    encoded = onnx_int8.encoded(onnx.encoded(traced, {}), images.contiguous())
    copied = copy.deepcopy(teacher)
    copied.network = InEightBits(encoded)
    return copied.eval()


def agreement(
    exact: Normalised, other: Normalised, images: Tensor, boundary: Callable[[], None]
) -> float:
    """Percent of uint8 ``images`` (N, C, H, W) for which both name the same class."""
    device = torch.device("cpu")
    ours, theirs = (
        predict(network, images, device=device, boundary=boundary).argmax(dim=1)
        for network in (exact, other)
    )
    return 100 * float((ours == theirs).double().mean())


def _identity(member: Frozen, network: Normalised) -> str | None:
    """Of what it answers now, for those who keep answers."""
    inner = network.network
    if member.identity is None or not isinstance(inner, InEightBits):
        return None
    return hashlib.sha256(f"{member.identity} {inner.sha256}".encode()).hexdigest()
