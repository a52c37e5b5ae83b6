"""Encode teacher outputs for a cache file, and decode them.

Logits and pooled features are stored in float16, or in float32 where a value passes float16's range
of 65504. With many classes only the largest logits are
stored, together with the logarithm of the sum of the other exponentials, so that a training can
choose any temperature. Decoding spreads this rest evenly over the other classes, as Shen & Xing do
with soft labels (https://arxiv.org/abs/2112.01528). The logarithm of the sum of all exponentials
would not do: for a confident prediction a rounded logit can exceed it.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from kdcore.methods.base import Outputs


class OutputCodec(NamedTuple):
    """What a cache file stores of the outputs: logits, all or the largest, and pooled features.

    The names of the fields are part of every cache key, so they must not change.
    """

    num_classes: int = 0
    top_k: int | None = None
    """Number of the largest logits to store; None stores all."""
    pooled: bool = False

    def encode(self, outputs: Outputs) -> dict[str, Tensor]:
        """Tensors (B, …) on the CPU, by name, for the outputs of B samples.

        Raises ``ValueError`` if pooled features are required and ``outputs`` has none.
        """
        logits = outputs.logits.float()
        if self.top_k is None:
            tensors = {"logits": _compress(logits)}
        else:
            values, classes = logits.topk(self.top_k, dim=1)
            rest = logits.scatter(1, classes, -torch.inf).logsumexp(dim=1)
            tensors = {"logits": _compress(values), "classes": classes.int(), "rest": rest}
        if self.pooled:
            if outputs.pooled is None:
                raise ValueError("the outputs to encode have no pooled features")
            tensors["pooled"] = _compress(outputs.pooled)
        return {name: tensor.cpu() for name, tensor in tensors.items()}

    def decode(self, tensors: dict[str, Tensor]) -> Outputs:
        """Outputs in float32 from the encoded tensors of B samples."""
        logits = tensors["logits"].float()
        if "classes" in tensors:
            logits = _expand_top_k(
                logits, tensors["classes"].long(), tensors["rest"], self.num_classes
            )
        pooled = tensors.get("pooled")
        return Outputs(logits, None if pooled is None else pooled.float())


def _compress(values: Tensor) -> Tensor:
    """The values in float16; in float32 if float16 would turn a finite one into an infinity."""
    half = values.half()
    overflows = half.isinf() & values.isfinite()
    return values.float() if bool(overflows.any()) else half


def exceeds_half(tensors: dict[str, Tensor]) -> bool:
    """Whether outputs are stored in float32 because they pass float16's range."""
    return any(
        tensors[name].dtype == torch.float32 for name in ("logits", "pooled") if name in tensors
    )


def has_overflowed(tensors: dict[str, Tensor]) -> bool:
    """Whether float16 outputs have infinities: version 0.1.0 stored outputs beyond its range so."""
    return any(
        bool(tensor.isinf().any()) for tensor in tensors.values() if tensor.dtype == torch.float16
    )


def _expand_top_k(logits: Tensor, classes: Tensor, rest: Tensor, num_classes: int) -> Tensor:
    """(B, C) from the largest ``logits`` (B, k) of ``classes`` (B, k), and ``rest`` (B,)."""
    others = rest - math.log(num_classes - logits.shape[1])
    # Rounding must not lift the other logits above the smallest stored one.
    others = torch.minimum(others, logits[:, -1])
    return others[:, None].repeat(1, num_classes).scatter_(1, classes, logits)
