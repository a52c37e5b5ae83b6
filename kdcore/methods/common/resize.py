"""Resize feature maps with a deterministic backward pass.

The functions are matrix products, because the backward passes of torch's adaptive pooling and
interpolation are not deterministic on CUDA.
"""

import torch
from torch import Tensor
from torch.nn import functional

Size = tuple[int, int]


def size_of(x: Tensor) -> Size:
    """(H, W) of a map (B, C, H, W)."""
    return x.shape[2], x.shape[3]


def pool_to(x: Tensor, size: Size) -> Tensor:
    """Average-pool a map (B, C, H, W) to ``size``; equal to torch's adaptive_avg_pool2d."""
    (height, width), (to_height, to_width) = size_of(x), size
    if (height, width) == size:
        return x
    if height % to_height == 0 and width % to_width == 0:
        return functional.avg_pool2d(x, (height // to_height, width // to_width))
    return _averages(height, to_height, x) @ x @ _averages(width, to_width, x).T


def enlarge_to(x: Tensor, size: Size) -> Tensor:
    """Nearest neighbors of a map (B, C, H, W) at ``size``; equal to torch's interpolate."""
    (height, width), (to_height, to_width) = size_of(x), size
    if (height, width) == size:
        return x
    return _nearest(height, to_height, x) @ x @ _nearest(width, to_width, x).T


def same_size(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Both maps (B, C, H, W) at the smaller height and the smaller width of the two."""
    size = (min(a.shape[2], b.shape[2]), min(a.shape[3], b.shape[3]))
    return pool_to(a, size), pool_to(b, size)


def _averages(num_in: int, num_out: int, like: Tensor) -> Tensor:
    # (num_out, num_in): bin i is the mean of floor(i·in/out) up to ceil((i+1)·in/out).
    bins = torch.arange(num_out, device=like.device).unsqueeze(1)
    positions = torch.arange(num_in, device=like.device)
    first = bins * num_in // num_out
    end = -(-(bins + 1) * num_in // num_out)
    inside = ((positions >= first) & (positions < end)).to(like)
    return inside / inside.sum(dim=1, keepdim=True)


def _nearest(num_in: int, num_out: int, like: Tensor) -> Tensor:
    # (num_out, num_in): a single 1 in each row.
    source = torch.arange(num_out, device=like.device).unsqueeze(1) * num_in // num_out
    return (source == torch.arange(num_in, device=like.device)).to(like)
