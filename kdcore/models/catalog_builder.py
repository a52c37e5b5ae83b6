"""Write the catalog of architectures: ``python -m kdcore.models.catalog_builder [--check]``.

The catalog is committed, because the API lists architectures without torch. Writing it takes a
quarter of an hour; ``--check --sample 8`` profiles eight entries again and compares them.
"""

import argparse
import random
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import kdcore.schema
from kdcore.models import timm_networks, torchvision_networks
from kdcore.models.profile import profile_architecture
from kdcore.models.registry import ENTRIES
from kdcore.schema.catalog import Architecture

PATH = Path(kdcore.schema.__file__).with_name("catalog.json")
_COMMAND = "python -m kdcore.models.catalog_builder"
_MAX_TIMM_PARAMS = 100e6
"""Larger networks of timm are not listed, but they can be built."""
_SEED = 0


def names() -> list[str]:
    """Return every name that may be listed, sorted."""
    torchvision = (f"torchvision/{name}" for name in torchvision_networks.names())
    timm = (f"timm/{name}" for name in timm_networks.names())
    return sorted([*ENTRIES, *torchvision, *timm])


def lines(architecture_names: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield name and line of each listed entry; failures are written to stderr."""
    for name in architecture_names:
        try:
            entry = profile_architecture(
                name, _MAX_TIMM_PARAMS if name.startswith("timm/") else float("inf")
            )
        except Exception as error:  # noqa: BLE001 - libraries raise many types
            sys.stderr.write(f"{name} is not listed: {type(error).__name__}: {error}\n")
            continue
        if entry is not None:
            yield name, entry.model_dump_json(exclude_defaults=True)


def render(architecture_names: Iterable[str]) -> str:
    """Return the catalog as JSON with one line for each entry."""
    entries = ",\n".join(line for _, line in lines(architecture_names))
    return f'{{"generated_by":"{_COMMAND}","architectures":[\n{entries}\n]}}\n'


def stale_entries(text: str, architecture_names: list[str], sample: int | None) -> list[str]:
    """Return what is out of date in the catalog ``text``: names, and entries of a seeded sample.

    ``sample`` is the number of entries to profile again; None profiles every architecture.
    """
    listed = {
        Architecture.model_validate_json(line.rstrip(",")).name: line.rstrip(",")
        for line in text.splitlines()[1:-1]
    }
    wrong = [
        f"{name} does not exist any more" for name in listed if name not in set(architecture_names)
    ]
    wrong += [
        f"{name} is missing"
        for name in architecture_names
        if _always_listed(name) and name not in listed
    ]
    if list(listed) != sorted(listed):
        wrong.append("the names are not sorted")
    rechecked = architecture_names
    if sample is not None:
        # The sample is not a secret.
        rechecked = random.Random(_SEED).sample(sorted(listed), min(sample, len(listed)))  # noqa: S311
    fresh = dict(lines(name for name in rechecked if name in set(architecture_names)))
    wrong += [f"{name} has changed" for name in rechecked if listed.get(name) != fresh.get(name)]
    return wrong


def main(
    arguments: list[str] | None = None,
    path: Path = PATH,
    architecture_names: list[str] | None = None,
) -> int:
    """Write the catalog to ``path``, or with ``--check`` compare the file with a fresh profile.

    ``architecture_names`` default to all. Returns 1 for a stale file, else 0.
    """
    parser = argparse.ArgumentParser(prog=_COMMAND)
    parser.add_argument("--check", action="store_true", help="fail when the file is stale")
    parser.add_argument("--sample", type=int, help="with --check: number of entries to profile")
    options = parser.parse_args(arguments)
    architecture_names = names() if architecture_names is None else architecture_names
    if not options.check:
        path.write_text(render(architecture_names), encoding="utf-8")
        return 0
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    wrong = stale_entries(text, architecture_names, options.sample)
    for problem in wrong:
        sys.stderr.write(f"{problem}\n")
    if wrong:
        sys.stderr.write(f"{path} is stale: run {_COMMAND}\n")
    return 1 if wrong else 0


def _always_listed(name: str) -> bool:
    return not name.startswith("timm/")


if __name__ == "__main__":
    sys.exit(main())
