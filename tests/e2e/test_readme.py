"""The README's first session, as it is written."""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from stillhouse.local import Stack


@pytest.mark.timeout(400)
def test_the_first_session_works_as_it_is_written(stack: Stack, root: Path, tmp_path: Path) -> None:
    text = (root / "README.md").read_text()
    blocks = re.findall(r"^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
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


def test_every_make_target_and_folder_that_the_readme_names_exists(root: Path) -> None:
    text = (root / "README.md").read_text()
    makefile = (root / "Makefile").read_text()
    for target in re.findall(r"`make ([a-z]+)`|^make ([a-z]+)", text, re.MULTILINE):
        assert re.search(rf"^{''.join(target)}:", makefile, re.MULTILINE), target
    for place in re.findall(r"\]\(((?!http)[^)]+)\)", text):
        assert (root / place).exists(), place
    for folder in re.findall(r"^\| `([a-z]+)/`", text, re.MULTILINE):
        assert (root / folder).is_dir(), folder
