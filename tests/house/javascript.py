"""Names in JavaScript: identifiers of a script, and the functions that it defines."""

import re
from collections.abc import Iterator

_CODE = re.compile(
    r"(?P<text>//[^\n]*|/\*.*?\*/"  # comments
    r"|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'"  # strings
    # A regular expression: a slash that cannot be a division.
    r"|(?<=[(,=:\[!&|?{};>])\s*/(?![*/])(?:\\.|\[(?:\\.|[^\]\\\n])*\]|[^/\\\n\[])+/[a-z]*)"
    r"|(?P<mark>[`{}])",
    re.DOTALL,
)
_TEMPLATE = re.compile(r"(?:\\.|\$(?!\{)|[^`\\$])*(?P<mark>`|\$\{)", re.DOTALL)
_IDENTIFIER = re.compile(r"[A-Za-z_$][\w$]*")
_DEFINITION = re.compile(
    r"\bfunction\*?\s+(?P<function>[\w$]+)"
    r"|\b(?:const|let)\s+(?P<constant>[\w$]+)\s*=\s*(?:async\s*)?(?=function\b|\(|[\w$]+\s*=>)"
    r"|(?<![.\w$?])(?P<property>[\w$]+):\s*(?:async\s*)?(?=function\b|\(|[\w$]+\s*=>)"
    r"|(?<![.\w$])(?P<getter>(?:get|set)\s+)?(?P<method>[\w$]+)\s*(?=\()"
)
_STATEMENTS = frozenset({"if", "for", "while", "switch", "catch", "function", "return", "await"})


def strip_text(source: str) -> str:
    """Return a script without comments, strings and regular expressions; its lines stay.

    Expressions in templates stay, too.
    """
    code: list[str] = []
    braces: list[int] = []  # open braces of each template expression around the position
    in_template, position = False, 0
    while match := (_TEMPLATE.match if in_template else _CODE.search)(source, position):
        mark = match["mark"] or ""
        code += ["" if in_template else source[position : match.start()], " "]
        code.append("\n" * match.group().count("\n"))
        position = match.end()
        if in_template:
            in_template = False
            braces += [0] if mark == "${" else []
        elif mark == "`" or (mark == "}" and braces[-1:] == [0]):
            in_template = True
            braces = braces if mark == "`" else braces[:-1]
        else:
            code.append(mark)
            if mark and braces:
                braces[-1] += 1 if mark == "{" else -1
    return "".join(code) + source[position:]


def identifiers(source: str) -> Iterator[tuple[int, str]]:
    """Every identifier of a script with its line."""
    for number, line in enumerate(strip_text(source).split("\n"), 1):
        for name in _IDENTIFIER.findall(line):
            yield number, name


def function_names(source: str) -> Iterator[tuple[int, str]]:
    """Every function and method that a script defines with its line; getters are properties."""
    code = strip_text(source)
    for match in _DEFINITION.finditer(code):
        kind = match.lastgroup or ""
        after = code[_closing_bracket(code, match.end()) :].lstrip()
        is_method = kind == "method" and not match["getter"] and after.startswith("{")
        is_value = kind in ("constant", "property") and (
            code[match.end()] != "(" or after.startswith("=>")
        )
        if match[kind] not in _STATEMENTS and (kind == "function" or is_method or is_value):
            yield code.count("\n", 0, match.start(kind)) + 1, match[kind]


def _closing_bracket(code: str, start: int) -> int:
    """Return the position after the bracket that closes the one at ``start``."""
    depth = 0
    for position in range(start, len(code)):
        depth += (code[position] in "([{") - (code[position] in ")]}")
        if depth <= 0:
            return position + 1
    return len(code)
