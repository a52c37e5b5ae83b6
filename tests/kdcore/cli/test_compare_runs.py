"""Two recipes side by side."""

import math

import pytest
from rich.console import Console

from kdcore.cli import compare_runs
from kdcore.recipes.runner import RunSpec
from kdcore.runtime.cancellation import CancellationToken
from kdcore.schema.diff import find_differences
from tests.kdcore.recipe_runs import QUICK_TRAINING, digits_recipe, ignore_event


def test_differing_settings_are_named_by_path():
    kd, fsp = {"type": "kd", "weight": 1}, {"type": "fsp", "weight": 2}
    assert find_differences({"m": [kd], "s": 1}, {"m": [kd | {"weight": 3}, fsp], "s": 1}) == {
        "m.kd.weight": (1, 3),
        "m.fsp.type": (None, "fsp"),
        "m.fsp.weight": (None, 2),
    }


def test_comparison_runs_both_recipes_and_tests_the_difference(tmp_path, digits_store, capsys):
    recipe = digits_recipe(digits_store, training=QUICK_TRAINING)
    runs = [
        compare_runs.load_or_run(
            RunSpec(recipe | {"seed": seed}, tmp_path, tmp_path / name),
            ignore_event,
            CancellationToken(),
        )
        for name, seed in (("a", 0), ("b", 1))
    ]
    comparison = compare_runs.compare_runs(*runs)
    assert comparison["settings"] == {"seed": {"a": 0, "b": 1}}
    a, b = (run.report.student.top1 / 100 for run in runs)
    images = runs[0].data["counts"]["test"]
    expected = 100 * math.sqrt((a * (1 - a) + b * (1 - b)) / images)
    assert comparison["significance"]["standard_error"] == pytest.approx(expected)
    assert comparison["metrics"]["top1"]["difference"] == pytest.approx(100 * (b - a))
    assert comparison["metrics"]["num_params"]["difference"] == 0
    compare_runs.show_comparison(comparison, Console(width=200))
    assert comparison["significance"]["statement"] in capsys.readouterr().out

    other_data = runs[1]._replace(data=runs[1].data | {"digest": "0" * 64})
    assert "cannot be compared" in compare_runs.significance(runs[0], other_data)["statement"]


def test_standard_error_comes_from_the_deviation_of_several_seeds(teacher_run):
    data = {"digest": "x", "counts": {"test": 100}}
    seeds = teacher_run.report.seeds

    def run_with_spread(mean, std):
        spread = seeds.student_top1.model_copy(update={"mean": mean, "std": std})
        four_seeds = seeds.model_copy(update={"num_seeds": 4, "student_top1": spread})
        report = teacher_run.report.model_copy(update={"seeds": four_seeds})
        run_spec = RunSpec({}, teacher_run.path, teacher_run.path)
        return compare_runs.ComparedRun(run_spec, report, {}, data)

    result = compare_runs.significance(run_with_spread(90.0, 3.0), run_with_spread(96.0, 4.0))
    assert result["basis"] == "seeds"
    assert result["standard_error"] == pytest.approx(2.5)
    assert "2.4 standard errors of 2.50" in result["statement"]
    assert "more than chance" in result["statement"]
