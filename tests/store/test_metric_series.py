"""Curves come back whole, or thinned so that peaks and ends stay."""

from typing import Any

import pytest

from kdcore.protocol.events import MetricsEvent
from store import metric_series
from store.database import transaction
from store.tables import Job


@pytest.fixture
def curve(new_job: Any) -> Any:
    """Write values at steps 1, 2, 3 … and read them back."""
    job_id = new_job()

    def write(values: list[float | None], max_points: int) -> tuple[list[Any], list[Any]]:
        with transaction() as session:
            job = session.get_one(Job, job_id)
            for step, value in enumerate(values, 1):
                point = {"train/loss": value}
                metric_series.write(session, job, [_event(step, point)])
        with transaction() as session:
            column = metric_series.read(session, job_id, None, "step", max_points).columns[
                "train/loss"
            ]
        return column["step"], column["value"]

    return write


def _event(step: int, values: dict[str, float | None]) -> MetricsEvent:
    return MetricsEvent(seq=1, time="", step=step, epoch=step, wall_s=step, values=values)


def test_later_value_of_a_repeated_step_stays(new_job: Any) -> None:
    events = [_event(1, {"train/loss": 3.0}), _event(2, {"train/loss": 2.0, "train/lr": 0.1})]
    again = [_event(2, {"train/loss": 1.0}), _event(2, {"train/loss": 1.5})]
    job_id = new_job()
    for batch in (events, again):
        with transaction() as session:
            metric_series.write(session, session.get_one(Job, job_id), batch)
    with transaction() as session:
        values_read = metric_series.read(session, job_id, None, "step", 10).columns
        summary = session.get_one(Job, job_id).summary
    assert values_read == {
        "train/loss": {"step": [1, 2], "value": [3.0, 1.5]},
        "train/lr": {"step": [2], "value": [0.1]},
    }
    assert summary["train/loss"] == 1.5


def test_short_curve_is_complete(curve: Any) -> None:
    assert curve([3.0, 1.0, None, 2.0], 10) == ([1, 2, 3, 4], [3.0, 1.0, None, 2.0])


@pytest.mark.parametrize("most", [2, 3, 4, 7, 10, 50])
def test_long_curve_keeps_peaks_and_ends_and_is_short_enough(curve: Any, most: int) -> None:
    values = [float(number % 7) for number in range(200)]
    values[61], values[137] = 100.0, -100.0
    steps, values_read = curve(values, most)
    assert len(steps) <= most
    assert steps == sorted(set(steps))
    assert (steps[0], steps[-1]) == (1, 200)
    assert [values[step - 1] for step in steps] == values_read
    if most >= 4:
        assert {100.0, -100.0} <= set(values_read)


def test_gap_does_not_hide_a_peak(curve: Any) -> None:
    values: list[float | None] = [1.0] * 100
    values[50], values[51] = None, 9.0
    _, values_read = curve(values, 10)
    assert 9.0 in values_read
