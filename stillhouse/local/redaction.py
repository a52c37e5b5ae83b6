"""Messages without secrets: a message may quote the log or the error of any program."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

SECRET_FILES = ("postgres-password", "secret-key", "api-key")
REDACTED = "[secret]"


def redact(text: str, secrets: Iterable[str]) -> str:
    """Return the text with every secret replaced by `[secret]`."""
    for secret in secrets:
        if secret:
            text = text.replace(secret, REDACTED)
    return text


def read_secrets(folder: Path) -> list[str]:
    """Return the secrets that exist in a data folder."""
    secrets = []
    for name in SECRET_FILES:
        with suppress(OSError, UnicodeError):
            secrets.append((folder / name).read_text(encoding="utf-8").strip())
    return secrets


def describe_error(error: BaseException) -> str:
    """Return an error's type and message; not its `repr`, which may hold its arguments."""
    if isinstance(error, OSError) and error.strerror:
        file = f"{error.filename}: " if error.filename else ""
        return f"{file}{error.strerror}"
    return f"{type(error).__name__}: {error}"
