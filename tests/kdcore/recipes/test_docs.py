"""The first run of docs/how-to/engine.md, but for its epochs and the teacher's size."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from kdcore.recipes.config import Recipe

DOCS = Path(__file__).parents[3] / "docs"


def blocks(language):
    text = (DOCS / "how-to" / "engine.md").read_text()
    found = re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    smaller = {'"epochs": 5': '"epochs": 1', "resnet8x4": "resnet8"}
    for long, short in smaller.items():
        found = [block.replace(long, short) for block in found]
    return found


@pytest.fixture
def python(alone):
    """The environment in which ``python`` is this one."""
    return alone | {"PATH": f"{Path(sys.executable).parent}:{alone['PATH']}", "COLUMNS": "120"}


def test_the_documented_commands_work(tmp_path, python):
    first, choice = blocks("sh")
    assert '"epochs": 1' in first
    for commands in (first, choice):
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", commands],
            cwd=tmp_path,
            env=python,
            capture_output=True,
            text=True,
            timeout=280,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        if commands is first:
            assert re.search(r"student\W+teacher\W+undistilled", done.stdout)
    assert "standard errors" in done.stdout
    assert (tmp_path / "student" / "student.safetensors").exists()


def test_the_documented_python_works(tmp_path, python):
    (code,) = blocks("python")
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=python,
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_field_of_a_recipe_is_documented():
    text = (DOCS / "reference" / "recipes.md").read_text()
    named = set(re.findall(r"`([a-z_]+)", text))
    fields = {field.alias or name for name, field in Recipe.model_fields.items()}
    # Nobody waits in a queue here.
    assert fields - named == {"priority"}
