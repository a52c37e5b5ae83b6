"""Which images of a data set an evaluation measures."""

import numpy as np
import pytest
from torch.utils.data import DataLoader

from kdcore import evaluate
from kdcore.recipes.config import RecipeDataset
from kdcore.recipes.recipe_data import prepare_dataset
from kdcore.runtime.cancellation import CancellationToken
from kdcore.runtime.errors import UserError
from tests.kdcore.data.ingest.test_parquet import encode_table
from tests.kdcore.uploads import png, write_archive


def prepare(path, folder, *, for_evaluation=True):
    config = RecipeDataset(path=str(path))
    return prepare_dataset(
        config, folder, folder / "data", CancellationToken(), for_evaluation=for_evaluation
    )


def tree(count, *folders):
    return {
        f"{folder}/{'ab'[n % 2]}/{n}.png": png(n + 100 * i)
        for i, folder in enumerate(folders)
        for n in range(count)
    }


def parquet(name, path):
    file = path / name
    file.write_bytes(encode_table(0, 20))
    return file


@pytest.mark.parametrize(
    ("folders", "measured"),
    [
        (["test"], "20 test images (test/)"),
        (["val"], "20 test images (val/)"),
        (["train", "test"], "20 test images (test/)"),
        (["train"], "4 test images (drawn from train with split_seed 0)"),
    ],
)
def test_all_of_the_only_split_is_measured(tmp_path, folders, measured):
    path = write_archive(tmp_path / "in.zip", tree(20, *folders))
    assert prepare(path, tmp_path).test_source == measured


def test_the_name_of_a_parquet_file_says_its_split(tmp_path):
    path = parquet("test-00000-of-00001.parquet", tmp_path)
    prepared = prepare(path, tmp_path)
    assert prepared.test_source == "20 test images (test-00000-of-00001.parquet)"
    drawn = prepare(parquet("digits.parquet", tmp_path), tmp_path / "other")
    assert drawn.test_source.startswith("3 test images (drawn from train")


def test_a_job_that_trains_needs_training_images(tmp_path):
    path = write_archive(tmp_path / "in.zip", tree(20, "test"))
    with pytest.raises(UserError, match="no images in train/"):
        prepare(path, tmp_path, for_evaluation=False)


def test_evaluate_takes_test_alone(tmp_path, monkeypatch, teacher_run, capsys):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (30, 8, 8), dtype=np.uint8)
    samples = [(image, number % 10) for number, image in enumerate(images)]
    result = evaluate(teacher_run, {"test": DataLoader(samples, batch_size=7)})
    assert len(result.report.student.per_class_top1) == 10
    assert "measured are 30 test images" in capsys.readouterr().out


def test_a_warning_about_classes_is_printed_once(tmp_path, monkeypatch, teacher_run, capsys):
    monkeypatch.chdir(tmp_path)
    model = {
        "weights": teacher_run.load().network.state_dict(),
        "architecture": "cifar/resnet8",
        "normalization": teacher_run.report.normalization.model_dump(mode="json"),
        "class_names": [f"other {letter}" for letter in "abcdefghij"],
    }
    evaluate(model, "builtin:digits")
    assert capsys.readouterr().out.count("the model has no class named") == 1
