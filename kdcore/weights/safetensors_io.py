"""The student as a safetensors file whose bytes are a function of its weights alone."""

from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor

from kdcore.runtime.files import atomic_write

_TOLERANCE = 1e-4
"""Largest difference of a logit, relative to the largest logit."""


class ParityError(Exception):
    """An exported file does not answer like the student that it was made from: a bug of ours."""


def encode_safetensors(state_dict: dict[str, Tensor]) -> bytes:
    """A state dict as safetensors: sorted, contiguous, floats as float32, no metadata."""
    return save({name: _to_plain_tensor(state_dict[name]) for name in sorted(state_dict)})


def write_safetensors(path: Path, state_dict: dict[str, Tensor]) -> None:
    """Write :func:`encoded` by atomic rename."""
    data = encode_safetensors(state_dict)
    with atomic_write(path) as partial:
        partial.write_bytes(data)


def check_parity(student: Tensor, exported: Tensor) -> float:
    """Largest difference of a logit (N, C), relative to the largest logit of the same real images.

    Raises :class:`ParityError` unless it is within 1e-4.
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
