"""The example "A new method" of CONTRIBUTING.md: two files, and a student trains with it."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.house.scratch import apply_example, copy_checkout, read_example, scratch_environment

RECIPE: dict[str, Any] = {
    "student": {"architecture": "cifar/resnet8"},
    "dataset": "builtin:digits",
    "training": {"epochs": 1},
    "evaluation": {"baseline": False},
    "threads": 1,
}


def run_kdcore(folder: Path, *arguments: str) -> str:
    """Standard output of ``python -m kdcore`` with the code of ``folder``."""
    run = subprocess.run(
        [sys.executable, "-m", "kdcore", *arguments],
        cwd=folder,
        env=scratch_environment(folder),
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


@pytest.fixture
def scratch(root: Path, tmp_path: Path) -> Path:
    """A copy of the checkout with the example applied."""
    example = read_example(root, "A new method")
    assert len(example.files) == 2
    assert not example.lines
    assert example.num_lines < 30
    copy_checkout(root, tmp_path)
    apply_example(example, tmp_path)
    return tmp_path


def test_new_method_is_two_files_and_trains(scratch: Path) -> None:
    assert "logit_cosine" in run_kdcore(scratch, "methods")
    assert "mean_b (1 - cos(z_s, z_t))" in run_kdcore(scratch, "methods", "logit_cosine")
    # Without a teacher, a peer of the scheme mutual teaches.
    recipe = RECIPE | {"method": "logit_cosine", "scheme": {"type": "mutual"}}
    (scratch / "recipe.json").write_text(json.dumps(recipe))
    run_kdcore(scratch, "run", "recipe.json", "--out", "student")
    report = json.loads((scratch / "student" / "report.json").read_text())
    assert report["student"]["top1"] > 10
    assert (scratch / "student" / "student.safetensors").stat().st_size > 0


def test_new_method_is_validated_like_the_others(scratch: Path) -> None:
    check = (
        "from kdcore.schema.job import JobSpec\n"
        "from kdcore.schema.validation.rules import validate\n"
        "from kdcore.schema.validation.partial_spec import parse_partially\n"
        "body = {'student': {'architecture': 'cifar/resnet8'}, 'dataset': 'ds_1',\n"
        "        'method': {'type': 'logit_cosine', 'weight': 0},\n"
        "        'training': {'views': 2, 'teacher_cache_logits': 3}}\n"
        "print(*(issue.pointer for issue in validate(parse_partially(JobSpec, body))))\n"
        "print('LogitCosine' in JobSpec.model_json_schema()['$defs'])\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", check],
        cwd=scratch,
        env=scratch_environment(scratch),
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.split() == ["/teachers", "/training/teacher_cache_logits", "True"]
