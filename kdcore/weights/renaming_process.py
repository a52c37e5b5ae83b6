"""Rename tensors by the rules of a ``key_map``; as a script, in a process with a time limit.

A search with a regular expression may take years, and no exception ends it. The script therefore
limits its own processor time, after which the system kills it. It imports only the standard
library, so that it starts fast. Input is one JSON object with ``names``, ``rules`` and ``cpu_s``;
output is the index of each rule when it begins, and at last one JSON object with ``names`` or
``error``.
"""

import json
import re
import resource
import sys
from collections.abc import Iterator, Sequence

MAX_NAME_LENGTH = 1000


def main() -> None:
    """Rename what stdin describes, and write the new names to stdout."""
    request = json.load(sys.stdin)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    limit = request["cpu_s"] if hard == resource.RLIM_INFINITY else min(request["cpu_s"], hard)
    resource.setrlimit(resource.RLIMIT_CPU, (limit, limit))
    names = request["names"]
    try:
        for index, rule in enumerate(request["rules"]):
            sys.stdout.write(f"{index}\n")
            sys.stdout.flush()
            names = list(apply_rule(names, *rule))
    except (re.error, RecursionError, OverflowError, IndexError, ValueError) as error:
        result = {"error": str(error)}
    except MemoryError:
        result = {"error": "its search needs too much memory"}
    else:
        result = {"names": names}
    json.dump(result, sys.stdout)


def apply_rule(
    names: Sequence[tuple[str, str]], pattern: str, replacement: str
) -> Iterator[tuple[str, str]]:
    """Yield the new name of each tensor, and the same name after the keys of the dicts around it.

    The pattern is searched in the name, and in the full name if the name has no match. An empty
    name stays empty. Raises :class:`re.error` for an invalid pattern, and :class:`ValueError` for a
    name of more than 1,000 characters.
    """
    compiled = re.compile(pattern)
    for name, full in names:
        head = full.removesuffix(name)
        renamed = name, full
        if not name:
            pass
        elif compiled.search(name):
            new = compiled.sub(replacement, name)
            renamed = new, f"{head}{new}" if new else ""
        elif compiled.search(full):
            new = compiled.sub(replacement, full)
            renamed = new, new
        if len(renamed[1]) > max(MAX_NAME_LENGTH, len(full)):
            raise ValueError(f"a new name has more than {MAX_NAME_LENGTH} characters")
        yield renamed


if __name__ == "__main__":
    main()
