"""From the host to the device without waiting for it."""

from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

_RESIDENT_SHARE = 0.25
"""What takes at most this share of the accelerator's free memory is kept there whole."""


def array_to_device(array: NDArray[Any], device: torch.device) -> Tensor:
    """The same numbers on ``device``.

    An accelerator copies from pinned memory while the host goes on; a copy from pageable memory
    would make the host wait until everything queued before it is done.
    """
    return to_device(torch.from_numpy(array), device)


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """The same for a tensor that may be on the device already."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def to_device_if_fits(tensor: Tensor, device: torch.device) -> Tensor:
    """``tensor`` moved to an accelerator that has room for it, else where it is."""
    if device.type != "cuda":
        return tensor
    free, _ = torch.cuda.mem_get_info(device)
    return tensor.to(device) if tensor.nbytes <= _RESIDENT_SHARE * free else tensor
