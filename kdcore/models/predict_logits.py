"""Predict the logits of all images of a split."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

_BATCH = 256


def predict(
    network: nn.Module,
    images: Tensor,
    *,
    device: torch.device,
    check_cancelled: Callable[[], None],
    autocast: torch.autocast | None = None,
) -> Tensor:
    """Return logits (N, C) float32 on the CPU of uint8 ``images`` (N, C, H, W).

    Puts the network into eval mode. ``check_cancelled`` is called before every batch and may raise.
    Without ``autocast`` everything is float32.
    """
    network.eval()
    parts: list[Tensor] = []
    with torch.inference_mode():
        for start in range(0, len(images), _BATCH):
            check_cancelled()
            batch = (
                images[start : start + _BATCH]
                .to(device)
                .contiguous(memory_format=torch.channels_last)
            )
            if autocast is None:
                parts.append(network(batch).float())
                continue
            with autocast:
                logits = network(batch)
            parts.append(logits.float())
        return torch.cat(parts).cpu()
