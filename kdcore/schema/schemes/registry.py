"""SCHEMES: every scheme of this folder by name, and the type of ``scheme`` in a job."""

from typing import TYPE_CHECKING, Annotated, Union

from pydantic import Field

from kdcore.schema.discovery import discover_params
from kdcore.schema.schemes.base import SchemeParams

SCHEMES: dict[str, type[SchemeParams]] = discover_params("kdcore.schema.schemes", SchemeParams)
"""Parameters of each scheme by its name."""

if TYPE_CHECKING:
    AnyScheme = SchemeParams
else:
    AnyScheme = Union[tuple(SCHEMES.values())]  # noqa: UP007 - the members are known at run time

SchemeField = Annotated[AnyScheme, Field(discriminator="type")]
