"""Commands of ``python -m kdcore`` for people and for programs."""

import json
import signal
import subprocess
import sys

import pytest

from kdcore.__main__ import main
from kdcore.protocol.requests import ExitCode
from tests.helpers import wait_until
from tests.kdcore.recipe_runs import digits_recipe


def test_run_with_workdir_reads_the_request_of_a_program(tmp_path):
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


@pytest.mark.parametrize("command", ["ingest", "verify", "convert"])
def test_commands_of_programs_require_a_workdir(command, capsys):
    assert main([command, "request.json"]) == 2
    assert "--workdir DIR" in capsys.readouterr().err


def test_help_lists_all_commands(capsys):
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    for command in ("run", "compare", "methods", "schemes", "networks", "ingest", "predict"):
        assert command in out


def test_recipes_with_one_output_folder_cannot_be_compared(tmp_path, capsys):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "same.json").write_text("{}")
    recipes = [str(tmp_path / folder / "same.json") for folder in ("a", "b")]
    assert main(["compare", *recipes]) == ExitCode.USER_ERROR
    assert "would share one output folder" in capsys.readouterr().err


def test_interrupt_writes_a_checkpoint_and_prints_the_command_that_resumes(
    tmp_path, digits_store, subprocess_environment
):
    recipe = digits_recipe(digits_store, training={"epochs": 2000, "batch_size": 64})
    (tmp_path / "long.json").write_text(json.dumps(recipe))
    process = subprocess.Popen(
        [sys.executable, "-m", "kdcore", "run", "long.json"],
        cwd=tmp_path,
        env=subprocess_environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    events = tmp_path / "long" / ".work" / "events.jsonl"
    wait_until(
        lambda: events.exists() and "val/top1" in events.read_text(), 120, "the first validation"
    )
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=180)
    assert process.returncode == ExitCode.STOPPED
    assert "To resume: python -m kdcore run long.json" in out
    assert list((tmp_path / "long" / ".work" / "checkpoints").glob("step-*.pt"))
