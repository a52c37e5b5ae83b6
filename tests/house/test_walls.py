"""Who may import whom: the contracts of pyproject.toml hold, and guard what is not listed yet."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.house.scratch import copy_checkout


def run_lint(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [Path(sys.executable).with_name("lint-imports"), "--no-cache"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.fixture
def scratch(root: Path, tmp_path: Path) -> Path:
    copy_checkout(root, tmp_path)
    (tmp_path / "tests" / "house").mkdir(parents=True)
    shutil.copy(root / "tests" / "house" / "root_packages.py", tmp_path / "tests" / "house")
    return tmp_path


def test_the_contracts_hold(root: Path) -> None:
    lint = run_lint(root)
    assert lint.returncode == 0, lint.stdout


def test_a_new_top_level_package_fails_lint(scratch: Path) -> None:
    (scratch / "billing").mkdir()
    (scratch / "billing" / "__init__.py").write_text('"""Bills."""\n')
    lint = run_lint(scratch)
    assert lint.returncode != 0
    assert "'billing' is in no contract" in lint.stdout


def test_a_new_room_of_the_engine_fails_lint(scratch: Path) -> None:
    (scratch / "kdcore" / "pruning").mkdir()
    (scratch / "kdcore" / "pruning" / "__init__.py").write_text('"""Pruning."""\n')
    lint = run_lint(scratch)
    assert lint.returncode != 0
    assert "pruning" in lint.stdout


@pytest.mark.parametrize(
    ("importer", "target"),
    [
        ("api/jobs/estimate.py", "kdcore.models"),
        ("worker/heartbeat.py", "api.app"),
        ("store/ids.py", "kdcore.training.run"),
        ("kdcore/evaluation/metrics.py", "kdcore.export.exporter"),
    ],
)
def test_a_forbidden_import_fails_lint(scratch: Path, importer: str, target: str) -> None:
    with (scratch / importer).open("a") as file:
        file.write(f"\nimport {target}\n")
    lint = run_lint(scratch)
    assert lint.returncode != 0
    assert target.rpartition(".")[2] in lint.stdout
