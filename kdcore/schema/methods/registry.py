"""The catalog of methods: what each needs, when to choose it, and where it comes from."""

from typing import Literal

from kdcore.schema.base import FrozenModel
from kdcore.schema.methods import features, logits, relations
from kdcore.schema.methods.types import Need


class MethodEntry(FrozenModel):
    """One line of the catalog of methods."""

    params: type[FrozenModel]
    group: Literal["labels", "logits", "features", "relations"]
    needs: tuple[Need, ...]
    """What it takes of the networks' outputs and of the batch. ``target`` means a true label for
    every image, one and hard, except for ``supervised``, which takes what labels there are."""
    default_label_weight: float
    paper: str | None
    when_to_use: str
    """When to choose it."""
    formula: str
    """Its loss before it is weighted; s is the student, t the teacher."""
    min_batch: int = 1
    """Fewest images of a batch that it works on."""
    one_teacher: bool = False
    """Whether it refuses more than one."""
    min_maps: int = 0
    """Fewest pairs of feature maps."""


METHODS: dict[str, MethodEntry] = {
    "supervised": MethodEntry(
        params=logits.Supervised,
        group="labels",
        needs=("logits", "target"),
        default_label_weight=1.0,
        paper=None,
        when_to_use="To train a teacher, or a student to compare the distilled one with.",
        formula="cross-entropy with the labels",
    ),
    "kd": MethodEntry(
        params=logits.KD,
        group="logits",
        needs=("logits",),
        default_label_weight=0.1,
        paper="https://arxiv.org/abs/1503.02531",
        when_to_use="First, for any pair whose classes are the same.",
        formula="T² · mean_b KL(p_t ‖ p_s), p = softmax(z / T)",
    ),
    "logit_matching": MethodEntry(
        params=logits.LogitMatching,
        group="logits",
        needs=("logits",),
        default_label_weight=1.0,
        paper="https://papers.nips.cc/paper/5484-do-deep-nets-really-need-to-be-deep",
        when_to_use=(
            "When the scale of the logits matters, for instance when they are used as scores."
        ),
        formula="mean (z_s - z_t)²",
    ),
    "dkd": MethodEntry(
        params=logits.DKD,
        group="logits",
        needs=("logits", "target"),
        default_label_weight=1.0,
        paper="https://arxiv.org/abs/2203.08679",
        when_to_use=(
            "When the teacher is so sure of the true class that kd hardly shows the others."
        ),
        formula="T² · mean_b [alpha · KL(b_t ‖ b_s) + beta · KL(q_t ‖ q_s)], b = (p_y, 1 - p_y), "
        "q = softmax over the other classes",
    ),
    "dist": MethodEntry(
        params=logits.DIST,
        group="logits",
        needs=("logits",),
        default_label_weight=1.0,
        paper="https://arxiv.org/abs/2205.10536",
        when_to_use="When the teacher is much stronger than the student, and batches are large.",
        formula="T² · [beta · (1 - mean_b corr(p_s, p_t)) + gamma · (1 - mean_c corr(p_s, p_t))]",
        min_batch=2,
    ),
    "batch_logits": MethodEntry(
        params=logits.BatchLogits,
        group="logits",
        needs=("logits",),
        default_label_weight=1.0,
        paper="https://openaccess.thecvf.com/content/CVPR2023/html/"
        "Jin_Multi-Level_Logit_Distillation_CVPR_2023_paper.html",
        when_to_use=(
            "Beside kd, to learn which classes and samples of a batch the teacher finds alike."
        ),
        formula="‖PᵀP_t - PᵀP_s‖² / C and ‖PPᵀ_t - PPᵀ_s‖² / B, P the batch's probabilities",
    ),
    "fitnet": MethodEntry(
        params=features.FitNet,
        group="features",
        needs=("maps", "logits"),
        default_label_weight=1.0,
        paper="https://arxiv.org/abs/1412.6550",
        when_to_use="For a student that is thinner or deeper than its teacher.",
        formula="mean (r(f_s) - f_t)², r a learned convolution; then kd",
        one_teacher=True,
        min_maps=1,
    ),
    "attention": MethodEntry(
        params=features.Attention,
        group="features",
        needs=("maps",),
        default_label_weight=1.0,
        paper="https://arxiv.org/abs/1612.03928",
        when_to_use="For networks of like shape, whatever their channels; cheap, nothing to train.",
        formula="sum over maps of mean (q_s - q_t)², q = mean_c f² at unit length",
        one_teacher=True,
        min_maps=1,
    ),
    "factor_transfer": MethodEntry(
        params=features.FactorTransfer,
        group="features",
        needs=("maps",),
        default_label_weight=1.0,
        paper="https://arxiv.org/abs/1802.04977",
        when_to_use="When the teacher's last map is far wider than the student's.",
        formula="mean |F_s/‖F_s‖ - F_t/‖F_t‖|, F_t from an autoencoder that is trained first",
        one_teacher=True,
        min_maps=1,
    ),
    "fsp": MethodEntry(
        params=features.FSP,
        group="features",
        needs=("maps",),
        default_label_weight=1.0,
        paper="https://openaccess.thecvf.com/content_cvpr_2017/html/"
        "Yim_A_Gift_From_CVPR_2017_paper.html",
        when_to_use="When the student should solve the task by the teacher's steps.",
        formula="sum over pairs of maps of mean (G_s - G_t)², G = F_1 F_2ᵀ / (H·W)",
        one_teacher=True,
        min_maps=2,
    ),
    "nst": MethodEntry(
        params=features.NST,
        group="features",
        needs=("maps",),
        default_label_weight=1.0,
        paper="https://arxiv.org/abs/1707.01219",
        when_to_use="When channels of student and teacher do not correspond one to one.",
        formula="sum over maps of mean k(t,t) + mean k(s,s) - 2 mean k(s,t), k = (âᵀb̂)² of "
        "channels at unit length",
        one_teacher=True,
        min_maps=1,
    ),
    "vid": MethodEntry(
        params=features.VID,
        group="features",
        needs=("maps",),
        default_label_weight=1.0,
        paper="https://arxiv.org/abs/1904.05835",
        when_to_use="When parts of the teacher's maps are noise to the student.",
        formula="sum over maps of mean ½ [(m(f_s) - f_t)² / var + log var], var learned per "
        "channel",
        one_teacher=True,
        min_maps=1,
    ),
    "reviewkd": MethodEntry(
        params=features.ReviewKD,
        group="features",
        needs=("maps",),
        default_label_weight=1.0,
        paper="https://arxiv.org/abs/2104.09044",
        when_to_use="When accuracy counts more than training time, and the networks have stages.",
        formula="sum over maps of the mean squared error at full size and pooled to 4, 2 and 1 "
        "(weights 1, ½, ¼, ⅛, over their sum), the student's maps fused from deep to shallow",
        one_teacher=True,
        min_maps=1,
    ),
    "rkd": MethodEntry(
        params=relations.RKD,
        group="relations",
        needs=("pooled",),
        default_label_weight=1.0,
        paper="https://arxiv.org/abs/1904.05068",
        when_to_use="For embeddings, in which only the arrangement of the samples counts.",
        formula="smooth-L1 of distances (over their mean) and of cosines of triplets",
        min_batch=2,
        one_teacher=True,
    ),
    "similarity": MethodEntry(
        params=relations.Similarity,
        group="relations",
        needs=("maps",),
        default_label_weight=1.0,
        paper="https://arxiv.org/abs/1907.09682",
        when_to_use="When the maps of the two networks have nothing in common but the samples.",
        formula="‖Ĝ_s - Ĝ_t‖² / B², Ĝ = F Fᵀ with rows of unit length",
        min_batch=2,
        one_teacher=True,
        min_maps=1,
    ),
    "pkt": MethodEntry(
        params=relations.PKT,
        group="relations",
        needs=("pooled",),
        default_label_weight=1.0,
        paper="https://arxiv.org/abs/1803.10837",
        when_to_use="For embeddings and retrieval; nothing to train.",
        formula="mean over pairs of p_t · log(p_t / p_s), p = (cos + 1) / 2 with rows of sum 1",
        min_batch=2,
        one_teacher=True,
    ),
    "correlation": MethodEntry(
        params=relations.Correlation,
        group="relations",
        needs=("pooled",),
        default_label_weight=1.0,
        paper="https://arxiv.org/abs/1904.01802",
        when_to_use=(
            "To match how samples of a batch relate, and with `product` the features as well."
        ),
        formula="product: mean_i Σ_c |Δ_i|·|Δ_(i+1)|, Δ = e_s - e_t; gaussian: mean (K_s - K_t)²",
        min_batch=2,
        one_teacher=True,
    ),
    "crd": MethodEntry(
        params=relations.CRD,
        group="relations",
        needs=("pooled", "target", "index"),
        default_label_weight=1.0,
        paper="https://arxiv.org/abs/1910.10699",
        when_to_use=(
            "When accuracy counts more than training time and memory, and all labels are known."
        ),
        formula="-mean_b [log P⁺/(P⁺ + K/N) + Σ_k log (K/N)/(P_k + K/N)], both ways, "
        "P = exp(e·m / T) / Z",
        one_teacher=True,
    ),
}
