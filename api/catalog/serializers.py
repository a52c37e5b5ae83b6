"""JSON of all methods, schemes and architectures, computed once."""

import functools
import inspect
from typing import Any

from kdcore.schema.catalog import architectures
from kdcore.schema.methods import METHODS
from kdcore.schema.schemes import SCHEMES
from kdcore.schema.validation.method_compatibility import Incompatibility


@functools.cache
def serialize_methods() -> dict[str, dict[str, Any]]:
    """The body of a ``MethodOut`` by name."""
    return {
        name: {
            "name": name,
            "object": "method",
            "doc": inspect.getdoc(entry.params) or "",
            **entry.model_dump(exclude={"params"}),
            "params": entry.params.model_json_schema(),
            "compatible": None,
            "reason": None,
            "help": None,
        }
        for name, entry in sorted(METHODS.items())
    }


@functools.cache
def serialize_schemes() -> dict[str, dict[str, Any]]:
    """The body of a ``SchemeOut`` by name."""
    return {
        name: {
            "name": name,
            "object": "scheme",
            "doc": inspect.getdoc(entry.params) or "",
            **entry.model_dump(exclude={"params"}),
            "params": entry.params.model_json_schema(),
        }
        for name, entry in sorted(SCHEMES.items())
    }


@functools.cache
def serialize_architectures() -> dict[str, dict[str, Any]]:
    """The body of an ``ArchitectureOut`` by name."""
    ordered = sorted(architectures().items(), key=lambda item: (item[0].partition("/")[0], item[0]))
    return {name: {"object": "architecture", **entry.model_dump()} for name, entry in ordered}


def serialize_compatibility(incompatibility: Incompatibility | None) -> dict[str, Any]:
    """The fields of a ``MethodOut`` about the pair of the query."""
    if incompatibility is None:
        return {"compatible": True}
    return {"compatible": False, "reason": incompatibility.reason, "help": incompatibility.help}
