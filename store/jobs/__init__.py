"""The life of a job: only this package writes a job's state.

A write of a run that has lost its lease raises :class:`LeaseLostError`, and its transaction is
rolled back. Only the clock of the database decides whether a lease has expired.
"""

from store.jobs.claim import claim
from store.jobs.prepared_assets import opened_upload
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
from store.tables.runs import LIVE_STATES

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
    "opened_upload",
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
