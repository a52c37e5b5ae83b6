"""How augmentation may be written, and what is said of lists that make no sense."""

import pytest
from pydantic import TypeAdapter, ValidationError

from kdcore.schema.augmentation import AUGMENTATIONS, AugmentationField, CropFlip, as_augmentations
from kdcore.schema.validation.errors import field_issues

FIELD = TypeAdapter(AugmentationField)


def listed(*names):
    return [{"type": name} for name in names]


def test_one_object_stays_one_and_a_list_a_list():
    one = FIELD.validate_python({"type": "crop_flip", "padding": 2})
    assert one == CropFlip(type="crop_flip", padding=2)
    assert as_augmentations(one) == (one,)
    assert FIELD.dump_python(one, mode="json") == {"type": "crop_flip", "padding": 2, "flip": None}
    several = FIELD.validate_python(listed("random_resized_crop", "randaugment", "mixup"))
    assert as_augmentations(several) == several
    assert [each["type"] for each in FIELD.dump_python(several, mode="json")] == [
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
def test_lists_that_make_no_sense(names, words):
    with pytest.raises(ValidationError, match=words) as error:
        FIELD.validate_python(listed(*names))
    [fault] = field_issues(error.value.errors(), listed(*names))
    assert fault.pointer == ""


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
def test_faults_point_at_what_was_written(value, pointer):
    with pytest.raises(ValidationError) as error:
        FIELD.validate_python(value)
    assert [fault.pointer for fault in field_issues(error.value.errors(), value)] == [pointer]
