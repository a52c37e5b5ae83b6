"""Folders, files and imports stay small enough to be found and read."""

import ast
from collections import Counter, defaultdict
from pathlib import Path, PurePosixPath

from tests.house.module_importers import (
    COLLECTIONS,
    counted_modules,
    importers_of_modules,
    modules_with_one_importer,
    registered_leaves,
)
from tests.house.source_tree import find_import_cycle, import_graph, product_files

MAX_SIBLINGS = 16
MAX_LINES = 400
MAX_FUNCTION_LINES = 40
MAX_SHARED_NAMES = 12
REPEATED = ("methods", "schemes")
"""Packages of kdcore.schema whose files have the names of those in kdcore."""
FREE_NAMES = frozenset(
    {"__init__", "__main__", "base", "routes", "schemas", "service", "serializers"}
    | {"types", "registry", "errors"}
)
BOTH_ENDS = {
    "catalog": "the schema of the built-in networks, and the resource that lists them",
    "convert": "the kind of job, and the engine's command that does it",
    "events": "what the engine reports, and the route that shows it",
    "ingest": "the kind of job, and the engine's command that does it",
    "jobs": "the resource, and the transitions of its rows",
    "models": "the resource, and the networks that its checkpoints are read into",
    "teacher_cache": "the files that the engine reads and writes, and the worker's copies of them",
    "teacher_caches": "the resource, and its rows",
    "validation": "the rules of a job, and the requests that are checked by them",
    "verify": "the kind of job, and the engine's command that does it",
    "workers": "the rows of the workers, and the route that shows them",
}
"""Module names that stand in two rooms, each with the one thing whose ends they are."""


def test_folders_are_small(root: Path) -> None:
    siblings = Counter(
        str(PurePosixPath(path).parent)
        for path in product_files(root)
        if not path.endswith("__init__.py") and not COLLECTIONS.match(path)
    )
    assert not {folder: num for folder, num in siblings.items() if num > MAX_SIBLINGS}


def test_files_are_short(root: Path) -> None:
    lines = {path: (root / path).read_text().count("\n") for path in product_files(root)}
    assert not {path: num for path, num in lines.items() if num > MAX_LINES}


def test_functions_are_short(root: Path) -> None:
    long_functions = [
        f"{path}:{node.name}"
        for path in product_files(root)
        if path.endswith(".py")
        for node in ast.walk(ast.parse((root / path).read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or 0) - node.lineno + 1 > MAX_FUNCTION_LINES
    ]
    assert not long_functions


def test_few_modules_have_one_importer(root: Path) -> None:
    """A module that one other imports is usually a part of it."""
    single = modules_with_one_importer(root)
    limit = max(45, len(counted_modules(root)) // 8)
    assert len(single) < limit, "\n".join((f"{len(single)} modules:", *single))


def test_importers_of_published_names_are_counted(root: Path) -> None:
    importers = importers_of_modules(root)
    assert "worker.finalize" in importers["store.jobs.run_transitions"]
    assert "store.jobs" not in importers["store.jobs.run_transitions"]
    # A lazy import, and one by a string of a registry.
    assert importers["stillhouse.commands.up"] == {"stillhouse.command_line"}
    leaves = registered_leaves(root, counted_modules(root))
    assert {"stillhouse.commands.up", "api.jobs.routes", "kdcore.training.run"} <= leaves
    assert not {"api.jobs.estimate", "api.app", "kdcore.data.ingest.base"} & leaves


def test_modules_do_not_import_in_circles(root: Path) -> None:
    assert not find_import_cycle(import_graph(root))


def test_public_class_names_are_unique(root: Path) -> None:
    paths: dict[str, list[str]] = defaultdict(list)
    for path in product_files(root):
        if path.endswith(".py"):
            for node in ast.walk(ast.parse((root / path).read_text())):
                if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                    paths[node.name].append(path)
    assert not {name: files for name, files in paths.items() if len(files) > 1}


def test_module_names_are_unique(root: Path) -> None:
    """Names of modules, packages and scripts; a package of methods or schemes is free, too."""
    paths: dict[str, set[str]] = defaultdict(set)
    for path in product_files(root):
        file = PurePosixPath(path)
        if file.stem not in FREE_NAMES and not COLLECTIONS.match(path):
            paths[file.stem].add(path)
        package = str(file.parent)
        if path.endswith("__init__.py") and "/" in package and file.parent.name not in REPEATED:
            paths[file.parent.name].add(package)
    shared = {name: files for name, files in paths.items() if len(files) > 1}
    in_one_room = {
        name: files
        for name, files in shared.items()
        if len({path.split("/")[0] for path in files}) < len(files)
    }
    assert not in_one_room
    assert set(shared) == set(BOTH_ENDS), shared
    assert len(BOTH_ENDS) <= MAX_SHARED_NAMES
