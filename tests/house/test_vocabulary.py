"""Names are the field's words: the vocabulary is in CONTRIBUTING.md."""

import re
from collections.abc import Iterator
from pathlib import Path

from tests.house.source_tree import (
    DefinedName,
    python_functions,
    python_names,
    tracked_files,
)

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
    "dashboard/js/pages/student.js",  # reads the files of earlier artifacts
)
PARTICIPLE = re.compile(
    r"^_?(?!need|feed|seed|speed|embed|shed|red|bed|fed|exceed|proceed|succeed)[a-z]+ed$"
    r"|^_?(built|bound|brought|chosen|drawn|driven|held|known|left|lost|read_from|sent|seen|shown"
    r"|sought|spent|split_by|stuck|taken|thrown|torn|won|written)$"
)
_JS_NOISE = re.compile(r"/\*.*?\*/|//[^\n]*|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'", re.DOTALL)
_JS_TEMPLATE = re.compile(r"`[^`$\\]*(?:\\.[^`$\\]*)*`|`[^`$]*(?=\$\{)|(?<=\})[^`${}]*(?=\$\{|`)")
_JS_NAME = re.compile(r"[A-Za-z_$][\w$]*")


def words_of(name: str) -> list[str]:
    """The lower-case words of a name: ``NotFound`` and ``not_found`` have the same two."""
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", name)]


def is_vague(name: str) -> bool:
    """Whether a part of the name is one of the vague words."""
    if name in ALLOWED_NAMES or any(compound in name.lower() for compound in COMPOUNDS):
        return False
    return any(word in VAGUE_WORDS for word in words_of(name))


def javascript_names(root: Path, path: str) -> Iterator[DefinedName]:
    """Every identifier of a script, outside comments and strings."""
    for number, line in enumerate(_without_text((root / path).read_text()).split("\n"), 1):
        for name in _JS_NAME.findall(line):
            if name not in NOT_OURS:
                yield DefinedName(path, number, name)


def _without_text(source: str) -> str:
    def blank(match: re.Match[str]) -> str:
        return "\n" * match.group().count("\n")

    return _JS_TEMPLATE.sub(blank, _JS_NOISE.sub(blank, source))


def test_names_are_not_vague(root: Path) -> None:
    vague = [
        f"{name.path}:{name.line} {name.name}"
        for path in tracked_files(root, ".py")
        if not path.startswith("migrations/versions/")
        for name in python_names(root, path)
        if is_vague(name.name)
    ]
    assert not vague, "\n".join(vague)


def test_names_of_scripts_are_not_vague(root: Path) -> None:
    vague = [
        f"{name.path}:{name.line} {name.name}"
        for path in tracked_files(root, ".js")
        if "vendor" not in path and not path.endswith(".min.js")
        for name in javascript_names(root, path)
        if is_vague(name.name)
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


def ast_name(node: object) -> str:
    """The last name of a decorator."""
    target = getattr(node, "func", node)
    return str(getattr(target, "attr", getattr(target, "id", "")))


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
