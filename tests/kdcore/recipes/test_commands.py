"""The commands for people: tables, the run in a terminal, the comparison."""

import json
import math
import re
import signal
import subprocess
import sys
import time

import pytest
from rich.console import Console

from kdcore.__main__ import main
from kdcore.cli import compare_runs, listing
from kdcore.cli.progress import ProgressView, format_duration
from kdcore.cli.summary import format_count, format_size
from kdcore.protocol.events import ErrorDetail, ErrorEvent, LogEvent, MetricsEvent, Progress
from kdcore.protocol.requests import ExitCode
from kdcore.recipes.runner import RunSpec
from kdcore.runtime.cancellation import CancellationToken
from kdcore.schema.catalog import architectures
from kdcore.schema.diff import find_differences
from kdcore.schema.methods import METHODS
from kdcore.schema.schemes import SCHEMES
from tests.kdcore.recipes.conftest import QUICK


@pytest.fixture
def wide(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")


@pytest.mark.parametrize(
    ("command", "names"),
    [("methods", METHODS), ("schemes", SCHEMES), ("networks", architectures())],
)
def test_everything_that_there_is_is_listed(wide, capsys, command, names):
    assert main([command]) == 0
    lines = [line.split()[0] for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert [name for name in names if name not in lines] == []


@pytest.mark.parametrize("name", METHODS)
def test_a_method_is_told_with_every_parameter(wide, capsys, name):
    assert main(["methods", name]) == 0
    out = capsys.readouterr().out
    entry = METHODS[name]
    missing = [f for f in entry.model_fields if f != "type" and f not in out]
    assert missing == []
    assert entry.formula in " ".join(out.split()) or entry.formula.split()[0] in out


def test_bounds_and_defaults_are_those_of_the_field():
    found = {row[0]: row[1:3] for row in listing.parameters(METHODS["dkd"])}
    assert found["temperature"] == ("4", "≥ 0.01, ≤ 1000")
    assert found["weight"] == ("1", "≤ 1e+06, > 0") or found["weight"] == ("1", "> 0, ≤ 1e+06")
    assert found["warmup_epochs"] == ("null", "≥ 0, ≤ 100000")
    assert found["logit_standardization"] == ("false", "boolean")


def test_networks_by_pattern_and_one_in_full(wide, capsys):
    assert main(["networks", "cifar/resnet8*"]) == 0
    assert re.findall(r"^cifar/\S+", capsys.readouterr().out, re.MULTILINE) == [
        "cifar/resnet8",
        "cifar/resnet8x4",
    ]
    assert main(["networks", "cifar/resnet8"]) == 0
    assert "tap layer3: 64 x 8 x 8" in capsys.readouterr().out
    assert main(["schemes", "mutual"]) == 0
    assert "Deep Mutual Learning" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["methods", "schemes", "networks"])
def test_a_name_that_is_none_is_the_users_fault(capsys, command):
    assert main([command, "resnte8-nope"]) == ExitCode.USER_ERROR
    assert "resnte8-nope" in capsys.readouterr().err


def test_programs_still_speak_the_protocol(tmp_path):
    (tmp_path / "r.json").write_text("{")
    events = tmp_path / "w" / "events.jsonl"
    arguments = ["run", str(tmp_path / "r.json"), "--workdir", str(tmp_path / "w")]
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    try:
        assert main(arguments) == ExitCode.USER_ERROR
    finally:
        for number, handler in zip((signal.SIGINT, signal.SIGTERM), before, strict=True):
            signal.signal(number, handler)
    assert json.loads(events.read_text())["message"] == "the request is not a valid RunRequest"


def event(step, values, fraction):
    progress = Progress(epoch=1, epochs=2, step=step, steps=8, fraction=fraction)
    return MetricsEvent(
        seq=1, time="", step=step, epoch=1, wall_s=1, values=values, progress=progress, eta_s=100
    )


def test_plain_lines_where_nothing_moves(capsys):
    with ProgressView(Console(force_terminal=False)) as view:
        view(event(2, {"train/loss": 0.5}, 0.25))
        view(event(4, {"val/top1": 91.26, "val/agreement": 80.0}, 0.5))
        view(LogEvent(seq=1, time="", level="warning", message="[red] is no markup"))
        view(event(6, {"baseline/val/top1": 10.0}, 0.75))
        items = (ErrorDetail(name="/a", detail="b"),)
        view(ErrorEvent(seq=1, time="", code="internal", message="no", hint="yes", items=items))
    told = "epoch 1/2  loss 0.500  val top-1 91.3 %  agreement 80.0 %  2 min left"
    assert capsys.readouterr().out.splitlines() == [
        f"training                 {told}",
        "warning: [red] is no markup",
        "training baseline        epoch 1/2  loss 0.500  val top-1 10.0 %  agreement 80.0 %  "
        "2 min left",
        "error: no",
        "  /a: b",
        "yes",
    ]


def test_a_bar_in_a_terminal(capsys):
    with ProgressView(Console(force_terminal=True, width=120)) as view:
        view(event(4, {"val/top1": 91.26}, 0.5))
    out = capsys.readouterr().out
    assert "val top-1 91.3 %" in out
    assert "50%" in out


def test_numbers_are_short():
    assert [format_size(n) for n in (5, 318_000, 4_860_000, 2e9)] == [
        "5 B",
        "318 kB",
        "4.86 MB",
        "2 GB",
    ]
    assert [format_count(n) for n in (83_892, 1_210_000, 4.1e9)] == ["83.9 k", "1.21 M", "4.1 G"]
    assert [format_duration(s) for s in (0.2, 89, 200, 7500)] == [
        "1 s",
        "89 s",
        "3 min",
        "2 h 05 min",
    ]


def test_settings_that_differ():
    kd, fsp = {"type": "kd", "weight": 1}, {"type": "fsp", "weight": 2}
    assert find_differences({"m": [kd], "s": 1}, {"m": [kd | {"weight": 3}, fsp], "s": 1}) == {
        "m.kd.weight": (1, 3),
        "m.fsp.type": (None, "fsp"),
        "m.fsp.weight": (None, 2),
    }


def unseen(_event):
    pass


def test_a_comparison_runs_both_and_says_what_the_difference_is_worth(tmp_path, digits, capsys):
    body = {"student": {"architecture": "cifar/resnet8"}, "dataset": str(digits), "threads": 1}
    sides = [
        compare_runs.load_or_run(
            RunSpec(body | {"training": QUICK, "seed": seed}, tmp_path, tmp_path / name),
            unseen,
            CancellationToken(),
        )
        for name, seed in (("a", 0), ("b", 1))
    ]
    found = compare_runs.compare_runs(*sides)
    assert found["settings"] == {"seed": {"a": 0, "b": 1}}
    a, b = (side.report.student.top1 / 100 for side in sides)
    images = sides[0].data["counts"]["test"]
    expected = 100 * math.sqrt((a * (1 - a) + b * (1 - b)) / images)
    assert found["significance"]["standard_error"] == pytest.approx(expected)
    assert found["metrics"]["top1"]["difference"] == pytest.approx(100 * (b - a))
    assert found["metrics"]["num_params"]["difference"] == 0
    compare_runs.show_comparison(found, Console(width=200))
    assert found["significance"]["statement"] in capsys.readouterr().out

    other = sides[1]._replace(data=sides[1].data | {"digest": "0" * 64})
    assert "cannot be compared" in compare_runs.significance(sides[0], other)["statement"]


def test_of_several_seeds_their_deviation_counts(taught):
    data = {"digest": "x", "counts": {"test": 100}}
    seeds = taught.report.seeds

    def side(mean, std):
        spread = seeds.student_top1.model_copy(update={"mean": mean, "std": std})
        told = seeds.model_copy(update={"num_seeds": 4, "student_top1": spread})
        report = taught.report.model_copy(update={"seeds": told})
        return compare_runs.ComparedRun(RunSpec({}, taught.path, taught.path), report, {}, data)

    found = compare_runs.significance(side(90.0, 3.0), side(96.0, 4.0))
    assert found["basis"] == "seeds"
    assert found["standard_error"] == pytest.approx(2.5)
    assert "2.4 standard errors of 2.50" in found["statement"]
    assert "more than chance" in found["statement"]


def test_control_c_keeps_a_checkpoint_and_says_how_to_go_on(tmp_path, digits, alone):
    body = {"student": {"architecture": "cifar/resnet8"}, "dataset": str(digits), "threads": 1}
    body |= {"training": {"epochs": 2000, "batch_size": 64}}
    (tmp_path / "long.json").write_text(json.dumps(body))
    process = subprocess.Popen(
        [sys.executable, "-m", "kdcore", "run", "long.json"],
        cwd=tmp_path,
        env=alone,
        stdout=subprocess.PIPE,
        text=True,
    )
    events = tmp_path / "long" / ".work" / "events.jsonl"
    deadline = time.monotonic() + 120
    while not (events.exists() and "val/top1" in events.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=180)
    assert process.returncode == ExitCode.STOPPED
    assert "To go on: python -m kdcore run long.json" in out
    assert list((tmp_path / "long" / ".work" / "checkpoints").glob("step-*.pt"))
