"""Other versions of Python: the lock has wheels for 3.14; the client works on 3.12 and 3.13.

These tests need the package registry of `make setup`. Where it cannot be reached, or where an
interpreter is missing, they are skipped; CI must reach the registry.
"""

import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
CLIENT_TESTS = (
    "tests/kdcore/schema",
    "tests/stillhouse/test_connection.py",
    "tests/stillhouse/local/test_data_dir.py",
    "tests/stillhouse/local/test_ports.py",
)
"""Tests that need neither torch nor a server, nor the fixtures of conftest.py."""
TEST_TOOLS = ("pytest", "pytest-timeout")


def locked_requirements(root: Path, version: str) -> dict[str, str]:
    """The lines of the lock that apply to a version of Python, by name and without markers."""
    environment = dict[str, Any](default_environment())
    environment |= {"python_version": version, "python_full_version": f"{version}.0"}
    lines = {}
    for line in (root / "requirements.lock").read_text(encoding="utf-8").splitlines():
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate(environment):
            requirement.marker = None
            lines[canonicalize_name(requirement.name)] = str(requirement)
    return lines


def install(
    lines: Iterable[str], version: str, folder: Path, *options: str
) -> subprocess.CompletedProcess[str]:
    """Let pip install wheels alone, for another version of Python, into a folder."""
    folder.mkdir(exist_ok=True)
    requirements = folder.with_suffix(".txt")
    requirements.write_text("\n".join(lines), encoding="utf-8")
    wheels = ["--python-version", version, "--only-binary=:all:", "--no-deps", "--target"]
    command = [*PIP, *options, *wheels, str(folder), "--requirement", str(requirements)]
    return subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)


def require_registry(tmp_path: Path) -> None:
    """Skip the test if pip cannot find a package that is installed already; fail in CI."""
    version = ".".join(map(str, sys.version_info[:2]))
    probe = install(["typer"], version, tmp_path / "probe", "--dry-run", "--retries", "1")
    if probe.returncode and not os.environ.get("CI"):
        pytest.skip(f"the package registry cannot be reached: {probe.stderr[-200:]}")
    assert probe.returncode == 0, probe.stderr


def test_every_package_of_the_lock_has_a_wheel_for_python_3_14(root: Path, tmp_path: Path) -> None:
    require_registry(tmp_path)
    report = tmp_path / "report.json"
    # pip compares `Requires-Python` with the running version, hence the comparison below.
    options = ("--dry-run", "--ignore-requires-python", "--report", str(report))
    lines = locked_requirements(root, "3.14")
    done = install(lines.values(), "3.14", tmp_path / "packages", *options)
    assert done.returncode == 0, done.stderr
    metadata = [entry["metadata"] for entry in json.loads(report.read_text())["install"]]
    assert {canonicalize_name(package["name"]) for package in metadata} == set(lines)
    refusing = [
        package["name"]
        for package in metadata
        if "3.14.0" not in SpecifierSet(package.get("requires_python", ""))
    ]
    assert refusing == []
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert "3.14.0" in SpecifierSet(project["requires-python"])


@pytest.mark.parametrize("version", ["3.12", "3.13"])
def test_client_and_schema_pass_their_tests_on(version: str, root: Path, tmp_path: Path) -> None:
    python = find_interpreter(version)
    if python is None:
        pytest.skip(f"there is no Python {version}")
    require_registry(tmp_path)
    lines = locked_requirements(root, version)
    packages = tmp_path / "packages"
    done = install([lines[name] for name in client_packages(root)], version, packages)
    assert done.returncode == 0, done.stderr
    command = [python, "-m", "pytest", "--quiet", "--noconftest", "-p", "no:cacheprovider"]
    tests = subprocess.run(
        [*command, *CLIENT_TESTS],
        cwd=root,
        env={
            "PATH": os.defpath,
            "HOME": str(tmp_path),
            "PYTHONPATH": os.pathsep.join([str(packages), str(root)]),
            "PYTHONDONTWRITEBYTECODE": "1",
        },
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert tests.returncode == 0, tests.stdout[-4000:] + tests.stderr[-2000:]


def find_interpreter(version: str) -> str | None:
    """The path of an interpreter of this version; pyenv reads it from a variable."""
    command = shutil.which(f"python{version}")
    if command is None:
        return None
    printed = subprocess.run(
        [command, "-c", "import sys; print(sys.executable)"],
        env=os.environ | {"PYENV_VERSION": version},
        capture_output=True,
        text=True,
        check=False,
    )
    return printed.stdout.strip() if printed.returncode == 0 else None


def client_packages(root: Path) -> list[str]:
    """The packages that `pip install stillhouse` brings without extras, and those of the tests."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    pending = [*(Requirement(text).name for text in project["dependencies"]), *TEST_TOOLS]
    names: list[str] = []
    while pending:
        name = canonicalize_name(pending.pop())
        if name not in names:
            names.append(name)
            pending += _requirements(name)
    return names


def _requirements(name: str) -> list[str]:
    requirements = [Requirement(text) for text in importlib.metadata.requires(name) or ()]
    return [
        requirement.name
        for requirement in requirements
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""})
    ]
