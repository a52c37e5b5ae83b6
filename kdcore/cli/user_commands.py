"""The commands of ``python -m kdcore``. Exit codes: :class:`kdcore.protocol.requests.ExitCode`.

Commands import what they need when they run, because listings must load neither numpy nor torch.
"""

import functools
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.text import Text

from kdcore.protocol.requests import EngineRequest, ExitCode
from kdcore.runtime import limits
from kdcore.runtime.errors import RunCancelledError, UserError, describe_repair

if TYPE_CHECKING:
    from kdcore.cli.compare_runs import ComparedRun
    from kdcore.recipes.runner import EventCallback, RunSpec
    from kdcore.runtime.cancellation import CancellationToken

app = typer.Typer(
    name="kdcore",
    help="Train small networks with the help of large ones.",
    epilog="Programs pass requests (kdcore.protocol.requests): run REQUEST.json --workdir DIR.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

RecipeFile = Annotated[Path, typer.Argument(help="A recipe as JSON.")]
Device = Annotated[
    str | None, typer.Option(help="auto, cpu, mps, cuda or cuda:1. Default: the recipe's.")
]
Threads = Annotated[
    int | None, typer.Option(help="Threads of one operator. Default: the recipe's.")
]
EntryName = Annotated[str | None, typer.Argument(help="Show everything about this entry.")]


def main(arguments: list[str]) -> int:
    """Run one command and return its exit code."""
    try:
        app(arguments, prog_name="python -m kdcore")
    except SystemExit as end:
        return int(end.code or 0)
    except UserError as error:
        _print_error(error, Console(stderr=True))
        return ExitCode.USER_ERROR
    return ExitCode.DONE


@app.command()
def run(
    recipe: RecipeFile,
    out: Annotated[
        Path | None,
        typer.Option(help="Output folder. Default: the recipe's name in the current folder."),
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Delete what an earlier run left in the folder.")
    ] = False,
    device: Device = None,
    threads: Threads = None,
) -> None:
    """Run a recipe, or resume it from its checkpoint."""
    from kdcore.cli.summary import show_report
    from kdcore.recipes.run_directory import RunDirectory
    from kdcore.recipes.runner import read_recipe, run_recipe
    from kdcore.schema.report import Report

    run_spec = _with_overrides(read_recipe(recipe, out, fresh=fresh), device, threads)
    console = Console()
    _run_guarded(functools.partial(run_recipe, run_spec), run_spec, console)
    report = Report.model_validate(RunDirectory(run_spec.out).read_report())
    show_report(report, run_spec.out, console)


@app.command()
def compare(
    recipe_a: RecipeFile,
    recipe_b: RecipeFile,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the comparison as JSON on standard output.")
    ] = False,
    device: Device = None,
    threads: Threads = None,
) -> None:
    """Run two recipes, unless they are finished, and compare their settings and metrics."""
    from kdcore.cli.compare_runs import compare_runs, show_comparison
    from kdcore.recipes.runner import read_recipe

    run_specs = [
        _with_overrides(read_recipe(path), device, threads) for path in (recipe_a, recipe_b)
    ]
    if run_specs[0].out == run_specs[1].out:
        raise UserError(
            "job_invalid",
            f"both recipes are named {run_specs[0].out} and would share one output folder",
            hint="Rename one of the two files.",
        )
    runs: list[ComparedRun] = []
    # Standard output is for the comparison, which a program may read.
    progress_console = Console(stderr=as_json)
    for run_spec in run_specs:
        _run_guarded(functools.partial(_append_run, runs, run_spec), run_spec, progress_console)
    comparison = compare_runs(*runs)
    if as_json:
        sys.stdout.write(json.dumps(comparison, indent=1, ensure_ascii=False) + "\n")
    else:
        show_comparison(comparison, Console())


@app.command()
def methods(name: EntryName = None) -> None:
    """List the distillation methods, or show one with its parameters."""
    from kdcore.cli.listing import show_methods

    show_methods(name, Console())


@app.command()
def schemes(name: EntryName = None) -> None:
    """List the training schemes, or show one with its parameters."""
    from kdcore.cli.listing import show_schemes

    show_schemes(name, Console())


@app.command()
def networks(
    name: Annotated[
        str | None, typer.Argument(help="A part of the name, or a pattern such as 'cifar/*'.")
    ] = None,
) -> None:
    """List the architectures, or show one with its feature layers."""
    from kdcore.cli.listing import show_networks

    show_networks(name, Console())


def _add_program_command(name: str, usage: str) -> None:
    """Add a command to ``--help``: ``kdcore.__main__`` hands complete calls to kdcore.process."""

    def reject_incomplete_call(
        _request: Annotated[Path, typer.Argument(metavar="REQUEST")],
    ) -> None:
        raise typer.BadParameter(f"usage: python -m kdcore {name} {usage}")

    app.command(name, help=f"For programs: {usage}.")(reject_incomplete_call)


for _name in ("ingest", "verify", "convert"):
    _add_program_command(_name, "REQUEST.json --workdir DIR")
_add_program_command("predict", "REQUEST.json")


def _append_run(
    runs: "list[ComparedRun]",
    run_spec: "RunSpec",
    on_event: "EventCallback",
    cancellation: "CancellationToken",
) -> None:
    from kdcore.cli.compare_runs import load_or_run

    runs.append(load_or_run(run_spec, on_event, cancellation))


def _run_guarded(
    work: "Callable[[EventCallback, CancellationToken], object]",
    run_spec: "RunSpec",
    console: Console,
) -> None:
    """Call ``work`` with a progress view; exit with the code of whatever it raises."""
    from kdcore.cli.progress import ProgressView
    from kdcore.runtime.cancellation import CancellationToken
    from kdcore.runtime.event_writer import EventWriter
    from kdcore.runtime.exit_codes import report_failure

    # Before torch is loaded, because torch reads the number of threads at its import.
    limits.apply_limits(EngineRequest(threads=_threads(run_spec.body)))
    cancellation = CancellationToken()
    with (
        tempfile.TemporaryDirectory() as scratch,
        ProgressView(console) as view,
        cancellation.handle_signals(),
    ):
        try:
            work(view, cancellation)
        except RunCancelledError as error:
            command = f"python -m kdcore {' '.join(sys.argv[1:])}"
            message = f"stopped with a checkpoint in {run_spec.out}. To resume: {command}"
            console.print(Text(message), soft_wrap=True)
            raise typer.Exit(ExitCode.STOPPED) from error
        except BaseException as error:  # every other end has an exit code, too
            events = EventWriter(Path(scratch, "end.jsonl"), Path(scratch), view)
            raise typer.Exit(report_failure(error, events)) from error


def _with_overrides(run_spec: "RunSpec", device: str | None, threads: int | None) -> "RunSpec":
    """Return ``run_spec`` with the command line's device and threads in its recipe."""
    if not isinstance(run_spec.body, dict):
        return run_spec
    options = {"device": device, "threads": threads}
    overrides = {name: value for name, value in options.items() if value is not None}
    return run_spec._replace(body=run_spec.body | overrides)


def _threads(body: object) -> int | None:
    threads = body.get("threads") if isinstance(body, dict) else None
    return threads if type(threads) is int and threads > 0 else None


def _print_error(error: UserError, console: Console) -> None:
    items = (f"  {item.name}: {item.detail}" for item in error.items)
    repair = describe_repair(error.fix, error.likely_class_order)
    lines = (error.message, *items, error.hint, *repair)
    for line in lines:
        if line:
            console.print(Text(line), soft_wrap=True)
