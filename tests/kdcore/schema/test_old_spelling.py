"""Stored files in the British spelling are read under today's names."""

from kdcore.schema.old_spelling import OLD_SPELLINGS, old_spelling, with_current_spelling


def test_every_old_name_becomes_the_current_one() -> None:
    fields = {old: current for current, old in OLD_SPELLINGS.items()}
    assert with_current_spelling(fields) == {name: name for name in OLD_SPELLINGS}


def test_first_part_of_a_path_is_renamed() -> None:
    assert with_current_spelling({f"{old_spelling('unlabeled')}/images": 1, "train/images": 2}) == {
        "unlabeled/images": 1,
        "train/images": 2,
    }


def test_nested_names_and_values_stay() -> None:
    old = old_spelling("normalization")
    fields = {"per_class": {old: 3}, "classes": [old]}
    assert with_current_spelling(fields) == fields
