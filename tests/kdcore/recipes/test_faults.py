"""All faults of a recipe at once, each where it is, before anything is trained."""

import pytest

from kdcore.recipes import recipe_data
from kdcore.recipes.prepare import prepare
from kdcore.runtime.cancellation import CancellationToken
from kdcore.runtime.errors import UserError
from tests.kdcore.uploads import image_tree, png, write_archive


def faults(body, base):
    with pytest.raises(UserError) as caught:
        prepare(body, base, base / "work", CancellationToken())
    return {each.name: each.detail for each in caught.value.items}


def test_faults_of_fields_of_files_and_between_them_come_together(tmp_path, taught, digits):
    (tmp_path / "bad.pt").write_bytes(b"no weights")
    found = faults(
        {
            "student": {"architecture": "cifar/resnet9", "num_classes": 7},
            "dataset": str(digits),
            "teachers": [
                {"weights": "nowhere"},
                {"weights": str(taught.path), "channels": "repeat"},
                {"weights": "bad.pt", "architecture": "cifar/resnet8", "weight": 0},
                {"weights": "bad.pt", "architecture": "cifar/resnet8"},
                {"model": "mdl_1"},
            ],
            "method": {"type": "kd", "temperature": 0},
            "accept": {"min_top1": 101},
            "seeds": 3,
        },
        tmp_path,
    )
    assert {
        name: words for name, words in EXPECTED.items() if words not in found.get(name, "")
    } == {}
    assert set(found) == set(EXPECTED)


EXPECTED = {
    "/student/architecture": "`python -m kdcore networks` lists them",
    "/student/num_classes": "the data set has 10 classes",
    "/teachers/0/weights": "there is no file or folder",
    "/teachers/1/channels": "leave it out",
    "/teachers/2/weight": "greater than 0",
    "/teachers/2/weights": "neither a safetensors file",
    "/teachers/3/weights": "neither a safetensors file",
    "/teachers/4/weights": "this field is required",
    "/teachers/4/model": "there is no such field here",
    "/method/temperature": "greater than or equal to 0.01",
    "/accept/min_top1": "less than or equal to 100",
    "/seeds": "there is no such field here",
}


@pytest.mark.parametrize(
    ("body", "name", "words"),
    [
        ([], "/", "must be an object"),
        ({"dataset": "gone.zip"}, "/dataset", "there is no file or folder"),
        ({"dataset": "builtin:letters"}, "/dataset", "did you mean builtin:digits"),
        ({"dataset": {}}, "/dataset", "either a path or a source"),
        ({"dataset": "x", "kind": "evaluate"}, "/model", "name the model"),
    ],
)
def test_a_fault_is_told_where_it_is(tmp_path, body, name, words):
    assert words in faults(body, tmp_path)[name]


def test_a_state_dict_must_say_what_it_is(tmp_path, taught, digits):
    path = str(taught.path / "student.safetensors")
    body = {"student": {"architecture": "cifar/resnet8"}, "dataset": str(digits)}
    found = faults(body | {"teachers": [{"weights": path}]}, tmp_path)
    assert "architecture: add it" in found["/teachers/0/weights"]
    found = faults(body | {"teachers": [{"weights": str(tmp_path)}]}, tmp_path)
    assert "not the folder of a finished run" in found["/teachers/0/weights"]
    wrong = {"weights": path, "architecture": "cifar/resnet14"}
    found = faults(body | {"teachers": [wrong]}, tmp_path)
    assert "is not a cifar/resnet14" in found["/teachers/0/weights"]
    found = faults(body | {"student": {"architecture": "cifar/resnet14", "init": path}}, tmp_path)
    assert "is not a cifar/resnet14" in found["/student/init"]


def test_bad_images_are_named(tmp_path):
    write_archive(tmp_path / "x.zip", image_tree(4) | {"ant/broken.png": b"no image"})
    body = {"student": {"architecture": "cifar/resnet8"}, "dataset": "x.zip"}
    assert "ant/broken.png" in faults(body, tmp_path)["/dataset"]


def test_a_folder_is_a_data_set_and_is_taken_in_once(tmp_path):
    for name, image in image_tree(5).items():
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(image)

    def taken():
        asked = recipe_data.dataset_config("images")
        return recipe_data.prepare_dataset(asked, tmp_path, tmp_path / "work", CancellationToken())

    first = taken()
    assert (first.facts.num_classes, first.facts.in_channels, first.facts.image_size) == (2, 3, 10)
    written = (tmp_path / "work" / "artifacts" / "dataset.safetensors").stat().st_mtime_ns
    assert taken() == first
    assert (tmp_path / "work" / "artifacts" / "dataset.safetensors").stat().st_mtime_ns == written
    (tmp_path / "images" / "bee" / "9.png").write_bytes(png(99))
    assert taken().file.sha256 != first.file.sha256
    assert not (tmp_path / "work" / "folder.zip").exists()
