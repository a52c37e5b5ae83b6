"""Progress of a run on a terminal and in a log."""

from rich.console import Console

from kdcore.cli.progress import ProgressView, format_duration
from kdcore.protocol.events import ErrorDetail, ErrorEvent, LogEvent, MetricsEvent, Progress


def metrics_event(step, values, fraction):
    progress = Progress(epoch=1, epochs=2, step=step, steps=8, fraction=fraction)
    return MetricsEvent(
        seq=1, time="", step=step, epoch=1, wall_s=1, values=values, progress=progress, eta_s=100
    )


def test_plain_lines_without_a_terminal(capsys):
    with ProgressView(Console(force_terminal=False)) as view:
        view(metrics_event(2, {"train/loss": 0.5}, 0.25))
        view(metrics_event(4, {"val/top1": 91.26, "val/agreement": 80.0}, 0.5))
        view(LogEvent(seq=1, time="", level="warning", message="[red] is no markup"))
        view(metrics_event(6, {"baseline/val/top1": 10.0}, 0.75))
        items = (ErrorDetail(name="/a", detail="b"),)
        patch = {"op": "add", "path": "/teachers/0/class_map", "value": [1, 0]}
        view(
            ErrorEvent(
                seq=1,
                time="",
                code="internal",
                message="no",
                hint="yes",
                items=items,
                fix=(patch,),
                likely_class_order=(1, 0),
            )
        )
    status = "epoch 1/2  loss 0.500  val top-1 91.3 %  agreement 80.0 %  2 min left"
    assert capsys.readouterr().out.splitlines() == [
        f"training student         {status}",
        "warning: [red] is no markup",
        "training baseline        epoch 1/2  val top-1 10.0 %  2 min left",
        "error: no",
        "  /a: b",
        "yes",
        'fix: [{"op": "add", "path": "/teachers/0/class_map", "value": [1, 0]}]',
        "likely_class_order: [1, 0]",
    ]


def test_epochs_and_loss_are_those_of_the_network_in_training(capsys):
    """Four epochs of ten steps, with points every four steps; the baseline trains first."""
    points = [(4, 9.0), (8, 5.0), (10, 1.0), (14, 2.0), (18, 2.0), (20, 2.0)]
    with ProgressView(Console(force_terminal=False)) as view:
        for name in ("baseline/", ""):
            for step, loss in points:
                values = {f"{name}train/loss": loss}
                event = metrics_event(step, values, 0.5)
                fields = {"epoch": step / 10, "phase_epochs": 4}
                view(event.model_copy(update=fields))
                if step % 10 == 0:
                    values = {f"{name}val/top1": float(step)}
                    view(metrics_event(step, values, 0.5).model_copy(update=fields))
    # The mean of the first epoch is (4 * 9 + 4 * 5 + 2 * 1) / 10.
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        f"training {name} epoch {epoch}/4 loss {loss} val top-1 {top1} % 2 min left"
        for name in ("baseline", "student")
        for epoch, loss, top1 in ((1, "5.800", "10.0"), (2, "2.000", "20.0"))
    ]


def test_progress_bar_on_a_terminal(capsys):
    with ProgressView(Console(force_terminal=True, width=120)) as view:
        view(metrics_event(4, {"val/top1": 91.26}, 0.5))
    out = capsys.readouterr().out
    assert "val top-1 91.3 %" in out
    assert "50%" in out


def test_durations_are_short():
    durations = [format_duration(seconds) for seconds in (0.2, 89, 200, 7500)]
    assert durations == ["1 s", "89 s", "3 min", "2 h 05 min"]
