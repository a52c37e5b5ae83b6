"""Distillation methods: one file each, with a pure loss function and a class for training."""

import functools
import importlib

from kdcore.methods.base import Method
from kdcore.schema.methods import MethodParams


def create_method(params: MethodParams) -> Method:
    """The method with these parameters, from the file in ``kdcore/methods`` that has its name."""
    return _load_class(params.type)(params)


@functools.cache
def _load_class(name: str) -> type[Method]:
    module = importlib.import_module(f"{__name__}.{name}")
    classes = [
        value
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, Method)
        and value.__module__ == module.__name__
    ]
    if len(classes) != 1:
        raise TypeError(
            f"{module.__name__} defines {len(classes)} subclasses of Method; define one"
        )
    return classes[0]
