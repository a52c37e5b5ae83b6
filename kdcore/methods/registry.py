"""From the parameters of a job to the method that they name."""

import importlib
from collections.abc import Callable
from typing import TypeVar

from kdcore.methods.base import Method
from kdcore.schema.methods import AnyMethod

_CLASSES: dict[str, Callable[..., Method]] = {}
_Class = TypeVar("_Class", bound=type[Method])


def register(name: str) -> Callable[[_Class], _Class]:
    """Class decorator: this class is the method of that name, made from its parameters alone.

    Raises ``ValueError`` where the name is taken, so that no method replaces another in silence.
    """

    def decorator(method: _Class) -> _Class:
        if name in _CLASSES:
            raise ValueError(f"method {name} is taken by {_CLASSES[name]}; {method} needs another")
        _CLASSES[name] = method
        return method

    return decorator


def create_method(params: AnyMethod) -> Method:
    """The method with these parameters; its file has its name and is loaded when first asked."""
    importlib.import_module(f"kdcore.methods.{params.type}")
    return _CLASSES[params.type](params)
