"""Environment variables: those that nothing reads are reported with a known name."""

import os
import re
import subprocess
import sys
from pathlib import Path

from store.settings import RENAMED_VARIABLES, Settings, unknown_variables

RENAMED_ROW = re.compile(r"^\| `(STILLHOUSE_\w+)` \| `(STILLHOUSE_\w+)` \|$", re.MULTILINE)


def test_renamed_variables_are_those_of_the_page(root: Path) -> None:
    page = (root / "docs" / "how-to" / "deploy.md").read_text()
    assert dict(RENAMED_ROW.findall(page)) == RENAMED_VARIABLES
    known = {f"STILLHOUSE_{name.upper()}" for name in Settings.model_fields}
    assert set(RENAMED_VARIABLES.values()) <= known


def test_unknown_variables_have_the_nearest_known_name() -> None:
    names = ("STILLHOUSE_KEEPER_S", "STILLHOUSE_HEARTBEATS", "stillhouse_poll", "STILLHOUSE_XYZZY")
    assert unknown_variables([*names, "PATH", "STILLHOUSE_POLL_S", "stillhouse_poll_s"]) == [
        ("STILLHOUSE_HEARTBEATS", "STILLHOUSE_HEARTBEAT_S"),
        ("STILLHOUSE_KEEPER_S", "STILLHOUSE_MAINTENANCE_INTERVAL_S"),
        ("STILLHOUSE_XYZZY", None),
        ("stillhouse_poll", "STILLHOUSE_POLL_S"),
    ]


def test_variables_of_other_parts_are_known() -> None:
    others = ("FAILPOINTS", "API_KEY", "URL", "POSTGRES_AS")
    assert unknown_variables(f"STILLHOUSE_{name}" for name in others) == []


def test_server_warns_of_an_unknown_variable_without_its_value() -> None:
    process = subprocess.run(
        [sys.executable, "-c", "from store import logs; logs.configure()"],
        env=os.environ | {"STILLHOUSE_SECRET": "a value"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert '"variable": "STILLHOUSE_SECRET", "nearest": "STILLHOUSE_SECRET_KEY"' in process.stderr
    assert "a value" not in process.stderr
