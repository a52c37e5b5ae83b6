"""Names are the field's words: the vocabulary is in CONTRIBUTING.md."""

import ast
import re
from pathlib import Path

from tests.house import javascript
from tests.house.source_tree import python_functions, python_names, tracked_files

VAGUE_WORDS = frozenset(
    [
        "told",
        "said",
        "asked",
        "found",
        "given",
        "wanted",
        "begun",
        "kept",
        "made",
        "own",
        "each",
        "place",
        "here",
        "whole",
        "among",
        "wish",
    ]
)
COMPOUNDS = ("not_found", "notfound", "in_place", "inplace")
ALLOWED_NAMES: dict[str, str] = {}
"""At most 20 names that break the rule, each with its reason."""
NOT_OURS = frozenset({"forEach"})
"""Names of the browser that hold a vague word."""
BRITISH = re.compile(
    r"normalis|licence|catalogue|colour|\bgrey|initialis|optimis|serialis|quantis|standardis"
    r"|summaris|recognis|neighbour|labelled(?!by\b)|labelling|\bcentre|favour|honour|behaviour",
    re.IGNORECASE,
)
MAY_SPELL_BRITISH = (
    "migrations/versions/",
    "tests/upgrade/",
    "tests/house/test_vocabulary.py",
    "kdcore/schema/old_spelling.py",
    "dashboard/js/pages/student-page.js",  # reads the files of earlier artifacts
)
PARTICIPLE = re.compile(
    r"^_?(?!need|feed|seed|speed|embed|shed|red|bed|fed|exceed|proceed|succeed)[a-z]+ed$"
    r"|^_?(bound|broken|brought|built|chosen|done|drawn|driven|frozen|got|heard|held|hidden|known|left"
    r"|lost|met|paid|read_from|seen|sent|shown|sought|spent|split_by|spoken|stuck|taken|taught|thrown"
    r"|torn|won|written)$"
)


def words_of(name: str) -> list[str]:
    """The lower-case words of a name: ``NotFound`` and ``not_found`` have the same two."""
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", name)]


def is_vague(name: str) -> bool:
    """Whether a part of the name is one of the vague words."""
    if name in ALLOWED_NAMES or any(compound in name.lower() for compound in COMPOUNDS):
        return False
    return any(word in VAGUE_WORDS for word in words_of(name))


def scripts(root: Path) -> list[str]:
    """Our own scripts, tests included."""
    return [
        path
        for path in tracked_files(root, ".js")
        if "vendor" not in path and not path.endswith(".min.js")
    ]


def test_names_are_not_vague(root: Path) -> None:
    vague = [
        f"{name.path}:{name.line} {name.name}"
        for path in tracked_files(root, ".py")
        for name in python_names(root, path)
        if is_vague(name.name)
    ]
    assert not vague, "\n".join(vague)


def test_names_of_scripts_are_not_vague(root: Path) -> None:
    vague = [
        f"{path}:{line} {name}"
        for path in scripts(root)
        for line, name in javascript.identifiers((root / path).read_text())
        if name not in NOT_OURS and is_vague(name)
    ]
    assert not vague, "\n".join(vague)


def test_no_function_is_named_by_a_lone_participle(root: Path) -> None:
    participles = [
        f"{path}:{function.lineno} {function.name}"
        for path in tracked_files(root, ".py")
        for function in python_functions(root, path)
        if PARTICIPLE.match(function.name)
        and function.name not in ALLOWED_NAMES
        and not any("property" in ast_name(decorator) for decorator in function.decorator_list)
    ]
    assert not participles, "\n".join(participles)


def test_no_function_of_a_script_is_named_by_a_lone_participle(root: Path) -> None:
    participles = [
        f"{path}:{line} {name}"
        for path in scripts(root)
        for line, name in javascript.function_names((root / path).read_text())
        if PARTICIPLE.match(name) and name not in ALLOWED_NAMES
    ]
    assert not participles, "\n".join(participles)


def test_names_of_scripts_are_read_from_their_code() -> None:
    source = """
    // function told() {}
    const sorted = (list, by = (a) => a) => `${list.map((item) => `${item}s`)} \\` }`;
    const width = (1 + 2), text = "function told() {}", rule = /"[/`]/g;
    function* walk() { if (width) { return sorted([]); } }
    const page = { async load({ id }) {}, get loaded() { return 1; }, open: item => item, at: (1) };
    """
    names = [(2, "sorted"), (4, "walk"), (5, "load"), (5, "open")]
    assert [(line - 1, name) for line, name in javascript.function_names(source)] == names
    assert {"item", "rule", "loaded"} <= {name for _, name in javascript.identifiers(source)}
    assert "told" not in {name for _, name in javascript.identifiers(source)}


def ast_name(node: object) -> str:
    """The last name of a decorator."""
    target = getattr(node, "func", node)
    return str(getattr(target, "attr", getattr(target, "id", "")))


def test_helpers_that_assert_are_named_assert(root: Path) -> None:
    named_otherwise = [
        f"{path}:{function.lineno} {function.name}"
        for path in tracked_files(root, ".py")
        if path.startswith("tests/")
        for function in python_functions(root, path)
        if not function.name.lstrip("_").startswith(("assert_", "test_"))
        and not any("fixture" in ast_name(decorator) for decorator in function.decorator_list)
        and is_assertion(function)
    ]
    assert not named_otherwise, "\n".join(named_otherwise)


def is_assertion(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Whether a function returns nothing, and half of its statements assert.

    An ``assert`` and a call of ``assert_…`` assert. Blocks are no statements of their own, and
    functions inside are functions of their own.
    """
    num_statements = num_assertions = 0
    nodes = list[ast.AST](function.body)
    for node in nodes:
        if isinstance(node, ast.Yield | ast.YieldFrom) or (
            isinstance(node, ast.Return) and node.value is not None
        ):
            return False
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
            continue
        is_block = hasattr(node, "body")
        is_text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if isinstance(node, ast.stmt) and not is_block and not is_text:
            num_statements += 1
            call = getattr(node, "value", None)
            num_assertions += isinstance(node, ast.Assert) or (
                isinstance(call, ast.Call) and ast_name(call).startswith("assert_")
            )
        nodes.extend(ast.iter_child_nodes(node))
    return num_assertions > 0 and 2 * num_assertions >= num_statements


def test_assertions_are_recognized() -> None:
    helpers = """
def expect(x):
    \"\"\"Doc.\"\"\"
    y = load(x)
    with lock:
        assert y
def start(x):
    run(x)
    wait(x)
    assert x.ready
def load(x):
    assert x
    return x.value
def compare(x):
    for part in x:
        assert_equal(part, 1)
"""
    functions = [node for node in ast.parse(helpers).body if isinstance(node, ast.FunctionDef)]
    assert [node.name for node in functions if is_assertion(node)] == ["expect", "compare"]


def test_spelling_is_american(root: Path) -> None:
    british = [
        f"{path}:{number} {match.group()}"
        for path in tracked_files(root, ".py", ".js", ".md", ".toml", ".yml", ".html", ".css")
        if "vendor" not in path
        and not path.endswith(".min.js")
        and not path.startswith(MAY_SPELL_BRITISH)
        for number, line in enumerate((root / path).read_text().split("\n"), 1)
        for match in BRITISH.finditer(line)
    ]
    assert not british, "\n".join(british)


def test_exceptions_to_the_vocabulary_are_few() -> None:
    assert len(ALLOWED_NAMES) <= 20
    assert all(ALLOWED_NAMES.values()), "each needs its reason"
