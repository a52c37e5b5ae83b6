"""The project's own source as a graph: files, modules, imports, and the names that they define."""

import ast
import re
import subprocess
from collections.abc import Container, Iterator
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

ROOMS = ("api", "store", "worker", "kdcore", "stillhouse")
_JS_IMPORT = re.compile(r"""(?:\bfrom|\bimport)\s*\(?\s*["'](\.[^"']+)["']""")
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(frozen=True)
class DefinedName:
    """A name that a file defines, with its line."""

    path: str
    line: int
    name: str


def tracked_files(root: Path, *suffixes: str) -> list[str]:
    """Files of the checkout with one of the suffixes: committed, or new and not ignored."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=root,
        capture_output=True,
        text=True,
        check=True,
    )
    names = sorted(set(listed.stdout.split("\0")))
    return [name for name in names if name.endswith(suffixes) and (root / name).is_file()]


def product_files(root: Path) -> list[str]:
    """Python files of the rooms and the dashboard's scripts."""
    return [
        path
        for path in tracked_files(root, ".py", ".js")
        if path.split("/")[0] in ROOMS or path.startswith("dashboard/js/")
    ]


def module_name(path: str) -> str:
    """Dotted name of a Python file; a script of the dashboard keeps its path."""
    if path.endswith(".js"):
        return path
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def import_graph(root: Path) -> dict[str, set[str]]:
    """Each product module with the product modules it imports, lazy imports included."""
    paths = {module_name(path): path for path in product_files(root)}
    graph: dict[str, set[str]] = {}
    for module, path in paths.items():
        text = (root / path).read_text()
        is_script = path.endswith(".js")
        imports = _js_imports(root, path, text) if is_script else _py_imports(text, paths)
        graph[module] = {name for name in imports if name in paths and name != module}
    return graph


def _py_imports(text: str, known: Container[str]) -> Iterator[str]:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                yield submodule if submodule in known else node.module


def _js_imports(root: Path, path: str, text: str) -> Iterator[str]:
    folder = (root / path).parent
    for target in _JS_IMPORT.findall(text):
        yield (folder / target).resolve().relative_to(root.resolve()).as_posix()


def find_import_cycle(graph: dict[str, set[str]]) -> list[str]:
    """Modules that import each other in a circle, the first again at the end; empty if none do."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return [str(module) for module in error.args[1]]
    return []


def python_names(root: Path, path: str) -> Iterator[DefinedName]:
    """Names that a Python file binds: definitions, parameters, variables, attributes, aliases."""
    for node in ast.walk(ast.parse((root / path).read_text())):
        line = getattr(node, "lineno", 0)
        if isinstance(node, (*_FUNCTIONS, ast.ClassDef)):
            yield DefinedName(path, line, node.name)
        elif isinstance(node, ast.arg):
            yield DefinedName(path, line, node.arg)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield DefinedName(path, line, node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield DefinedName(path, line, node.attr)
        elif isinstance(node, ast.alias) and node.asname:
            yield DefinedName(path, line, node.asname)
        elif isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar) and node.name:
            yield DefinedName(path, line, node.name)


def python_functions(root: Path, path: str) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Every function and method of a Python file."""
    for node in ast.walk(ast.parse((root / path).read_text())):
        if isinstance(node, _FUNCTIONS):
            yield node
