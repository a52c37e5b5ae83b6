"""The training engine: knowledge distillation of image classifiers with torch.

``from kdcore import distill`` trains in this process, for example in a notebook::

    result = distill("cifar/resnet8", "builtin:digits", training={"epochs": 5})
    result.report.student.top1, result.load()

Public names are imported on first use, so that importing ``kdcore.schema`` does not load torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kdcore.api import DistillationResult, distill, evaluate
    from kdcore.models.factory import build

__all__ = ["DistillationResult", "build", "distill", "evaluate"]

_MODULES = {
    "DistillationResult": "kdcore.api",
    "build": "kdcore.models",
    "distill": "kdcore.api",
    "evaluate": "kdcore.api",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
