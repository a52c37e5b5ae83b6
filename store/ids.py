"""Ids like ``job_01jd…``: a prefix, the time of creation, and random bits."""

import re
import secrets
import time

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32, as a ULID uses it
_PATTERN = re.compile(rf"([a-z]+)_[{_ALPHABET}]{{26}}")


def new_id(prefix: str) -> str:
    """A new id: ``prefix``, 48 bits of milliseconds, then 80 random bits."""
    number = (time.time_ns() // 1_000_000) << 80 | secrets.randbits(80)
    digits = [_ALPHABET[number >> shift & 31] for shift in range(125, -1, -5)]
    return f"{prefix}_{''.join(digits)}"


def is_id(text: str, prefix: str | None = None) -> bool:
    """Whether ``text`` has the form of an id, with this prefix or with any."""
    match = _PATTERN.fullmatch(text)
    return match is not None and prefix in (None, match.group(1))
