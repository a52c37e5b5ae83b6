"""What is distilled: the parameters of every method, with bounds and defaults."""

from kdcore.schema.methods.features import (
    FSP,
    NST,
    VID,
    Attention,
    FactorTransfer,
    FitNet,
    ReviewKD,
)
from kdcore.schema.methods.logits import DIST, DKD, KD, BatchLogits, LogitMatching, Supervised
from kdcore.schema.methods.registry import METHODS, MethodEntry
from kdcore.schema.methods.relations import CRD, PKT, RKD, Correlation, Similarity
from kdcore.schema.methods.types import Need, Temperature, Weight
from kdcore.schema.methods.union import (
    AnyMethod,
    MethodField,
    MethodName,
    TaggedMethod,
    as_methods,
    default_label_weight,
    teaches_classifier,
)

__all__ = [
    "CRD",
    "DIST",
    "DKD",
    "FSP",
    "KD",
    "METHODS",
    "NST",
    "PKT",
    "RKD",
    "VID",
    "AnyMethod",
    "Attention",
    "BatchLogits",
    "Correlation",
    "FactorTransfer",
    "FitNet",
    "LogitMatching",
    "MethodEntry",
    "MethodField",
    "MethodName",
    "Need",
    "ReviewKD",
    "Similarity",
    "Supervised",
    "TaggedMethod",
    "Temperature",
    "Weight",
    "as_methods",
    "default_label_weight",
    "teaches_classifier",
]
