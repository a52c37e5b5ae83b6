"""The whole product on one machine: the parts of production, kept alive by one supervisor.

`Stack` is everything that `stillhouse up` runs; `Services` is only Postgres, Valkey and the
folders, for tests of the store, the API and the worker. Neither loads anything until it is used.
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
