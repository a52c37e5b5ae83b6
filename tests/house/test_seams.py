"""Tests use public names: what a test must change is a parameter, a setting or a function."""

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.house.source_tree import ROOMS, tracked_files

FOREIGN = frozenset(
    {"_replace", "_asdict", "_fields", "_make", "_exit", "_mapping"}
    | {"_forward_hooks", "_forward_pre_hooks", "_make_per_tensor_quantized_tensor"}
)
"""Names of Python and of torch, not of the product."""


def product_imports(tree: ast.Module) -> set[str]:
    """Local names that a test file imports from the product."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in ROOMS:
            names |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {
                (alias.asname or alias.name).split(".")[0]
                for alias in node.names
                if alias.name.split(".")[0] in ROOMS
            }
    return names


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name not in FOREIGN


def private_uses(path: str, tree: ast.Module) -> Iterator[str]:
    """Where a test imports or reads a private name of something that is not its own."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in ROOMS:
            yield from (f"{path}:{node.lineno} {a.name}" for a in node.names if is_private(a.name))
        elif isinstance(node, ast.Attribute) and is_private(node.attr):
            is_self = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
            if not is_self:
                yield f"{path}:{node.lineno} .{node.attr}"


def patched_privates(path: str, tree: ast.Module) -> Iterator[str]:
    """Where a test patches a private name, or a class attribute of the product."""
    imported = product_imports(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") in ("setattr", "delattr"):
            texts = [a.value for a in node.args[:2] if isinstance(a, ast.Constant)]
            yield from (
                f"{path}:{node.lineno} patches {text}" for text in texts if is_class_attribute(text)
            )
            names = [str(text).rpartition(".")[2] for text in texts]
            yield from (f"{path}:{node.lineno} patches {n}" for n in names if is_private(n))
            if node.args and is_product_class(node.args[0], imported):
                yield f"{path}:{node.lineno} patches {ast.unparse(node.args[0])}"
        elif isinstance(node, ast.Assign):
            for target in node.targets:
                if isinstance(target, ast.Attribute) and is_product_class(target.value, imported):
                    yield f"{path}:{node.lineno} assigns {ast.unparse(target)}"


def is_class_attribute(target: object) -> bool:
    """Whether a string names an attribute of a class of the product: ``room.module.Class.name``."""
    parts = str(target).split(".")
    return parts[0] in ROOMS and len(parts) > 2 and is_class_name(parts[-2])


def is_class_name(name: str) -> bool:
    return name.lstrip("_")[:1].isupper() and not name.isupper()


def is_product_class(node: ast.expr, imported: set[str]) -> bool:
    """Whether the expression names a class of the product: ``Class`` or ``module.Class``."""
    parts = ast.unparse(node).split(".")
    return parts[0] in imported and is_class_name(parts[-1])


def test_tests_use_public_names(root: Path) -> None:
    uses = []
    for path in tracked_files(root, ".py"):
        if path.startswith("tests/"):
            tree = ast.parse((root / path).read_text())
            uses += [*private_uses(path, tree), *patched_privates(path, tree)]
    assert not uses, "\n".join(uses)
