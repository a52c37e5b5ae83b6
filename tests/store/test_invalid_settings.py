"""Invalid settings are named, and no error holds a secret."""

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from store.database import conninfo
from store.settings import SettingsError, settings

CANARY = "canary-4711"
VALID = {
    "STILLHOUSE_DATABASE_URL": f"postgresql+psycopg://user:{CANARY}@127.0.0.1:9/database",
    "STILLHOUSE_BROKER_URL": f"redis://:{CANARY}@127.0.0.1:9/0",
    "STILLHOUSE_SECRET_KEY": CANARY * 8,
    "STILLHOUSE_OBJECT_STORE": "file:///nowhere/objects",
}
INVALID = {
    "STILLHOUSE_DATABASE_URL": [
        CANARY,
        f"postgresql+psycopg://user:{CANARY}@host:{CANARY}/database",
        f"mysql://user:{CANARY}@host/database",
    ],
    "STILLHOUSE_BROKER_URL": [CANARY, f"amqp://{CANARY}", f"redis://:x@host:{CANARY}/0"],
    "STILLHOUSE_SECRET_KEY": [CANARY],
    "STILLHOUSE_OBJECT_STORE": [
        f"https://{CANARY}@host/bucket",
        f"s3://key:{CANARY}@bucket",
        "file://data/objects",
    ],
    "STILLHOUSE_POLL_S": [CANARY],
    "STILLHOUSE_SOURCES": [
        CANARY,
        f'[{{"source": "{CANARY}", "projects": ["*"]}}]',
        f'[{{"source": "folder:/data", "projects": ["{CANARY}"]}}]',
        '[{"source": "folder:/data", "projects": []}]',
        '[{"source": "folder:/", "projects": ["*"]}]',
        '[{"source": "s3://bucket/../x", "projects": ["*"]}]',
        '[{"source": "s3://bucket"}]',
    ],
    "STILLHOUSE_SOURCES_S3_ENDPOINT": [CANARY, f"https://key:{CANARY}@host", "ftp://host"],
}


@pytest.fixture
def variables(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Settings of this test alone."""
    for name in [name for name in os.environ if name.startswith("STILLHOUSE_")]:
        monkeypatch.delenv(name)
    for name, value in VALID.items():
        monkeypatch.setenv(name, value)
    settings.cache_clear()
    yield monkeypatch
    monkeypatch.undo()
    settings.cache_clear()


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in INVALID.items() for value in values]
)
def test_invalid_setting_is_named_without_its_value(
    variables: pytest.MonkeyPatch, name: str, value: str
) -> None:
    variables.setenv(name, value)
    with pytest.raises(SettingsError, match=f"{name}: ") as caught:
        settings()
    assert CANARY not in str(caught.value)
    assert caught.value.__context__ is None


def test_every_missing_setting_is_named(variables: pytest.MonkeyPatch) -> None:
    variables.delenv("STILLHOUSE_DATABASE_URL")
    variables.delenv("STILLHOUSE_SECRET_KEY")
    with pytest.raises(SettingsError, match="DATABASE_URL: Field required; STILLHOUSE_SECRET"):
        settings()


def test_socket_folder_with_any_letters_reaches_libpq(variables: pytest.MonkeyPatch) -> None:
    url = "postgresql+psycopg://user:p%40ss%2B@/database?host=%2Ftmp%2Fsp%20ace%2Bplus&port=5432"
    variables.setenv("STILLHOUSE_DATABASE_URL", url)
    from psycopg.conninfo import conninfo_to_dict

    parameters = conninfo_to_dict(conninfo())
    assert parameters["host"] == "/tmp/sp ace+plus"  # noqa: S108 - nothing is created there
    assert (parameters["password"], parameters["port"]) == ("p@ss+", "5432")


@pytest.mark.parametrize(
    ("program", "change"),
    [
        (["-m", "api"], {"STILLHOUSE_SECRET_KEY": CANARY}),
        (["-m", "celery", "-A", "worker.celery_app", "worker"], {"STILLHOUSE_BROKER_URL": CANARY}),
        (["-m", "worker.maintenance"], {"STILLHOUSE_SECRET_KEY": CANARY}),
        (["-m", "store.migrate"], {}),  # nothing listens at the address of the database
    ],
)
def test_program_that_cannot_start_prints_no_secret(
    program: list[str], change: dict[str, str]
) -> None:
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("STILLHOUSE_")
    }
    failed = subprocess.run(
        [sys.executable, *program],
        env=environment | VALID | change,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert failed.returncode != 0
    output = failed.stdout + failed.stderr
    assert (next(iter(change), "127.0.0.1") in output, CANARY in output) == (True, False), output


def test_keys_of_sources_are_set_together_or_not_at_all(variables: pytest.MonkeyPatch) -> None:
    variables.setenv("STILLHOUSE_SOURCES_S3_ACCESS_KEY_ID", "")
    assert settings().sources_s3_access_key_id is None
    settings.cache_clear()
    variables.setenv("STILLHOUSE_SOURCES_S3_ACCESS_KEY_ID", CANARY)
    with pytest.raises(SettingsError, match="must be set together") as caught:
        settings()
    assert CANARY not in str(caught.value)
