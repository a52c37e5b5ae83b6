"""README.md and docs/how-to/first-job.md: their commands exist, and their programs run."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer.main

from stillhouse.command_line import app
from stillhouse.local import Stack

PAGES = ("README.md", "docs/how-to/first-job.md", "docs/how-to/bring-your-own.md")
COMMANDS = typer.main.get_command(app).commands


def code_blocks(page: Path, language: str) -> list[str]:
    pattern = rf"^```{language}\n(.*?)^```$"
    return re.findall(pattern, page.read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.timeout(400)
def test_shell_session_of_the_first_job_runs(stack: Stack, root: Path, tmp_path: Path) -> None:
    blocks = code_blocks(root / "docs/how-to/first-job.md", "sh")
    session = next(block for block in blocks if "/v1/jobs" in block)
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", session],
        cwd=tmp_path,
        env=os.environ | {"URL": stack.url, "KEY": stack.api_key},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert report["verdict"]["checks"]
    size = (tmp_path / "student.safetensors").stat().st_size
    assert size == report["student"]["size_bytes"]


def test_python_program_of_the_first_job_runs(stack: Stack, root: Path, tmp_path: Path) -> None:
    (program,) = code_blocks(root / "docs/how-to/first-job.md", "python")
    key = tmp_path / ".local" / "share" / "stillhouse" / "api-key"
    key.parent.mkdir(parents=True)
    key.write_text(stack.api_key)
    done = subprocess.run(
        [sys.executable, "-c", program.replace("http://127.0.0.1:8000", stack.url)],
        cwd=tmp_path,
        env=os.environ | {"HOME": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert float(done.stdout) > 10
    assert (tmp_path / "student.safetensors").exists()


def test_readme_is_at_most_100_lines(root: Path) -> None:
    assert (root / "README.md").read_text().count("\n") <= 100


def anchor_of(heading: str) -> str:
    """The fragment by which GitHub links to a heading."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES)
def test_links_and_make_targets_exist(root: Path, page: str) -> None:
    text = (root / page).read_text()
    makefile = (root / "Makefile").read_text()
    for target in re.findall(r"(?:^|`)make ([a-z-]+)", text, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    for link in re.findall(r"\]\(((?!http)[^)]+)\)", text):
        name, _, heading = link.partition("#")
        file = (root / page).parent.joinpath(name) if name else root / page
        assert file.exists(), link
        headings = re.findall(r"^#+ (.+)$", file.read_text(), re.MULTILINE) if heading else ()
        assert not heading or heading in map(anchor_of, headings), link


@pytest.mark.parametrize("page", PAGES)
def test_stillhouse_commands_and_options_exist(root: Path, page: str) -> None:
    text = (root / page).read_text()
    lines = re.findall(r"(?:^|`)stillhouse ([a-z]+)([^`#\n]*)", text, re.MULTILINE)
    lines += [("up", options) for options in re.findall(r'make up ARGS="([^"]*)"', text)]
    for command, arguments in lines:
        assert command in COMMANDS, command
        options = {name for option in COMMANDS[command].params for name in option.opts}
        assert set(re.findall(r"--[a-z-]+", arguments)) <= options, arguments


def test_folders_of_the_readme_exist(root: Path) -> None:
    text = (root / "README.md").read_text()
    folders = re.findall(r"^\| `([a-z]+)/`", text, re.MULTILINE)
    assert len(folders) > 8
    for folder in folders:
        assert (root / folder).is_dir(), folder
