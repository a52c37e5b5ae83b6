"""Augmentation in a job: one object or a list, and the issues of invalid ones."""

import pytest
from pydantic import TypeAdapter, ValidationError

from kdcore.schema.augmentation import AUGMENTATIONS, AugmentationField, CropFlip, as_augmentations
from kdcore.schema.validation.errors import field_issues

FIELD = TypeAdapter(AugmentationField)


def as_list(*names):
    return [{"type": name} for name in names]


def test_object_stays_an_object_and_list_a_list():
    single = FIELD.validate_python({"type": "crop_flip", "padding": 2})
    assert single == CropFlip(type="crop_flip", padding=2)
    assert as_augmentations(single) == (single,)
    assert FIELD.dump_python(single, mode="json") == {
        "type": "crop_flip",
        "padding": 2,
        "flip": None,
    }
    several = FIELD.validate_python(as_list("random_resized_crop", "randaugment", "mixup"))
    assert as_augmentations(several) == several
    assert [entry["type"] for entry in FIELD.dump_python(several, mode="json")] == [
        "random_resized_crop",
        "randaugment",
        "mixup",
    ]


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_every_name_has_defaults(name):
    assert FIELD.validate_python({"type": name}).type == name


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("cutout", "cutout"), "twice"),
        (("none", "cutout"), "leave it out"),
        (("crop_flip", "random_resized_crop"), "choose one"),
        (("mixup", "cutmix"), "choose one"),
        (("mixup", "crop_flip"), "must be the last"),
    ],
)
def test_contradictory_lists_are_refused(names, words):
    with pytest.raises(ValidationError, match=words) as error:
        FIELD.validate_python(as_list(*names))
    [issue] = field_issues(error.value.errors(), as_list(*names))
    assert issue.pointer == ""


@pytest.mark.parametrize(
    ("value", "pointer"),
    [
        ([{"type": "mixup", "alpha": 0}], "/0/alpha"),
        ([{"type": "crop_flip"}, {"type": "cut"}], "/1/type"),
        ({"type": "randaugment", "magnitude": 31}, "/magnitude"),
        ({"type": "random_resized_crop", "scale": [0.5, 0.1]}, ""),
        ("randaugment", ""),
    ],
)
def test_issues_point_at_the_written_field(value, pointer):
    with pytest.raises(ValidationError) as error:
        FIELD.validate_python(value)
    assert [issue.pointer for issue in field_issues(error.value.errors(), value)] == [pointer]
