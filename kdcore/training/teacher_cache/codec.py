"""What is kept of a teacher's outputs for one sample, and outputs made of it again.

Logits and pooled features are kept in float16. Of many classes the largest logits can be kept
alone, with the logarithm of the sum of the other exponentials, so that the temperature stays free:
the others share it evenly, as Shen & Xing do with soft labels (https://arxiv.org/abs/2112.01528).
The sum of all would be no use: a rounded logit of a sure answer alone is larger.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from kdcore.methods.base import Outputs


class OutputCodec(NamedTuple):
    """Which outputs, and of how many classes the logits: fewer than there are, or all."""

    num_classes: int = 0
    top_k: int | None = None
    pooled: bool = False

    def encode(self, outputs: Outputs) -> dict[str, Tensor]:
        """To be kept of ``outputs`` of B samples: rows (B, …) on the CPU, by name."""
        logits = outputs.logits.float()
        if self.top_k is None:
            tensors = {"logits": logits.half()}
        else:
            values, classes = logits.topk(self.top_k, dim=1)
            rest = logits.scatter(1, classes, -torch.inf).logsumexp(dim=1)
            tensors = {"logits": values.half(), "classes": classes.int(), "rest": rest}
        if self.pooled:
            if outputs.pooled is None:
                raise ValueError("the teacher was not asked for its pooled features")
            tensors["pooled"] = outputs.pooled.half()
        return {name: tensor.cpu() for name, tensor in tensors.items()}

    def decode(self, tensors: dict[str, Tensor]) -> Outputs:
        """What :meth:`rows` kept of B samples, float32; logits that were not kept are even."""
        logits = tensors["logits"].float()
        if "classes" in tensors:
            logits = _expand_top_k(
                logits, tensors["classes"].long(), tensors["rest"], self.num_classes
            )
        pooled = tensors.get("pooled")
        return Outputs(logits, None if pooled is None else pooled.float())


def _expand_top_k(logits: Tensor, classes: Tensor, rest: Tensor, num_classes: int) -> Tensor:
    """(B, C) from the largest ``logits`` (B, k) of ``classes`` (B, k), and ``rest`` (B,)."""
    others = rest - math.log(num_classes - logits.shape[1])
    # Rounding must not lift the others above what is known to be larger.
    others = torch.minimum(others, logits[:, -1])
    return others[:, None].repeat(1, num_classes).scatter_(1, classes, logits)
