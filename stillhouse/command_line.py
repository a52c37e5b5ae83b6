"""The command line: `stillhouse up`, `demo`, `submit` and others. Commands import on use."""

from __future__ import annotations

import sys
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated, TextIO

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
    for stream in (sys.stdout, sys.stderr):
        _print_any_text(stream)


def _print_any_text(stream: TextIO) -> None:
    """Let a stream print names of files and messages in every locale."""
    if not isinstance(stream, TextIOWrapper):
        return
    if stream.encoding.lower().replace("_", "-") in ("ascii", "us-ascii", "ansi-x3.4-1968"):
        # The locale C says nothing about the terminal, and nearly every terminal shows UTF-8.
        stream.reconfigure(encoding="utf-8", errors="surrogateescape")
    else:
        stream.reconfigure(errors="backslashreplace")


@app.command()
def up(
    data_dir: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the database, queue, files, logs and keys. Default: stillhouse in the "
            "user's data folder: ~/.local/share/stillhouse on Linux, ~/Library/Application "
            "Support/stillhouse on macOS."
        ),
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")
    ] = 8000,
    workers: Annotated[
        int, typer.Option(min=1, max=64, help="Number of jobs that train at the same time.")
    ] = 1,
) -> None:
    """Run the whole product on this machine until Ctrl-C."""
    from stillhouse.commands.up import main

    sys.exit(main(data_dir, host, port, workers))


@app.command()
def demo(
    output: Annotated[Path, typer.Option(help="Folder for the student and its report.")] = Path(
        "demo-output"
    ),
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep the stack running at the end, until Ctrl-C.")
    ] = False,
    epochs: Annotated[int, typer.Option(min=1, help="Epochs of each training.")] = 30,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free port.")] = 0,
) -> None:
    """Train a teacher on digits, distill it, download the student and check it."""
    from stillhouse.commands.demo import main

    sys.exit(main(output, keep=keep, epochs=epochs, port=port))


Output = Annotated[
    Path | None, typer.Option(help="Wait for the job, then download its files into this folder.")
]
JobId = Annotated[str, typer.Argument(help="The id of a job.")]


@app.command()
def submit(
    job: Annotated[
        Path, typer.Argument(help="A JSON file with the body of POST /v1/jobs; - for stdin.")
    ],
    wait: Annotated[bool, typer.Option("--wait", help="Wait until the job has ended.")] = False,
    output: Output = None,
) -> None:
    """Submit a job and print its id.

    STILLHOUSE_URL and STILLHOUSE_API_KEY name the service; the default is this machine's stack.
    """
    from stillhouse.commands import job_commands

    sys.exit(job_commands.submit(job, wait=wait, output=output))


@app.command()
def dataset(
    name: Annotated[str, typer.Argument(help="The name of the data set.")],
    file: Annotated[
        Path | None, typer.Argument(help="A file to upload, such as a zip of images.")
    ] = None,
    source: Annotated[
        str | None,
        typer.Option(
            help="Instead of a file: builtin:digits, torchvision:CIFAR10, folder:/data/x on the "
            "server, or s3://bucket/prefix."
        ),
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until it is ready.")] = False,
) -> None:
    """Create a data set and print its id; with --wait, the exit code is 1 if it failed."""
    from stillhouse.commands import job_commands

    sys.exit(job_commands.create_dataset(name, file=file, source=source, wait=wait))


@app.command()
def wait(job: JobId, output: Output = None) -> None:
    """Wait for a job; the exit code is 1 if it failed or its student is not accepted."""
    from stillhouse.commands import job_commands

    sys.exit(job_commands.wait_for_job(job, output=output))


@app.command()
def cancel(job: JobId) -> None:
    """Cancel a job. A running job stops within seconds."""
    _run_action(job, "cancel")


@app.command()
def pause(job: JobId) -> None:
    """Pause a job: its worker writes a checkpoint and takes another job."""
    _run_action(job, "pause")


@app.command()
def resume(job: JobId) -> None:
    """Resume a paused job from its checkpoint."""
    _run_action(job, "resume")


@app.command()
def retry(job: JobId) -> None:
    """Run a failed job again, from its last checkpoint."""
    _run_action(job, "retry")


def _run_action(job: str, action: str) -> None:
    from stillhouse.commands import job_commands

    sys.exit(job_commands.run_action(job, action))


if __name__ == "__main__":
    app()
