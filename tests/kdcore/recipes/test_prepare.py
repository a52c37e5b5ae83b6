"""Preparing a recipe reports all of its issues before anything is trained."""

import shutil

import pytest

from kdcore.recipes import recipe_data
from kdcore.recipes.config import dataset_config
from kdcore.recipes.prepare import prepare
from kdcore.runtime.cancellation import CancellationToken
from kdcore.runtime.errors import UserError
from kdcore.training.job_digest import compute_job_digest
from tests.kdcore.recipe_runs import digits_recipe
from tests.kdcore.uploads import image_tree, png, write_archive


def issues_of(recipe, base):
    """Prepare an invalid recipe and return the detail of each issue by its pointer."""
    with pytest.raises(UserError) as caught:
        prepare(recipe, base, base / "work", CancellationToken())
    return {item.name: item.detail for item in caught.value.items}


def test_issues_of_fields_files_and_their_combination_are_reported_together(
    tmp_path, teacher_run, digits_store
):
    (tmp_path / "bad.pt").write_bytes(b"no weights")
    issues = issues_of(
        {
            "student": {"architecture": "cifar/resnet9", "num_classes": 7},
            "dataset": str(digits_store),
            "teachers": [
                {"weights": "nowhere"},
                {"weights": str(teacher_run.path), "channels": "repeat"},
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
    missing = {name: words for name, words in EXPECTED.items() if words not in issues.get(name, "")}
    assert missing == {}
    assert set(issues) == set(EXPECTED)


EXPECTED = {
    "/student/architecture": "`python -m kdcore networks` lists all",
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
    ("recipe", "name", "words"),
    [
        ([], "/", "must be an object"),
        ({"dataset": "gone.zip"}, "/dataset", "there is no file or folder"),
        ({"dataset": "digits"}, "/dataset", "a source such as `builtin:digits`"),
        ({"dataset": "builtin:letters"}, "/dataset", "did you mean builtin:digits"),
        ({"dataset": {}}, "/dataset", "either a path or a source"),
        ({"dataset": "x", "kind": "evaluate"}, "/model", "name the model"),
    ],
)
def test_issue_has_the_pointer_of_its_field(tmp_path, recipe, name, words):
    assert words in issues_of(recipe, tmp_path)[name]


def test_incompatible_weights_have_the_pointer_of_the_field_that_names_them(tmp_path, teacher_run):
    write_archive(tmp_path / "x.zip", image_tree(4))
    recipe = {
        "student": {"architecture": "cifar/resnet8"},
        "dataset": "x.zip",
        "teachers": [{"weights": str(teacher_run.path), "channels": "luminance"}],
        "from": {"folder": str(teacher_run.path)},
    }
    issues = issues_of(recipe, tmp_path)
    assert set(issues) == {"/teachers/0/weights", "/from"}
    assert "the teacher has 10 classes, the data set 2" in issues["/teachers/0/weights"]
    assert "cifar/resnet8 with 10 classes" in issues["/from"]


def test_resolved_job_has_the_paths_of_the_recipe(tmp_path, teacher_run, digits_store):
    teacher = {"weights": str(teacher_run.path), "weight": 2.0}
    recipe = digits_recipe(digits_store, teachers=[teacher])
    job = prepare(recipe, tmp_path, tmp_path / "work", CancellationToken()).request.job
    assert job.dataset == str(digits_store)
    assert [(entry.model, entry.weight) for entry in job.teachers] == [(str(teacher_run.path), 2.0)]


def key_of(recipe, base):
    return prepare(recipe, base, base / "work", CancellationToken()).key()


def digest_of_earlier_versions(recipe, base):
    """The digest of a version that wrote an id of the content into the job."""
    request = prepare(recipe, base, base / "work", CancellationToken()).request
    content_id = f"mdl_{request.init.sha256[:16]}"
    student = request.job.student.model_copy(update={"init": content_id})
    job = request.job.model_copy(update={"student": student})
    return compute_job_digest(request.model_copy(update={"job": job, "init_is_path": False}))


def test_same_weights_under_another_path_have_the_same_digest(tmp_path, teacher_run, digits_store):
    weights = tmp_path / "x.safetensors"
    shutil.copy(teacher_run.path / "student.safetensors", weights)

    def recipe_from(init):
        return digits_recipe(digits_store, student={"architecture": "cifar/resnet8", "init": init})

    key = key_of(recipe_from("x.safetensors"), tmp_path)
    assert key["job"]["student"]["init"] == "x.safetensors"
    assert key["digest"] == digest_of_earlier_versions(recipe_from("x.safetensors"), tmp_path)
    assert key_of(recipe_from("./x.safetensors"), tmp_path)["digest"] == key["digest"]
    (tmp_path / "moved").mkdir()
    weights.rename(tmp_path / "moved" / "y.safetensors")
    assert key_of(recipe_from("moved/y.safetensors"), tmp_path)["digest"] == key["digest"]
    assert key_of(recipe_from("random"), tmp_path)["digest"] != key["digest"]


def test_evaluation_of_a_moved_folder_has_the_same_digest(tmp_path, teacher_run, digits_store):
    names = ("student.safetensors", "config.json")
    for folder in ("x", "moved"):
        (tmp_path / folder).mkdir()
        for name in names:
            shutil.copy(teacher_run.path / name, tmp_path / folder)
    recipe = {"kind": "evaluate", "dataset": str(digits_store)}
    keys = [
        key_of(recipe | {"model": {"weights": path}}, tmp_path) for path in ("x", "./x", "moved")
    ]
    assert [key["job"]["student"]["init"] for key in keys] == ["x", "./x", "moved"]
    model = {"model": {"weights": "x"}}
    assert {key["digest"] for key in keys} == {digest_of_earlier_versions(recipe | model, tmp_path)}


def test_state_dict_shows_its_architecture(tmp_path, teacher_run, digits_store):
    path = str(teacher_run.path / "student.safetensors")
    recipe = {"student": {"architecture": "cifar/resnet8"}, "dataset": str(digits_store)}
    teacher = {"weights": path, "architecture": "cifar/resnet8"}
    named, inferred = (
        key_of(recipe | {"teachers": teachers}, tmp_path)
        for teachers in ([teacher], [{"weights": path}])
    )
    assert inferred == named
    issues = issues_of(recipe | {"teachers": [{"weights": str(tmp_path)}]}, tmp_path)
    assert "not the folder of a finished run" in issues["/teachers/0/weights"]


def test_state_dict_of_another_architecture_is_refused(tmp_path, teacher_run, digits_store):
    path = str(teacher_run.path / "student.safetensors")
    recipe = {"student": {"architecture": "cifar/resnet8"}, "dataset": str(digits_store)}
    teacher = {"weights": path, "architecture": "cifar/resnet14"}
    issues = issues_of(recipe | {"teachers": [teacher]}, tmp_path)
    assert "is not a cifar/resnet14" in issues["/teachers/0/weights"]
    student = {"architecture": "cifar/resnet14", "init": path}
    issues = issues_of(recipe | {"student": student}, tmp_path)
    assert "is not a cifar/resnet14" in issues["/student/init"]


def test_damaged_images_are_named(tmp_path):
    write_archive(tmp_path / "x.zip", image_tree(4) | {"ant/broken.png": b"no image"})
    recipe = {"student": {"architecture": "cifar/resnet8"}, "dataset": "x.zip"}
    assert "ant/broken.png" in issues_of(recipe, tmp_path)["/dataset"]


def test_folder_is_ingested_once_until_its_files_change(tmp_path):
    for name, image in image_tree(5).items():
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(image)

    def ingest_folder():
        config = dataset_config("images")
        return recipe_data.prepare_dataset(config, tmp_path, tmp_path / "work", CancellationToken())

    store_path = tmp_path / "work" / "artifacts" / "dataset.safetensors"
    first = ingest_folder()
    assert (first.facts.num_classes, first.facts.in_channels, first.facts.image_size) == (2, 3, 10)
    written = store_path.stat().st_mtime_ns
    assert ingest_folder() == first
    assert store_path.stat().st_mtime_ns == written
    (tmp_path / "images" / "bee" / "9.png").write_bytes(png(99))
    assert ingest_folder().file.sha256 != first.file.sha256
    assert not (tmp_path / "work" / "folder.zip").exists()
