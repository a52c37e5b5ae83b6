"""At which precision losses are computed."""

import torch
from torch import Tensor


def at_least_float32(x: Tensor) -> Tensor:
    """``x`` in float32 if it is of a half type; float32 and float64 stay as they are.

    Sums of exponentials lose most of their digits in half types, whatever autocast prefers.
    """
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
