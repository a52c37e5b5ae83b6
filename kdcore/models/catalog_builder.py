"""Writes the catalog of architectures: ``python -m kdcore.models.catalog_builder [--check]``.

The file is checked in because the API lists architectures and must not load torch to do so. To
write it takes a quarter of an hour; ``--check --sample 8`` measures as many entries again.
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
"""Parameters of timm's networks that are listed; larger ones can be built all the same."""
_SEED = 0


def names() -> list[str]:
    """Every name that may be listed, in the order of the file: sorted."""
    torchvision = (f"torchvision/{name}" for name in torchvision_networks.names())
    timm = (f"timm/{name}" for name in timm_networks.names())
    return sorted([*ENTRIES, *torchvision, *timm])


def lines(architecture_names: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Name and line of each entry that is listed; the others are told on stderr."""
    for name in architecture_names:
        try:
            entry = profile_architecture(
                name, _MAX_TIMM_PARAMS if name.startswith("timm/") else float("inf")
            )
        except Exception as error:  # noqa: BLE001 - libraries refuse in many ways; it is told
            sys.stderr.write(f"{name} is left out: {type(error).__name__}: {error}\n")
            continue
        if entry is not None:
            yield name, entry.model_dump_json(exclude_defaults=True)


def render(architecture_names: Iterable[str]) -> str:
    """The file's text: one line for each entry."""
    entries = ",\n".join(line for _, line in lines(architecture_names))
    return f'{{"generated_by":"{_COMMAND}","architectures":[\n{entries}\n]}}\n'


def stale_entries(text: str, architecture_names: list[str], sample: int | None) -> list[str]:
    """What is wrong with the file's text: names, and the lines of a seeded sample of entries.

    A network that is not listed is measured only when ``sample`` is None, which measures all.
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
        # A sample to measure again, not a secret.
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
    parser.add_argument("--sample", type=int, help="with --check: so many entries, not all")
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
