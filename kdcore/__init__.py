"""The engine that teaches students. It knows no HTTP, no database and no queue.

``from kdcore import distill`` trains in this process, a notebook's for instance::

    result = distill("cifar/resnet8", "builtin:digits", training={"epochs": 5})
    result.report.student.top1, result.load()

Each name is loaded when it is asked for, so that ``kdcore.schema`` stays free of torch.
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
