"""The example "A new scheme" of CONTRIBUTING.md: two files, and a student trains by it."""

import json
from pathlib import Path

from tests.house.scratch import apply_example, copy_checkout, read_example
from tests.house.test_new_method import RECIPE, run_kdcore


def test_new_scheme_is_two_files_and_trains(root: Path, tmp_path: Path) -> None:
    example = read_example(root, "A new scheme")
    assert len(example.files) == 2
    assert not example.lines
    assert example.num_lines < 30
    copy_checkout(root, tmp_path)
    apply_example(example, tmp_path)
    assert "self_teaching" in run_kdcore(tmp_path, "schemes")
    recipe = RECIPE | {"scheme": {"type": "self_teaching"}}
    (tmp_path / "recipe.json").write_text(json.dumps(recipe))
    run_kdcore(tmp_path, "run", "recipe.json", "--out", "student")
    report = json.loads((tmp_path / "student" / "report.json").read_text())
    assert report["student"]["top1"] > 10
    assert [network["name"] for network in report["details"]["networks"]] == ["teacher", "student"]
