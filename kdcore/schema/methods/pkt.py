"""Parameters of the method ``pkt``."""

from typing import Literal

from kdcore.schema.methods.base import MethodParams, Weight


class PKT(MethodParams):
    """Probabilistic knowledge transfer: the student matches the teacher's neighbor probabilities.

    Choose it for embeddings and retrieval. The cosine similarities of a sample to the batch, scaled
    to sum to 1, are its neighbor probabilities. It trains no adapters.
    """

    group = "relations"
    needs = ("pooled",)
    paper = "https://arxiv.org/abs/1803.10837"
    when_to_use = "For embeddings and retrieval; trains no adapters."
    formula = "mean over pairs of p_t · log(p_t / p_s), p = (cos + 1) / 2 with rows of sum 1"
    min_batch = 2
    one_teacher = True
    target_share = 0.1
    """0.5 and more end below labels alone: its gradient lies across theirs."""

    type: Literal["pkt"]
    weight: Weight = 30000.0
