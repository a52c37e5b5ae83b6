"""The frozen teachers of a run, seen as one."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from kdcore.errors import UserFault
from kdcore.files import sha256_of
from kdcore.methods.base import Outputs
from kdcore.methods.ensemble import mean_logits
from kdcore.models import build
from kdcore.models.preprocess import Normalised
from kdcore.spec.events import ErrorCode
from kdcore.spec.protocol import ModelFile, TeacherFile


class Teachers:
    """Networks in eval mode that never get a gradient. ``digest`` tells whether they changed."""

    def __init__(self, files: Sequence[TeacherFile], device: torch.device) -> None:
        self.files = tuple(files)
        self.weights = tuple(file.weight for file in files)
        self.networks = [_frozen(open_model(f, "teacher_load_failed"), f, device) for f in files]

    def __call__(self, views: Tensor, autocast: torch.autocast) -> list[Outputs]:
        """What each teacher gives for ``views`` (B, C, H, W), without gradients."""
        with torch.no_grad(), autocast:
            return [Outputs(network(views)) for network in self.networks]

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


def open_model(file: ModelFile, code: ErrorCode) -> nn.Module:
    """The network of a verified file, float32 on the CPU. Raises ``UserFault`` with ``code``."""
    path = Path(file.path)
    if not path.is_file():
        raise UserFault(code, f"the weights of {file.architecture} are not there: {path.name}")
    if sha256_of(path) != file.sha256:
        raise UserFault(
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
        raise UserFault(code, f"{path.name} does not fit {file.architecture}: {error}") from error
    return network


def _frozen(network: nn.Module, file: TeacherFile, device: torch.device) -> Normalised:
    normalised = Normalised(network, file.normalisation, file.input_size)
    normalised.requires_grad_(requires_grad=False).eval()
    return normalised.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]
