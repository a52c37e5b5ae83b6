"""The life of a job. Nobody else writes a job's state.

When a row has moved on, a write of an earlier run raises :class:`FencedOut` and nothing of its
transaction remains. Leases are told by the database's clock alone.
"""

from store.jobs.claim import claim
from store.jobs.run_transitions import (
    enter_phase,
    fail,
    handle_lost_run,
    lock_leased_job,
    reap_expired_leases,
    record_engine_seq,
    release,
    renew_lease,
    succeed,
    wake_delayed_jobs,
)
from store.jobs.states import TERMINAL_STATES, IllegalTransitionError, LeaseLostError, create
from store.jobs.user_transitions import cancel, delete, pause, resume, retry
from store.tables.jobs import LIVE_STATES

__all__ = [
    "LIVE_STATES",
    "TERMINAL_STATES",
    "IllegalTransitionError",
    "LeaseLostError",
    "cancel",
    "claim",
    "create",
    "delete",
    "enter_phase",
    "fail",
    "handle_lost_run",
    "lock_leased_job",
    "pause",
    "reap_expired_leases",
    "record_engine_seq",
    "release",
    "renew_lease",
    "resume",
    "retry",
    "succeed",
    "wake_delayed_jobs",
]
