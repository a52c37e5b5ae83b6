"""How training is arranged: one file for each scheme, with its parameters and catalog entry."""

from typing import TYPE_CHECKING, Annotated, Union

from pydantic import Field

from kdcore.schema.discovery import discover_params
from kdcore.schema.schemes.base import SchemeNetworks, SchemeParams

__all__ = ["SCHEMES", "AnyScheme", "SchemeField", "SchemeNetworks", "SchemeParams"]

SCHEMES: dict[str, type[SchemeParams]] = discover_params(__name__, SchemeParams)
"""Parameters of each scheme by its name."""

if TYPE_CHECKING:
    AnyScheme = SchemeParams
else:
    AnyScheme = Union[tuple(SCHEMES.values())]  # noqa: UP007 - the members are known at run time

SchemeField = Annotated[AnyScheme, Field(discriminator="type")]
