"""The files of a public repository agree with each other."""

import re
import subprocess
import tomllib
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from tests.house.source_tree import tracked_files


def test_make_help_lists_every_verb(root: Path) -> None:
    phony = re.search(r"^\.PHONY: (.*)$", (root / "Makefile").read_text(), re.MULTILINE)
    assert phony
    listed = subprocess.run(
        ["make", "--no-print-directory", "help"],
        cwd=root,
        capture_output=True,
        text=True,
        check=True,
    )
    assert {line.split()[0] for line in listed.stdout.splitlines()} == set(phony[1].split())


def locked_version(root: Path, package: str) -> str:
    match = re.search(rf"^{package}==(\S+)", (root / "requirements.lock").read_text(), re.MULTILINE)
    assert match, package
    return match[1]


SUPPRESSION = re.compile(r"#\s(noqa|type:\signore)\b")
REASON = re.compile(r"#\snoqa: [A-Z0-9, ]+ - \S|#\stype: ignore\[[a-z, -]+\]  # \S")


def test_every_suppressed_check_has_a_reason(root: Path) -> None:
    """On the line, or in a comment above it or above a group of such lines."""
    unexplained = []
    for path in tracked_files(root, ".py"):
        lines = (root / path).read_text().splitlines()
        explained = False
        for number, (line_above, line) in enumerate(pairwise(["", *lines]), 1):
            comment_above = explained or line_above.lstrip().startswith("# ")
            suppresses = SUPPRESSION.search(line) is not None
            explained = suppresses and comment_above
            if suppresses and not (explained or REASON.search(line)):
                unexplained.append(f"{path}:{number}")
    assert unexplained == []


def test_pre_commit_uses_the_locked_ruff(root: Path) -> None:
    config = yaml.safe_load((root / ".pre-commit-config.yaml").read_text())
    revisions = {entry["repo"].rpartition("/")[2]: entry["rev"] for entry in config["repos"]}
    assert revisions["ruff-pre-commit"] == f"v{locked_version(root, 'ruff')}"


def test_the_lock_names_no_index(root: Path) -> None:
    lines = (root / "requirements.lock").read_text().splitlines()
    assert [line for line in lines if not re.match(r"[a-z0-9-]+==[0-9][^ ]*( ; .+)?$", line)] == []


def test_the_workflow_runs_what_anybody_can_run(root: Path) -> None:
    workflow = yaml.safe_load((root / ".github" / "workflows" / "ci.yml").read_text())
    (job,) = workflow["jobs"].values()
    assert job["timeout-minutes"]
    assert job["steps"][-1]["run"] == ".ci/run"
    assert workflow["permissions"] == {"contents": "read"}


def test_forms_for_issues_ask_for_something(root: Path) -> None:
    for name in ("bug", "feature"):
        path = root / ".github" / "ISSUE_TEMPLATE" / f"{name}.yml"
        form = yaml.safe_load(path.read_text())
        assert {"name", "description", "body"} <= set(form), path
        assert any(field.get("validations", {}).get("required") for field in form["body"]), path


@pytest.mark.parametrize("package", ["kdcore", "stillhouse"])
def test_what_is_published_has_types(package: str, root: Path) -> None:
    project = tomllib.loads((root / "pyproject.toml").read_text())
    assert package in project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert (root / package / "py.typed").is_file()


def test_the_changelog_has_this_version_below_what_is_unreleased(root: Path) -> None:
    version = tomllib.loads((root / "pyproject.toml").read_text())["project"]["version"]
    headings = re.findall(r"^## (.+)$", (root / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[0] == "Unreleased"
    assert re.fullmatch(rf"{re.escape(version)} - \d{{4}}-\d\d-\d\d", headings[1])


def test_lines_of_pages_fit_a_screen(root: Path) -> None:
    """At most 120 characters: a table's row, and a word such as a URL, cannot be wrapped."""
    long_lines = [
        f"{path}:{number}"
        for path in tracked_files(root, ".md")
        if "vendor" not in path
        for number, line in enumerate((root / path).read_text().split("\n"), 1)
        if len(line) > 120 and not line.startswith("|") and " " in line.lstrip(" -*>")
    ]
    assert long_lines == []


@pytest.mark.parametrize("name", ["README", "CONTRIBUTING", "SECURITY", "CODE_OF_CONDUCT"])
def test_links_of_the_pages_on_top_lead_somewhere(name: str, root: Path) -> None:
    links = re.findall(r"\]\((?!https?://|#)([^)#]+)", (root / f"{name}.md").read_text())
    assert [link for link in links if not (root / link).exists()] == []
