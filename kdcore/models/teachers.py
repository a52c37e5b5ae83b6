"""The frozen teachers of a phase, seen as one."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from kdcore.methods.common.teacher_ensemble import mean_logits
from kdcore.models import build
from kdcore.models.normalized_model import NormalizedModel
from kdcore.models.predict_logits import predict
from kdcore.protocol.events import ErrorCode
from kdcore.protocol.requests import ModelFile, TeacherFile
from kdcore.runtime.errors import UserError
from kdcore.runtime.files import sha256_of


@dataclass(frozen=True)
class FrozenTeacher:
    """One teacher: in eval mode, without gradients."""

    network: NormalizedModel
    weight: float = 1.0
    taps: tuple[str, ...] | None = None
    """Module paths that the job names; None finds them."""
    identity: str | None = None
    """Of a network from a file: a digest of all that decides its answers."""


class TeacherEnsemble:
    """Networks that never get a gradient. ``digest`` tells whether they changed."""

    def __init__(self, members: Sequence[FrozenTeacher]) -> None:
        self.members = tuple(members)
        self.weights = tuple(member.weight for member in members)
        self.networks = [member.network for member in members]

    @classmethod
    def from_files(cls, files: Sequence[TeacherFile], device: torch.device) -> "TeacherEnsemble":
        """The job's teachers from their verified files."""
        return cls([_load_teacher(file, device) for file in files])

    def logits(
        self,
        images: Tensor,
        *,
        device: torch.device,
        check_cancelled: Callable[[], None],
        autocast: torch.autocast | None = None,
    ) -> list[Tensor]:
        """Each teacher's logits (N, C) of uint8 ``images`` (N, C, H, W), float32 on the CPU."""
        return [
            predict(
                network, images, device=device, check_cancelled=check_cancelled, autocast=autocast
            )
            for network in self.networks
        ]

    def mean(self, logits: Sequence[Tensor]) -> Tensor:
        """The weighted mean of the teachers' probabilities, as logits (N, C)."""
        return mean_logits(logits, self.weights, 1.0) if len(logits) > 1 else logits[0]

    def digest(self) -> str:
        """Of every parameter and buffer: equal before and after a run."""
        digest = hashlib.sha256()
        for network in self.networks:
            for name, tensor in sorted(network.state_dict().items()):
                digest.update(name.encode())
                digest.update(tensor.cpu().contiguous().view(-1).view(torch.uint8).numpy())
        return digest.hexdigest()


def freeze(network: NormalizedModel, device: torch.device) -> NormalizedModel:
    """The same network, without gradients and in eval mode, on ``device``."""
    network.requires_grad_(requires_grad=False).eval()
    return network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def load_model(file: ModelFile, code: ErrorCode) -> nn.Module:
    """The network of a verified file, float32 on the CPU. Raises ``UserFault`` with ``code``."""
    path = Path(file.path)
    if not path.is_file():
        raise UserError(code, f"the weights of {file.architecture} are not there: {path.name}")
    if sha256_of(path) != file.sha256:
        raise UserError(
            code,
            f"the weights of {file.architecture} are not the ones that were verified: {path.name} "
            "has another digest",
            hint="Upload the model again.",
        )
    network = build(
        file.architecture,
        num_classes=file.num_classes,
        in_channels=file.in_channels,
        input_size=file.input_size,
    )
    try:
        network.load_state_dict(load_file(path), strict=True)
    except (SafetensorError, RuntimeError) as error:
        raise UserError(code, f"{path.name} does not fit {file.architecture}: {error}") from error
    return network


def _load_teacher(file: TeacherFile, device: torch.device) -> FrozenTeacher:
    network = NormalizedModel(
        load_model(file, "teacher_load_failed"),
        file.normalization,
        file.input_size,
        file.channels,
        file.class_map,
    )
    identity_json = file.model_dump_json(exclude={"path", "weight", "taps"})
    identity = hashlib.sha256(identity_json.encode()).hexdigest()
    return FrozenTeacher(freeze(network, device), file.weight, file.taps, identity)
