"""The command line: `stillhouse up` and friends. Each command loads what it needs when called."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    name="stillhouse",
    help="Knowledge distillation as a service: post a teacher, get back a small tested network.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback()
def _root() -> None:
    """Knowledge distillation as a service: post a teacher, get back a small tested network."""


@app.command()
def up(
    data_dir: Annotated[
        Path | None,
        typer.Option(
            help="Where everything is kept: database, queue, objects, logs, keys. "
            "[default: $XDG_DATA_HOME/stillhouse, else ~/.local/share/stillhouse]"
        ),
    ] = None,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="The port to listen on; 0 takes a free one.")
    ] = 8000,
    workers: Annotated[
        int, typer.Option(min=1, max=64, help="How many jobs train at the same time.")
    ] = 1,
) -> None:
    """Run the whole product on this machine until Ctrl-C."""
    from stillhouse.local.data_dir import default_data_dir
    from stillhouse.local.up import ForegroundStack

    sys.exit(ForegroundStack(data_dir or default_data_dir(), host, port, workers).run())


@app.command()
def demo(
    output: Annotated[Path, typer.Option(help="Where the student and its papers are put.")] = Path(
        "demo-output"
    ),
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave everything running at the end.")
    ] = False,
    epochs: Annotated[int, typer.Option(min=1, help="Epochs of each training.")] = 30,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 0,
) -> None:
    """Train a teacher on digits, distil it, download the student, check it: the whole product."""
    from stillhouse.demo import main

    sys.exit(main(output, keep=keep, epochs=epochs, port=port))


Output = Annotated[
    Path | None, typer.Option(help="Wait, then put everything that the job has published here.")
]


@app.command()
def submit(
    job: Annotated[
        Path, typer.Argument(help="A JSON file as POST /v1/jobs takes it; - for stdin.")
    ],
    wait: Annotated[bool, typer.Option("--wait", help="Return when the job has ended.")] = False,
    output: Output = None,
) -> None:
    """Post a job to STILLHOUSE_URL with STILLHOUSE_API_KEY; by default to this machine's stack."""
    from stillhouse import job_commands

    sys.exit(job_commands.submit(job, wait=wait, output=output))


@app.command()
def wait(
    job: Annotated[str, typer.Argument(help="The id of a job.")], output: Output = None
) -> None:
    """Wait for a job: exit code 0 if it has succeeded, 1 if not."""
    from stillhouse import job_commands

    sys.exit(job_commands.wait_for_job(job, output=output))


JobId = Annotated[str, typer.Argument(help="The id of a job.")]


@app.command()
def cancel(job: JobId) -> None:
    """End a job: at once where it waits, else as soon as its worker hears of it."""
    _run_action(job, "cancel")


@app.command()
def pause(job: JobId) -> None:
    """Let a job rest: it keeps a checkpoint, and its worker is free for others."""
    _run_action(job, "pause")


@app.command()
def resume(job: JobId) -> None:
    """Let a paused job go on where it was."""
    _run_action(job, "resume")


@app.command()
def retry(job: JobId) -> None:
    """Give a failed job another run, from its last checkpoint on."""
    _run_action(job, "retry")


def _run_action(job: str, action: str) -> None:
    from stillhouse import job_commands

    sys.exit(job_commands.run_action(job, action))


if __name__ == "__main__":
    app()
