"""Presets: training settings by one name, for the fields that a job leaves out.

docs/reference/speed.md has measurements of each.
"""

from collections.abc import Mapping
from typing import Any, Literal

from kdcore.schema.schemes.offline import Offline

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
    """The body of a job, with its preset's values in the fields that it leaves out.

    A field of ``training`` in the body replaces the preset's field as a whole. ``method`` and
    ``label_weight`` come from the preset only where the job sets neither of them, has a teacher
    and has the scheme offline, because other methods have other weights. A body without a valid
    preset is returned unchanged.
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
    return scheme is None or (
        isinstance(scheme, Mapping) and scheme.get("type") == Offline.scheme_name()
    )
