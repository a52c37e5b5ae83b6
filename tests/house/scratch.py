"""Apply the examples of CONTRIBUTING.md to a scratch copy of the checkout, and run them there.

An example is one section of CONTRIBUTING.md. Its code blocks say in their info string what to do
with them: ``file=PATH`` writes a file, ``line=PATH after=TEXT`` adds the block's lines below the
first line of PATH that contains TEXT.
"""

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from tests.house.source_tree import tracked_files

_BLOCK = re.compile(r"^```\w+ (?P<action>file|line)=(?P<path>\S+)(?: after=(?P<anchor>.+))?\n")


@dataclass(frozen=True)
class Example:
    """What one section of CONTRIBUTING.md adds: whole files, and lines of existing files."""

    files: dict[str, str]
    lines: list[tuple[str, str, str]]
    """Path, the text of the line above, and what is added."""

    @property
    def num_lines(self) -> int:
        """Lines of code that the example shows."""
        blocks = [*self.files.values(), *(text for _, _, text in self.lines)]
        return sum(text.strip().count("\n") + 1 for text in blocks)


def read_example(root: Path, heading: str) -> Example:
    """The example under ``heading`` of CONTRIBUTING.md. Raises ``ValueError`` if there is none."""
    text = (root / "CONTRIBUTING.md").read_text()
    sections = re.split(r"^#+ (.+)\n", text, flags=re.MULTILINE)
    bodies = dict(zip(sections[1::2], sections[2::2], strict=True))
    if heading not in bodies:
        raise ValueError(f"CONTRIBUTING.md has no section {heading!r}, only {sorted(bodies)}")
    example = Example({}, [])
    for block in re.findall(r"^```\w+ (?:file|line)=.*?^```$", bodies[heading], re.M | re.S):
        match = _BLOCK.match(block)
        assert match, f"the info string of this block is not understood: {block[:80]}"
        code = block[match.end() :].removesuffix("```")
        if match["action"] == "file":
            example.files[match["path"]] = code
        else:
            example.lines.append((match["path"], match["anchor"], code))
    return example


def copy_checkout(root: Path, target: Path) -> None:
    """Copy all tracked files but tests, benchmarks and pictures."""
    for name in tracked_files(root, ""):
        if name.startswith(("tests/", "bench/", "docs/images/")):
            continue
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(root / name, target / name)


def apply_example(example: Example, target: Path) -> None:
    """Write the example's files and lines into the copy ``target``."""
    for path, code in example.files.items():
        assert not (target / path).exists(), f"{path} exists already"
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        (target / path).write_text(code)
    for path, anchor, code in example.lines:
        lines = (target / path).read_text().split("\n")
        position = next(number for number, line in enumerate(lines) if anchor in line)
        lines[position + 1 : position + 1] = code.rstrip("\n").split("\n")
        (target / path).write_text("\n".join(lines))


def scratch_environment(target: Path) -> dict[str, str]:
    """Variables for a child process that imports the copy instead of the checkout."""
    return os.environ | {"PYTHONPATH": str(target), "PYTHONSAFEPATH": "1"}
