"""Upgrade the checkpoints that versions before 0.1.0 wrote, so that their jobs resume."""

from typing import Any

from kdcore.schema.old_spelling import old_spelling

_NEW_NAMES = dict(
    line.split()
    for line in f"""
        machine compute_env
        {old_spelling("normalization")} normalization
        phase phase_index
        number seed_index
        cohort student_group
        learners students
        peers peer_objectives
        micro_batches num_micro_batches
        meters loss_meters
        patience early_stopper
        mark best_top1
        since epochs_since_best
        validated epoch
        last last_metrics
    """.strip().splitlines()
)
"""Former and present names of the keys."""
_TRAIN_STATE = ("epoch", "step", "best", "last_metrics", "early_stopper")


def upgrade_state(state: dict[str, Any]) -> dict[str, Any]:
    """The state of a checkpoint with the present names; a present state is returned unchanged."""
    if "machine" not in state:
        return state
    state = _rename(state)
    if (current := state["current"]) is not None:
        current["train_state"] = {name: current.pop(name) for name in _TRAIN_STATE}
        for student in current["student_group"]["students"]:
            student["network"] = student.pop("student")
    return state


def _rename(value: Any) -> Any:
    if isinstance(value, dict):
        return {_NEW_NAMES.get(name, name): _rename(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_rename(part) for part in value]
    return "labeler" if isinstance(value, str) and value == "labeller" else value
