"""What is distilled: the parameters of every method, with bounds and defaults."""

from kdcore.spec.methods.base import Need, Temperature, Weight
from kdcore.spec.methods.features import (
    FSP,
    NST,
    VID,
    Attention,
    FactorTransfer,
    FitNet,
    ReviewKD,
)
from kdcore.spec.methods.field import (
    AnyMethod,
    Method,
    MethodField,
    MethodName,
    as_methods,
    default_label_weight,
    teaches_classifier,
)
from kdcore.spec.methods.logits import DIST, DKD, KD, BatchLogits, LogitMatching, Supervised
from kdcore.spec.methods.relations import CRD, PKT, RKD, Correlation, Similarity
from kdcore.spec.methods.table import METHODS, MethodEntry

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
    "Method",
    "MethodEntry",
    "MethodField",
    "MethodName",
    "Need",
    "ReviewKD",
    "Similarity",
    "Supervised",
    "Temperature",
    "Weight",
    "as_methods",
    "default_label_weight",
    "teaches_classifier",
]
