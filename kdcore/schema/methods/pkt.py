"""Parameters of the method ``pkt``."""

from typing import Literal

from kdcore.schema.methods.base import MethodParams, Weight


class PKT(MethodParams):
    """Probabilistic knowledge transfer: each sample's neighbors are as probable as the teacher's.

    Choose it for embeddings and retrieval: cosine similarities, made a distribution over the batch,
    are compared; it has nothing to train.
    """

    group = "relations"
    needs = ("pooled",)
    paper = "https://arxiv.org/abs/1803.10837"
    when_to_use = "For embeddings and retrieval; nothing to train."
    formula = "mean over pairs of p_t · log(p_t / p_s), p = (cos + 1) / 2 with rows of sum 1"
    min_batch = 2
    one_teacher = True

    type: Literal["pkt"]
    weight: Weight = 30000.0
