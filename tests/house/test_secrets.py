"""No secret and no address of a machine is committed."""

import re
import subprocess
from pathlib import Path


def test_nothing_committed_names_a_machine_or_a_key(root: Path) -> None:
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=root, capture_output=True, text=True, check=True
    )
    suspicious = re.compile(r"stk_[A-Za-z0-9_-]{40}|/work/|/root/|BEGIN [A-Z ]*PRIVATE KEY")
    bad = []
    for name in listed.stdout.split("\0"):
        path = root / name
        if not name or not path.is_file() or path == Path(__file__) or "vendor" in path.parts:
            continue
        try:
            text = path.read_text()
        except UnicodeDecodeError:
            continue
        bad += [f"{name}: {match.group()}" for match in suspicious.finditer(text)]
    assert not bad
