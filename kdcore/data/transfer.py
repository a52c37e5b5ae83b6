"""Copy arrays from the host to the device without waiting for the copy."""

from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

_RESIDENT_SHARE = 0.25
"""Largest share of the accelerator's free memory for data that stays on it."""


def array_to_device(array: NDArray[Any], device: torch.device) -> Tensor:
    """Copy ``array`` to ``device``.

    An accelerator copies from pinned memory while the host continues; a copy from pageable memory
    would make the host wait for all queued work.
    """
    return to_device(torch.from_numpy(array), device)


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy ``tensor`` to ``device`` like :func:`array_to_device`, unless it is there already."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def to_device_if_fits(tensor: Tensor, device: torch.device) -> Tensor:
    """Move ``tensor`` to an accelerator with enough free memory; else return it unchanged."""
    if device.type != "cuda":
        return tensor
    free, _ = torch.cuda.mem_get_info(device)
    return tensor.to(device) if tensor.nbytes <= _RESIDENT_SHARE * free else tensor
