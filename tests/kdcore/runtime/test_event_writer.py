"""Events of several runs in one file, numbered without gaps."""

from pathlib import Path

from pydantic import TypeAdapter

from kdcore.protocol.events import AnyEvent
from kdcore.runtime.event_writer import EventWriter

EVENT = TypeAdapter(AnyEvent)


def read_events(path: Path) -> list[AnyEvent]:
    return [EVENT.validate_json(line) for line in path.read_text().splitlines()]


def test_numbers_continue_after_a_partial_line(tmp_path):
    path = tmp_path / "events.jsonl"
    for _ in range(2):
        events = EventWriter(path, tmp_path)
        events.log("info", "a\nb")
        events.metrics(1, 0.5, {"train/loss": float("nan"), "train/lr": 0.1})
        events.close()
        with path.open("a") as file:
            file.write('{"seq": 99, "ti')
    EventWriter(path, tmp_path).close()
    written = read_events(path)
    assert [event.seq for event in written] == [1, 2, 3, 4]
    assert written[1].values == {"train/loss": None, "train/lr": 0.1}


def test_non_finite_values_are_named(tmp_path):
    path = tmp_path / "events.jsonl"
    values = {"a": float("nan"), "b": float("inf"), "c": -float("inf"), "d": 3.4e38}
    events = EventWriter(path, tmp_path)
    events.metrics(1, 0.5, values)
    events.close()
    (event,) = read_events(path)
    assert event.values == {"a": None, "b": None, "c": None, "d": 3.4e38}
    assert event.non_finite == {"a": "nan", "b": "infinity", "c": "-infinity"}
