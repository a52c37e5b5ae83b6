"""Kinds of jobs: each module of this package handles one kind, or several that share a request."""

import functools
import importlib
import pkgutil

from worker.kinds.base import KindHandler


@functools.cache
def handlers() -> dict[str, KindHandler]:
    """Every ``HANDLERS`` of this package's modules, by the name of the kind."""
    by_name: dict[str, KindHandler] = {}
    for info in pkgutil.iter_modules(__path__):
        module = importlib.import_module(f"{__name__}.{info.name}")
        for handler in getattr(module, "HANDLERS", ()):
            by_name[handler.name] = handler
    return by_name
