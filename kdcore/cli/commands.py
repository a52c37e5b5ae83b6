"""The commands for people. Exit codes: :class:`kdcore.protocol.requests.Exit`."""

import argparse
import functools
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from kdcore.cli import listing as catalog
from kdcore.protocol.requests import EngineRequest, ExitCode
from kdcore.runtime import limits
from kdcore.runtime.errors import RunCancelledError, UserError

if TYPE_CHECKING:
    # Tables of what there is need no numpy, and no torch, which it loads.
    from kdcore.recipes.runner import RunSpec


def main(arguments: list[str]) -> int:
    """Run one command and return its exit code."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.does(options))
    except UserError as error:
        _print_error(error, Console(stderr=True))
        return ExitCode.USER_ERROR


def _run(options: argparse.Namespace) -> int:
    from kdcore.recipes.runner import read_recipe, run_recipe

    run_spec = read_recipe(options.recipe, options.out, fresh=options.fresh)
    console = Console()
    code = _run_guarded(
        lambda on_event, cancellation: run_recipe(
            _apply_overrides(run_spec, options), on_event, cancellation
        ),
        run_spec,
        console,
    )
    if code == ExitCode.DONE:
        from kdcore.cli.summary import show_report
        from kdcore.schema.report import Report

        show_report(
            Report.model_validate_json((run_spec.out / "report.json").read_bytes()),
            run_spec.out,
            console,
        )
    return code


def _compare(options: argparse.Namespace) -> int:
    from kdcore.cli.compare_runs import ComparedRun, compare_runs, show_comparison
    from kdcore.recipes.runner import read_recipe

    run_specs = [read_recipe(path) for path in options.recipes]
    if run_specs[0].out == run_specs[1].out:
        raise UserError("job_invalid", "two recipes of one name have one output folder; rename one")
    runs: list[ComparedRun] = []
    # The progress is for the eyes; the result may be for a program.
    progress_console = Console(stderr=options.json)
    for run_spec in run_specs:
        overridden = _apply_overrides(run_spec, options)
        code = _run_guarded(
            functools.partial(_append_run, runs, overridden),
            run_spec,
            progress_console,
        )
        if code != ExitCode.DONE:
            return code
    comparison = compare_runs(*runs)
    if options.json:
        sys.stdout.write(json.dumps(comparison, indent=1, ensure_ascii=False) + "\n")
    else:
        show_comparison(comparison, Console())
    return ExitCode.DONE


def _append_run(runs: list[Any], run_spec: "RunSpec", on_event: Any, cancellation: Any) -> None:
    from kdcore.cli.compare_runs import load_or_run

    runs.append(load_or_run(run_spec, on_event, cancellation))


def _run_guarded(work: Callable[[Any, Any], object], run_spec: "RunSpec", console: Console) -> int:
    """Do ``work`` with a view and the signals; every end has an exit code."""
    from kdcore.cli.progress import ProgressView
    from kdcore.runtime.cancellation import CancellationToken
    from kdcore.runtime.event_writer import EventWriter
    from kdcore.runtime.exit_codes import report_failure

    # Before torch is loaded: it reads the number of its threads then.
    limits.apply_limits(EngineRequest(threads=_threads(run_spec.body)))
    cancellation = CancellationToken()
    with (
        tempfile.TemporaryDirectory() as scratch,
        ProgressView(console) as view,
        cancellation.handle_signals(),
    ):
        try:
            work(view, cancellation)
        except RunCancelledError:
            again = f"python -m kdcore {' '.join(sys.argv[1:])}"
            message = f"stopped; what is done is kept in {run_spec.out}. To go on: {again}"
            console.print(Text(message), soft_wrap=True)
            return ExitCode.STOPPED
        except BaseException as error:  # noqa: BLE001 - the last stop, as in the process itself
            return report_failure(
                error, EventWriter(Path(scratch, "end.jsonl"), Path(scratch), view)
            )
    return ExitCode.DONE


def _apply_overrides(run_spec: "RunSpec", options: argparse.Namespace) -> "RunSpec":
    """The order with what the command line says of where it runs."""
    overrides = {k: v for k in ("device", "threads") if (v := getattr(options, k)) is not None}
    body = run_spec.body | overrides if isinstance(run_spec.body, dict) else run_spec.body
    return run_spec._replace(body=body)


def _threads(body: object) -> int | None:
    threads = body.get("threads") if isinstance(body, dict) else None
    return threads if type(threads) is int and threads > 0 else None


def _listing_command(
    show: Callable[[str | None, Console], None],
) -> Callable[[argparse.Namespace], int]:
    def print_listing(options: argparse.Namespace) -> int:
        show(options.name, Console())
        return ExitCode.DONE

    return print_listing


def _print_error(error: UserError, console: Console) -> None:
    for line in (error.message, *(f"  {i.name}: {i.detail}" for i in error.items), error.hint):
        if line:
            console.print(Text(line), soft_wrap=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m kdcore", description="Teach small networks.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    device_options = argparse.ArgumentParser(add_help=False)
    device_options.add_argument("--device", help="auto, cpu, cuda, cuda:1; default: the recipe's")
    device_options.add_argument(
        "--threads", type=int, help="of one operator; default: the recipe's"
    )

    run = commands.add_parser(
        "run", parents=[device_options], help="carry out a recipe, or go on with it"
    )
    run.add_argument("recipe", type=Path, help="a recipe as JSON")
    run.add_argument("--out", type=Path, help="default: the recipe's name in the current folder")
    run.add_argument("--fresh", action="store_true", help="forget what an earlier run left there")
    run.set_defaults(does=_run)

    compare = commands.add_parser(
        "compare", parents=[device_options], help="run two recipes and compare"
    )
    compare.add_argument("recipes", type=Path, nargs=2, metavar="RECIPE")
    compare.add_argument("--json", action="store_true", help="the result as JSON on stdout")
    compare.set_defaults(does=_compare)

    for name, show, what in (
        ("methods", catalog.show_methods, "what can be distilled"),
        ("schemes", catalog.show_schemes, "how training can be arranged"),
        ("networks", catalog.show_networks, "what can be trained"),
    ):
        list_parser = commands.add_parser(name, help=what)
        list_parser.add_argument("name", nargs="?", help="one, or for networks a part of the name")
        list_parser.set_defaults(does=_listing_command(show))
    # Named for --help alone: with --workdir, kdcore.process takes them before this parser does.
    for name in ("ingest", "verify", "convert"):
        commands.add_parser(name, help="for programs: REQUEST.json --workdir DIR")
    commands.add_parser("predict", help="for programs: REQUEST.json")
    return parser
