"""The frozen teachers of a phase, as one ensemble."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from kdcore.methods.common.teacher_ensemble import mean_logits
from kdcore.models.factory import build
from kdcore.models.normalized_model import NormalizedModel
from kdcore.models.predict_logits import predict
from kdcore.models.programs.load import load_program
from kdcore.models.programs.program_network import ProgramNetwork
from kdcore.protocol.events import ErrorCode
from kdcore.protocol.requests import DESCRIPTIVE_FIELDS, ModelFile, TeacherFile
from kdcore.runtime.atomic_files import sha256_of
from kdcore.runtime.errors import UserError
from kdcore.schema.catalog import PROGRAM_FORMATS
from kdcore.schema.old_spelling import old_spelling


@dataclass(frozen=True)
class FrozenTeacher:
    """A teacher in eval mode, without gradients."""

    network: NormalizedModel
    weight: float = 1.0
    taps: tuple[str, ...] | None = None
    """Paths of feature layers that the job names; None detects them."""
    identity: str | None = None
    """Digest of everything that determines its logits, for a network from a file."""


class TeacherEnsemble:
    """Teachers with weights. ``digest`` detects whether their parameters changed."""

    def __init__(self, members: Sequence[FrozenTeacher]) -> None:
        self.members = tuple(members)
        self.weights = tuple(member.weight for member in members)
        self.networks = [member.network for member in members]

    @classmethod
    def from_files(cls, files: Sequence[TeacherFile], device: torch.device) -> "TeacherEnsemble":
        """Load the job's teachers from their verified files."""
        return cls([_load_teacher(file, device) for file in files])

    def logits(
        self,
        images: Tensor,
        *,
        device: torch.device,
        check_cancelled: Callable[[], None],
        autocast: torch.autocast | None = None,
    ) -> list[Tensor]:
        """Return each teacher's logits (N, C) float32 on the CPU of uint8 ``images``."""
        return [
            predict(
                network, images, device=device, check_cancelled=check_cancelled, autocast=autocast
            )
            for network in self.networks
        ]

    def mean(self, logits: Sequence[Tensor]) -> Tensor:
        """Return the weighted mean of the teachers' probabilities, as logits (N, C)."""
        return mean_logits(logits, self.weights, 1.0) if len(logits) > 1 else logits[0]

    def digest(self) -> str:
        """Return the SHA-256 of all parameters and buffers."""
        digest = hashlib.sha256()
        for network in self.networks:
            for name, tensor in sorted(network.state_dict().items()):
                digest.update(name.encode())
                digest.update(tensor.cpu().contiguous().view(-1).view(torch.uint8).numpy())
        return digest.hexdigest()


def freeze(network: NormalizedModel, device: torch.device) -> NormalizedModel:
    """Move ``network`` to ``device``, in eval mode and without gradients."""
    network.requires_grad_(requires_grad=False).eval()
    # torch declares no overload with a memory format for keyword arguments alone.
    return network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def load_model(file: ModelFile, code: ErrorCode) -> nn.Module:
    """Load the network of a verified file, float32 on the CPU. Raises :class:`UserError`."""
    path = Path(file.path)
    if not path.is_file():
        raise UserError(code, f"the weights of {file.architecture} are missing: {path.name}")
    if sha256_of(path) != file.sha256:
        raise UserError(
            code,
            f"the weights of {file.architecture} changed after verification: {path.name} has "
            "another SHA-256",
            hint="provide the file of the model again",
        )
    if file.architecture in PROGRAM_FORMATS:
        return load_program(path, file.architecture, file.input_size)
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
    inner = load_model(file, "teacher_load_failed")
    network = NormalizedModel(
        inner,
        file.normalization,
        file.input_size,
        file.channels,
        file.class_map,
    )
    identity_json = file.model_dump_json(exclude={"path", "weight", "taps", *DESCRIPTIVE_FIELDS})
    # The field's former name: keys of stored teacher caches were hashed with it.
    identity_json = identity_json.replace('"normalization":', f'"{old_spelling("normalization")}":')
    if isinstance(inner, ProgramNetwork):
        identity_json += inner.identity
    identity = hashlib.sha256(identity_json.encode()).hexdigest()
    return FrozenTeacher(freeze(network, device), file.weight, file.taps, identity)
