"""How training is arranged: one file for each scheme, with its parameters and catalog entry."""

from kdcore.schema.schemes.base import SchemeNetworks, SchemeParams
from kdcore.schema.schemes.registry import SCHEMES, AnyScheme, SchemeField

__all__ = ["SCHEMES", "AnyScheme", "SchemeField", "SchemeNetworks", "SchemeParams"]
