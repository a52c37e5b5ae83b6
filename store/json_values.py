"""JSON of every value: what a reader cannot represent becomes null or text instead of an error.

Two limits meet here. Postgres stores the numbers of ``jsonb`` as decimals, so ``1e+20`` returns as
``100000000000000000000``, an integer beyond 64 bits. orjson, which writes the responses, refuses
such integers, documents deeper than 254 levels, and lone surrogates.
"""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

import orjson

Default = Callable[[Any], Any]
MAX_DEPTH = 150
"""Levels of a document that a reader gets where orjson refuses the whole document."""
TOO_DEEP = "nested too deeply"
"""Replaces an object or array below ``MAX_DEPTH``."""

_NOT_UNICODE = re.compile("[\ud800-\udfff]")
_BRACKET_OR_STRING = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}]')
_STRING_OR_EXPONENT = re.compile(rb'"(?:[^"\\]|\\.)*"|-?[0-9.]+e\+?[0-9]+')
_ESCAPE = re.compile(rb"\\(?:u0000|.)")
_REPLACEMENT = "\ufffd".encode()


def encode_json(value: Any, default: Default | None = None) -> bytes:
    """JSON for a response: times in UTC with a Z; ``default`` converts values of other types.

    NaN and infinities become null, integers beyond 64 bits floats, lone surrogates U+FFFD.

    Raises:
        TypeError: a value has no JSON form and ``default`` does not convert it.
    """
    try:
        return orjson.dumps(value, default, orjson.OPT_UTC_Z)
    except TypeError:
        return orjson.dumps(_simplify(value, default, MAX_DEPTH), default, orjson.OPT_UTC_Z)


def encode_jsonb(value: Any) -> bytes:
    """JSON that Postgres accepts in a ``jsonb`` and returns with the same types.

    As :func:`encode_json`; in addition NUL becomes U+FFFD, and a float without a fraction keeps its
    point: ``1e+20`` becomes ``100000000000000000000.0``.
    """
    text = encode_json(value)
    if b"\\u0000" in text or b"e+" in text:
        return _STRING_OR_EXPONENT.sub(_rewrite, text)
    return text


def decode_json(text: bytes | str) -> Any:
    """The value of a JSON document, as Postgres returns it.

    Integers beyond 64 bits become floats, and numbers beyond a double infinities. What lies deeper
    than orjson reads (1,024 levels) is cut at ``MAX_DEPTH``.
    """
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        unicode_text = text if isinstance(text, str) else text.decode()
        return json.loads(_cut_depth(unicode_text), parse_int=_parse_int)


def _parse_int(digits: str) -> int | float:
    number = float(digits)
    return int(digits) if abs(number) < 2**63 else number


def _cut_depth(text: str) -> str:
    """The valid JSON ``text``, with ``TOO_DEEP`` instead of everything below ``MAX_DEPTH``."""
    parts: list[str] = []
    depth = position = 0
    for match in _BRACKET_OR_STRING.finditer(text):
        bracket = match[0]
        if bracket in "[{":
            depth += 1
            if depth == MAX_DEPTH + 1:
                parts.append(f'{text[position : match.start()]}"{TOO_DEEP}"')
        elif bracket in "]}":
            if depth == MAX_DEPTH + 1:
                position = match.end()
            depth -= 1
    return "".join([*parts, text[position:]])


def _simplify(value: Any, default: Default | None, levels: int) -> Any:
    """A copy of ``value`` that orjson accepts."""
    if isinstance(value, str):
        return _NOT_UNICODE.sub("\ufffd", value)
    if isinstance(value, int):
        return value if -(2**63) <= value < 2**64 else _to_float(value)
    if not isinstance(value, Mapping | list | tuple):
        return _simplify_other(value, default, levels)
    if levels == 0:
        return TOO_DEEP
    if isinstance(value, Mapping):
        return {
            _NOT_UNICODE.sub("\ufffd", str(name)): _simplify(item, default, levels - 1)
            for name, item in value.items()
        }
    return [_simplify(item, default, levels - 1) for item in value]


def _simplify_other(value: Any, default: Default | None, levels: int) -> Any:
    try:
        orjson.dumps(value)
    except TypeError:
        return value if default is None else _simplify(default(value), default, levels)
    return value


def _to_float(number: int) -> float | None:
    """The nearest float; None beyond the range of floats."""
    try:
        return float(number)
    except OverflowError:
        return None


def _rewrite(match: re.Match[bytes]) -> bytes:
    """A string without NUL, or a number without an exponent."""
    token = match[0]
    if not token.startswith(b'"'):
        return f"{float(token):.1f}".encode()
    if b"\\u0000" not in token:
        return token
    return _ESCAPE.sub(lambda escape: _replace_nul(escape[0]), token)


def _replace_nul(escape: bytes) -> bytes:
    return _REPLACEMENT if escape == b"\\u0000" else escape
