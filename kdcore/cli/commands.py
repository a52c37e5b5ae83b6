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

from kdcore.cli import listing as catalogue
from kdcore.protocol.requests import Exit, Request
from kdcore.runtime import limits
from kdcore.runtime.errors import Stopped, UserFault

if TYPE_CHECKING:
    # Tables of what there is need no numpy, and no torch, which it loads.
    from kdcore.recipes.runner import Order


def main(arguments: list[str]) -> int:
    """Run one command and return its exit code."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.does(options))
    except UserFault as fault:
        _refused(fault, Console(stderr=True))
        return Exit.USER_FAULT


def _run(options: argparse.Namespace) -> int:
    from kdcore.recipes.runner import perform, read

    order = read(options.recipe, options.out, fresh=options.fresh)
    console = Console()
    code = _guarded(
        lambda watch, stop: perform(_moved(order, options), watch, stop), order, console
    )
    if code == Exit.DONE:
        from kdcore.cli.summary import show
        from kdcore.schema.report import Report

        show(
            Report.model_validate_json((order.out / "report.json").read_bytes()), order.out, console
        )
    return code


def _compare(options: argparse.Namespace) -> int:
    from kdcore.cli.compare_runs import Side, compared, show
    from kdcore.recipes.runner import read

    orders = [read(path) for path in options.recipes]
    if orders[0].out == orders[1].out:
        raise UserFault(
            "recipe_invalid", "two recipes of one name have one output folder; rename one"
        )
    sides: list[Side] = []
    # The progress is for the eyes; the result may be for a program.
    screen = Console(stderr=options.json)
    for order in orders:
        moved = _moved(order, options)
        code = _guarded(
            functools.partial(_one_side, sides, moved),
            order,
            screen,
        )
        if code != Exit.DONE:
            return code
    found = compared(*sides)
    if options.json:
        sys.stdout.write(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    else:
        show(found, Console())
    return Exit.DONE


def _one_side(sides: list[Any], order: "Order", watch: Any, stop: Any) -> None:
    from kdcore.cli.compare_runs import carried_out

    sides.append(carried_out(order, watch, stop))


def _guarded(work: Callable[[Any, Any], object], order: "Order", console: Console) -> int:
    """Do ``work`` with a view and the signals; every end has an exit code."""
    from kdcore.cli.progress import View
    from kdcore.process.main import ending
    from kdcore.runtime.cancellation import Stop
    from kdcore.runtime.event_writer import EventWriter

    # Before torch is loaded: it reads the number of its threads then.
    limits.apply(Request(threads=_threads(order.body)))
    stop = Stop()
    with tempfile.TemporaryDirectory() as scratch, View(console) as view, stop.listening():
        try:
            work(view, stop)
        except Stopped:
            again = f"python -m kdcore {' '.join(sys.argv[1:])}"
            message = f"stopped; what is done is kept in {order.out}. To go on: {again}"
            console.print(Text(message), soft_wrap=True)
            return Exit.STOPPED
        except BaseException as error:  # noqa: BLE001 - the last stop, as in the process itself
            return ending(error, EventWriter(Path(scratch, "end.jsonl"), Path(scratch), view))
    return Exit.DONE


def _moved(order: "Order", options: argparse.Namespace) -> "Order":
    """The order with what the command line says of where it runs."""
    said = {k: v for k in ("device", "threads") if (v := getattr(options, k)) is not None}
    body = order.body | said if isinstance(order.body, dict) else order.body
    return order._replace(body=body)


def _threads(body: object) -> int | None:
    given = body.get("threads") if isinstance(body, dict) else None
    return given if type(given) is int and given > 0 else None


def _listing(show: Callable[[str | None, Console], None]) -> Callable[[argparse.Namespace], int]:
    def listed(options: argparse.Namespace) -> int:
        show(options.name, Console())
        return Exit.DONE

    return listed


def _refused(fault: UserFault, console: Console) -> None:
    for line in (fault.message, *(f"  {i.name}: {i.detail}" for i in fault.items), fault.hint):
        if line:
            console.print(Text(line), soft_wrap=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m kdcore", description="Teach small networks.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    here = argparse.ArgumentParser(add_help=False)
    here.add_argument("--device", help="auto, cpu, cuda, cuda:1; default: the recipe's")
    here.add_argument("--threads", type=int, help="of one operator; default: the recipe's")

    run = commands.add_parser("run", parents=[here], help="carry out a recipe, or go on with it")
    run.add_argument("recipe", type=Path, help="a recipe as JSON")
    run.add_argument("--out", type=Path, help="default: the recipe's name in the current folder")
    run.add_argument("--fresh", action="store_true", help="forget what an earlier run left there")
    run.set_defaults(does=_run)

    compare = commands.add_parser("compare", parents=[here], help="run two recipes and compare")
    compare.add_argument("recipes", type=Path, nargs=2, metavar="RECIPE")
    compare.add_argument("--json", action="store_true", help="the result as JSON on stdout")
    compare.set_defaults(does=_compare)

    for name, show, what in (
        ("methods", catalogue.methods, "what can be distilled"),
        ("schemes", catalogue.schemes, "how training can be arranged"),
        ("networks", catalogue.networks, "what can be trained"),
    ):
        listing = commands.add_parser(name, help=what)
        listing.add_argument("name", nargs="?", help="one, or for networks a part of the name")
        listing.set_defaults(does=_listing(show))
    # Named for --help alone: with --workdir, kdcore.process takes them before this parser does.
    for name in ("ingest", "verify", "convert"):
        commands.add_parser(name, help="for programs: REQUEST.json --workdir DIR")
    commands.add_parser("predict", help="for programs: REQUEST.json")
    return parser
