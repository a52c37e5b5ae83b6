"""Which modules only one other imports, and which of them a registry names."""

import ast
import re
from collections import defaultdict
from pathlib import Path

from tests.house.source_tree import import_graph, module_name, product_files

COLLECTIONS = re.compile(
    r"^kdcore/methods/(?!base\.)[a-z0-9_]+\.py$|^kdcore/schemes/(?!base\.|planner\.)[a-z_]+\.py$"
    r"|^kdcore/models/cifar/|^kdcore/schema/(methods|schemes)/(?!base\.)"
)
"""One file for each method, scheme and architecture: as many as there are."""
REGISTRIES = (
    ("api/app.py", "strings", r"^api\."),  # RESOURCES: routes
    ("dashboard/js/start.js", "imports", r"^dashboard/js/pages/[a-z-]+\.js$"),  # ROUTES
    ("worker/kinds/__init__.py", "search", r"^worker\.kinds\.(?!base$)"),  # kinds of jobs
    ("kdcore/data/ingest/formats/__init__.py", "strings", r"^kdcore\.data\.ingest\.formats\."),
    ("store/tables/__init__.py", "imports", r"^store\.tables\.(?!base$)"),
    # Commands: of the engine, of programs and people, of the face.
    ("kdcore/process/main.py", "strings", r"^kdcore\."),
    ("kdcore/__main__.py", "imports", r"^kdcore\."),
    ("kdcore/cli/user_commands.py", "imports", r"^kdcore\.cli\.(listing|compare_runs)$"),
    ("stillhouse/command_line.py", "imports", r"^stillhouse\.commands\."),
)
"""Files that name leaves of the tree, how they name them, and which of the names are leaves."""
NAMED_SUBJECTS = ("class_weights", "out_of_memory", "nan_detection", "lr_schedule", "int8_teacher")
"""Subjects that a newcomer looks for by the name of a file."""


def counted_modules(root: Path) -> dict[str, str]:
    """Path of every product module that is no ``__init__`` and no part of a collection."""
    return {
        module_name(path): path
        for path in product_files(root)
        if not path.endswith("__init__.py") and not COLLECTIONS.match(path)
    }


def modules_with_one_importer(root: Path) -> list[str]:
    """Counted modules that one other product module imports; registered leaves are left out."""
    modules = counted_modules(root)
    importers = importers_of_modules(root)
    leaves = registered_leaves(root, modules)
    return sorted(
        module
        for module in modules
        if len(importers[module]) == 1
        and module not in leaves
        and Path(modules[module]).stem not in NAMED_SUBJECTS
    )


def importers_of_modules(root: Path) -> dict[str, set[str]]:
    """The modules that import each module, lazy imports included.

    Who uses a name that the ``__init__`` of a package publishes imports the module that defines it.
    Where there are such modules, the ``__init__`` itself does not count.
    """
    importers: dict[str, set[str]] = defaultdict(set)
    for module, targets in import_graph(root).items():
        for target in targets:
            importers[target].add(module)
    published = _published_names(root)
    for path in product_files(root):
        if path.endswith(".py"):
            for package, name in _package_names(root, path, published):
                module = published[package].get(name)
                if module is not None and not module_name(path).startswith(f"{package}."):
                    importers[module].discard(package)
                    importers[module].add(module_name(path))
    return importers


def registered_leaves(root: Path, modules: dict[str, str]) -> set[str]:
    """Modules that one of :data:`REGISTRIES` names by strings or imports, or finds by search."""
    graph = import_graph(root)
    leaves: set[str] = set()
    for registry, naming, pattern in REGISTRIES:
        if naming == "imports":
            names = graph[module_name(registry)]
        elif naming == "strings":
            names = _names_in_strings(root, registry)
        else:
            names = set(modules)
        leaves |= {name for name in names & modules.keys() if re.search(pattern, name)}
    return leaves


def _names_in_strings(root: Path, registry: str) -> set[str]:
    package = registry.rpartition("/")[0].replace("/", ".")
    strings = [
        node.value
        for node in ast.walk(ast.parse((root / registry).read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    # "kdcore.training.run.run_job" names a function of a module, "jobs.routes" a part of a package.
    return {name for value in strings for name in (f"{package}.{value}", value.rpartition(".")[0])}


def _published_names(root: Path) -> dict[str, dict[str, str]]:
    """For each package, the names that its ``__init__`` imports from its modules."""
    published: dict[str, dict[str, str]] = {}
    for path in product_files(root):
        if path.endswith("__init__.py"):
            package = module_name(path)
            published[package] = {
                alias.asname or alias.name: node.module
                for node in ast.walk(ast.parse((root / path).read_text()))
                if isinstance(node, ast.ImportFrom)
                and node.module
                and node.module.startswith(f"{package}.")
                for alias in node.names
            }
    return published


def _package_names(
    root: Path, path: str, published: dict[str, dict[str, str]]
) -> set[tuple[str, str]]:
    """Package and name of ``from package import name``, and of ``package.name``."""
    tree = ast.parse((root / path).read_text())
    names: set[tuple[str, str]] = set()
    packages: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                names.add((node.module, alias.name))
                packages[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            names.add((packages.get(node.value.id, ""), node.attr))
    return {(package, name) for package, name in names if package in published}
