"""Folders, files and imports stay small enough to be found and read."""

import ast
import re
from collections import Counter, defaultdict
from pathlib import Path, PurePosixPath

from tests.house.source_tree import (
    find_import_cycle,
    import_graph,
    module_name,
    product_files,
)

MAX_SIBLINGS = 16
MAX_LINES = 400
MAX_FUNCTION_LINES = 40
MAX_SHARED_NAMES = 12
COLLECTIONS = re.compile(
    r"^kdcore/methods/[a-z0-9_]+\.py$|^kdcore/schemes/[a-z_]+\.py$|^kdcore/models/cifar/"
    r"|^kdcore/schema/(methods|schemes)/"
)
"""One file for each method, scheme and architecture: as many as there are."""
REGISTERED = re.compile(
    COLLECTIONS.pattern
    # Routes and resources, in api/app.py.
    + r"|(^|/)routes\.py$|^api/(admin|analysis)/|^api/datasets/images\.py"
    r"|^api/jobs/(actions|events|results)\.py"
    # Kinds of jobs, tables, formats of data sets, tasks of the maintenance process.
    r"|^worker/kinds/|^store/tables/|^kdcore/data/ingest/|^worker/maintenance/"
    # Commands: of people, and of the engine in kdcore/process/main.py and kdcore/__main__.py.
    r"|^stillhouse/commands/|^kdcore/cli/|^kdcore/process/|^kdcore/serving/predict_command\.py"
    r"|^kdcore/training/run\.py|^kdcore/(data/ingest/pipeline|weights/verify|export/convert)\.py"
    # Entry points that servers and users name: uvicorn, Celery, `from kdcore import distill`.
    r"|/__main__\.py$|^api/app\.py|^worker/celery_app\.py|^kdcore/api\.py"
    # Pages of the dashboard, in its router.
    r"|^dashboard/js/pages/[a-z-]+\.js$"
    # Subjects that a newcomer looks for by name.
    r"|/(class_weights|out_of_memory|nan_detection|lr_schedule|int8_teacher)\.py$"
)
"""Modules that one list names, and entry points: one importer is right for them."""
FREE_NAMES = frozenset(
    {"__init__", "__main__", "base", "routes", "schemas", "service", "serializers"}
    | {"types", "registry", "errors"}
)
BOTH_ENDS = {
    "convert": "the kind of job, and the engine's command that does it",
    "events": "what the engine reports, and the route that shows it",
    "prewarm": "the process that waits, and the worker that starts it",
    "verify": "the kind of job, and the engine's command that does it",
    "workers": "the rows of the workers, and the route that shows them",
}
"""Module names that stand in two rooms, each with the one thing whose ends they are."""


PUBLISHED_PARTS = {
    "store.jobs": ("store.jobs.claim", "store.jobs.run_transitions", "store.jobs.user_transitions")
}
"""Packages whose ``__init__`` publishes the functions of these modules: its importers use them."""


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
    graph = import_graph(root)
    importers: dict[str, set[str]] = defaultdict(set)
    for module, targets in graph.items():
        for target in targets:
            importers[target].add(module)
            for part in PUBLISHED_PARTS.get(target, ()):
                importers[part].add(module)
    modules = {
        module_name(path): path
        for path in product_files(root)
        if not path.endswith("__init__.py") and not REGISTERED.search(path)
    }
    single = sorted(module for module in modules if len(importers[module]) == 1)
    assert len(single) < max(45, len(graph) // 8), "\n".join(single)


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
    paths: dict[str, list[str]] = defaultdict(list)
    for path in product_files(root):
        stem = PurePosixPath(path).stem
        if stem not in FREE_NAMES and not COLLECTIONS.match(path) and path.endswith(".py"):
            paths[stem].append(path)
    shared = {name: files for name, files in paths.items() if len(files) > 1}
    in_one_room = {
        name: files
        for name, files in shared.items()
        if len({path.split("/")[0] for path in files}) < len(files)
    }
    assert not in_one_room
    assert set(shared) == set(BOTH_ENDS)
    assert len(BOTH_ENDS) <= MAX_SHARED_NAMES
