"""Find the parameter classes of methods and schemes: one class in each file of a folder."""

import importlib
import pkgutil
from typing import TypeVar

from kdcore.schema.base import FrozenModel

_Params = TypeVar("_Params", bound=FrozenModel)
_NOT_PARAMS = ("base",)


def discover_params(package: str, base: type[_Params]) -> dict[str, type[_Params]]:
    """The subclass of ``base`` in each module of ``package``, by the name of the module.

    Raises ``TypeError`` for a module without exactly one such class, for a class whose ``type`` is
    not the module's name, and for one that leaves out a class variable of ``base``.
    """
    classes: dict[str, type[_Params]] = {}
    for module in pkgutil.iter_modules(importlib.import_module(package).__path__):
        if module.name not in _NOT_PARAMS:
            classes[module.name] = _load_class(f"{package}.{module.name}", base)
    return classes


def _load_class(path: str, base: type[_Params]) -> type[_Params]:
    module = importlib.import_module(path)
    name = path.rpartition(".")[2]
    defined = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, base) and value.__module__ == path
    ]
    if len(defined) != 1:
        raise TypeError(f"{path} defines {len(defined)} subclasses of {base.__name__}; define one")
    (params,) = defined
    missing = [name for name in sorted(base.__class_vars__) if not hasattr(params, name)]
    if missing:
        raise TypeError(f"{path}.{params.__name__} lacks {', '.join(missing)}")
    if getattr(params.model_fields["type"].annotation, "__args__", ()) != (name,):
        raise TypeError(f'{path}.{params.__name__} needs the field `type: Literal["{name}"]`')
    return params
