"""Write weights as safetensors files, whose bytes depend on the weights alone."""

from pathlib import Path

import torch
from safetensors.torch import save, save_file
from torch import Tensor

from kdcore.runtime.atomic_files import atomic_write
from kdcore.runtime.event_writer import EventWriter
from kdcore.schema.asset_info import ModelInfo

_TOLERANCE = 1e-4
"""Largest permitted difference of a logit, relative to the largest logit."""


class ParityError(Exception):
    """The logits of an exported file differ from those of its network."""


def encode_safetensors(state_dict: dict[str, Tensor]) -> bytes:
    """Encode a state dict as safetensors: sorted, contiguous, floats as float32, no metadata."""
    return save({name: _to_plain_tensor(state_dict[name]) for name in sorted(state_dict)})


def write_safetensors(path: Path, state_dict: dict[str, Tensor]) -> None:
    """Write :func:`encode_safetensors` of ``state_dict`` to ``path`` by atomic rename."""
    data = encode_safetensors(state_dict)
    with atomic_write(path) as partial:
        partial.write_bytes(data)


def write_model(
    tensors: dict[str, Tensor], info: ModelInfo, workdir: Path, events: EventWriter
) -> None:
    """Write ``tensors`` to ``artifacts/model.safetensors`` and emit the artifact and the report."""
    events.phase("write")
    path = workdir / "artifacts" / "model.safetensors"
    with atomic_write(path) as partial:
        save_file(tensors, partial)
    events.artifact(path, path.name, "safetensors", "application/octet-stream")
    events.report(info.model_dump(mode="json"))


def check_parity(student: Tensor, exported: Tensor) -> float:
    """Return the largest difference of two logits (N, C), relative to the largest logit.

    Raises :class:`ParityError` if it is more than 1e-4 or not a number.
    """
    max_difference = float((student - exported).abs().max() / student.abs().max().clamp_min(1e-12))
    if not max_difference <= _TOLERANCE:
        raise ParityError(
            f"the exported file's logits differ by {max_difference:.2g} of the largest; "
            "it is not published"
        )
    return max_difference


def _to_plain_tensor(tensor: Tensor) -> Tensor:
    floating = tensor.is_floating_point()
    plain = tensor.detach().cpu().to(torch.float32 if floating else tensor.dtype)
    return plain.contiguous().clone(memory_format=torch.contiguous_format)
