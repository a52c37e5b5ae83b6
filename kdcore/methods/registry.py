"""create_method: from the parameters of a method to the method."""

import importlib
from collections.abc import Callable
from typing import TypeVar

from kdcore.methods.base import Method
from kdcore.schema.methods import MethodParams

_CLASSES: dict[str, Callable[..., Method]] = {}
_Class = TypeVar("_Class", bound=type[Method])


def register(name: str) -> Callable[[_Class], _Class]:
    """Class decorator: create the method of this name with this class.

    Raises ``ValueError`` where another class has registered the name.
    """

    def decorator(method: _Class) -> _Class:
        if name in _CLASSES:
            raise ValueError(f"{_CLASSES[name]} has the name {name}: {method} needs another")
        _CLASSES[name] = method
        return method

    return decorator


def create_method(params: MethodParams) -> Method:
    """The method with these parameters, from the file in ``kdcore/methods`` that has its name."""
    importlib.import_module(f"kdcore.methods.{params.type}")
    return _CLASSES[params.type](params)
