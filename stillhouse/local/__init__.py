"""The whole product on one machine: the processes of production under one supervisor.

`Stack` runs everything that `stillhouse up` runs. `Services` runs Postgres and Valkey alone, for
tests of the store, the API and the worker. Both are imported on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stillhouse.local.services import Services
    from stillhouse.local.stack import Stack

__all__ = ["Services", "Stack"]


def __getattr__(name: str) -> object:
    """Load `Services` or `Stack` on first use, so that the client's import stays light."""
    if name == "Services":
        from stillhouse.local.services import Services

        return Services
    if name == "Stack":
        from stillhouse.local.stack import Stack

        return Stack
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
