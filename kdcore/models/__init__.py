"""Networks by name, from :func:`build`."""

from kdcore.models.factory import build

__all__ = ["build"]
