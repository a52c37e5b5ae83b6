"""The life of a job. Nobody else writes a job's state.

When a row has moved on, a write of an earlier run raises :class:`FencedOut` and nothing of its
transaction remains. Leases are told by the database's clock alone.
"""

from store.jobs.claim import claim
from store.jobs.run_transitions import (
    accept,
    begin,
    fail,
    held,
    lose,
    reap,
    release,
    renew,
    succeed,
    wake,
)
from store.jobs.states import TERMINAL, FencedOut, IllegalTransition, create
from store.jobs.user_transitions import cancel, delete, pause, resume, retry
from store.tables.jobs import LIVE

__all__ = [
    "LIVE",
    "TERMINAL",
    "FencedOut",
    "IllegalTransition",
    "accept",
    "begin",
    "cancel",
    "claim",
    "create",
    "delete",
    "fail",
    "held",
    "lose",
    "pause",
    "reap",
    "release",
    "renew",
    "resume",
    "retry",
    "succeed",
    "wake",
]
