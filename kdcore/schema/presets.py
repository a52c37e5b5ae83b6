"""Whole recipes by a name: what a job takes where it says nothing itself.

What is measured of them is told in docs/reference/speed.md.
"""

from collections.abc import Mapping
from typing import Any, Literal

Preset = Literal["fast", "balanced", "paper"]

_SHORT_TRAINING: dict[str, Any] = {
    "batch_size": 32,
    "optimizer": {"type": "sgd", "lr": 0.1, "nesterov": True},
    "schedule": {"type": "cosine"},
    "augmentation": {"type": "crop_flip", "padding": 0},
}
_TRAINING: dict[str, dict[str, Any]] = {
    "fast": _SHORT_TRAINING | {"epochs": 8},
    "balanced": _SHORT_TRAINING | {"epochs": 30, "augmentation": {"type": "crop_flip"}},
    "paper": {
        "epochs": 240,
        "batch_size": 64,
        "optimizer": {"type": "sgd", "lr": 0.05},
        "schedule": {"type": "step"},
        "augmentation": {"type": "crop_flip"},
    },
}
_LOGIT_MATCHING: dict[str, Any] = {"method": {"type": "logit_matching"}, "label_weight": 0.0}
_DISTILLATION: dict[str, dict[str, Any]] = {
    "fast": _LOGIT_MATCHING,
    "balanced": _LOGIT_MATCHING,
    "paper": {"method": {"type": "kd", "temperature": 4.0}, "label_weight": 0.1},
}


def apply_preset(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """A job as posted, with its preset's values where it has none of its own.

    A field of ``training`` is taken whole. ``method`` and ``label_weight`` are the preset's only
    where the job says neither, has a teacher, and arranges nothing else: another method has
    weights of its own. What is no job, or names no preset, comes back as it is.
    """
    preset, training = body.get("preset"), body.get("training", {})
    if not isinstance(preset, str) or preset not in _TRAINING or not isinstance(training, Mapping):
        return body
    merged = {**body, "training": {**_TRAINING[preset], **training}}
    unspecified = body.get("method") is None and body.get("label_weight") is None
    if unspecified and body.get("teachers") and _offline(body.get("scheme")):
        merged |= _DISTILLATION[preset]
    return merged


def _offline(scheme: object) -> bool:
    return scheme is None or (isinstance(scheme, Mapping) and scheme.get("type") == "offline")
