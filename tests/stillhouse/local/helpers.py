"""Helpers for the tests of the local stack."""

from collections.abc import Mapping

from stillhouse.local.supervise.proc import process_identity


def running_processes(identities: Mapping[int, str]) -> list[int]:
    """Return the ids of the processes that still run, of those from ``process_tree``."""
    return [pid for pid, identity in identities.items() if process_identity(pid) == identity]
