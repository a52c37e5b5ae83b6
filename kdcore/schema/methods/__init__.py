"""What is distilled: one file for each method, with its parameters and its entry in the catalog."""

from kdcore.schema.methods.base import MethodParams, Need
from kdcore.schema.methods.registry import (
    METHODS,
    AnyMethod,
    MethodField,
    as_methods,
    default_label_weight,
)

__all__ = [
    "METHODS",
    "AnyMethod",
    "MethodField",
    "MethodParams",
    "Need",
    "as_methods",
    "default_label_weight",
]
