"""Decorator and helper that compute losses in float32 or float64."""

import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor

_P = ParamSpec("_P")
_R = TypeVar("_R")


def at_least_float32(x: Tensor) -> Tensor:
    """``x`` in float32 if it is of a half type; float32 and float64 stay as they are.

    Sums of exponentials lose most of their digits in half types.
    """
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def full_precision(loss: Callable[_P, _R]) -> Callable[_P, _R]:
    """Decorator: tensors come in as :func:`at_least_float32`, and autocast is off inside.

    With autocast, the matrix products of a loss would run in a half type again.
    """

    @functools.wraps(loss)
    def wrapper(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        tensors: list[Tensor] = []
        positional = [_upcast(value, tensors) for value in args]
        named = {name: _upcast(value, tensors) for name, value in kwargs.items()}
        with torch.autocast(tensors[0].device.type if tensors else "cpu", enabled=False):
            return loss(*positional, **named)

    return wrapper


def _upcast(value: Any, tensors: list[Tensor]) -> Any:
    """``value`` with its tensors upcast; appends them to ``tensors``."""
    if isinstance(value, Tensor):
        tensors.append(value)
        return at_least_float32(value)
    if type(value) in (list, tuple):
        return type(value)(_upcast(item, tensors) for item in value)
    return value
