"""Which teachers are accepted, warned about or refused, for any number of classes."""

import pytest

from kdcore.evaluation.class_order import LikelyOrder
from kdcore.evaluation.plausibility import (
    HINT,
    ORDER_HINT,
    ChanceTest,
    check_teachers,
    reported_top1_warning,
)
from kdcore.runtime.errors import UserError


@pytest.mark.parametrize(
    ("num_correct", "majority", "weak"),
    [
        # Two classes: one class for every image is right half the time.
        (990, 500, False),
        (560, 500, False),
        (549, 500, True),
        # Nine images of ten are of one class.
        (990, 900, False),
        (915, 900, False),
        # Ten even classes, and a hundred.
        (200, 100, False),
        (185, 100, True),
        (50, 10, True),
        (700, 10, False),
    ],
)
def test_teacher_is_compared_with_the_most_frequent_class(
    num_correct: int, majority: int, weak: bool
) -> None:
    result = ChanceTest(num_correct=num_correct, total=1000, majority_count=majority)
    assert result.is_weak == weak


def test_good_teacher_of_two_classes_gives_no_warning() -> None:
    assert check_teachers(["t"], [ChanceTest(num_correct=485, total=500, majority_count=260)]) == []


@pytest.mark.parametrize(("num_correct", "warns"), [(720, False), (690, True)])
def test_teacher_far_below_its_reported_accuracy_gives_a_warning(
    num_correct: int, warns: bool
) -> None:
    result = ChanceTest(num_correct=num_correct, total=1000, majority_count=100)
    warning = reported_top1_warning("t", result, 90.5)
    assert (warning is not None) == warns
    if warning is not None:
        assert "the teacher t is far below its reported accuracy of 90.5 %: 69.0 % of" in warning
    assert reported_top1_warning("t", result, None) is None


def test_weak_teacher_gives_a_warning_and_a_chance_level_one_an_error() -> None:
    (warning,) = check_teachers(
        ["t"], [ChanceTest(num_correct=2150, total=4000, majority_count=2000)]
    )
    assert "the teacher t is weak: 53.8 % of 4000" in warning
    with pytest.raises(UserError, match="no better than chance"):
        check_teachers(["t"], [ChanceTest(num_correct=2050, total=4000, majority_count=2000)])


def test_every_refused_teacher_has_a_sentence() -> None:
    bad = ChanceTest(num_correct=100, total=1000, majority_count=100)
    good = ChanceTest(num_correct=900, total=1000, majority_count=100)
    order = LikelyOrder((1, 0), "in reverse", 10.0, 90.0, 1000)
    with pytest.raises(UserError) as caught:
        check_teachers(["good", "a", "b"], [good, bad, bad], {2: order})
    first, second, third = caught.value.message.split(". ")
    assert first.startswith("the teacher a (/teachers/1) is no better than chance: 10.0 %")
    assert second.startswith(
        "the teacher b (/teachers/2) probably has its classes in another order"
    )
    assert third == "likely_class_order is that of /teachers/2"
    assert str(caught.value).splitlines()[-2:] == [
        'fix: [{"op": "add", "path": "/teachers/2/class_map", "value": [1, 0]}]',
        "likely_class_order: [1, 0]",
    ]
    assert caught.value.hint is not None
    assert caught.value.hint.count("normalization") == 1


def test_order_that_explains_the_accuracy_is_the_only_advice() -> None:
    bad = ChanceTest(num_correct=100, total=1000, majority_count=100)
    order = LikelyOrder((1, 0), "in reverse", 10.0, 90.0, 1000)
    note = reported_top1_warning("a", bad, 90.0)
    assert note is not None
    with pytest.raises(UserError) as caught:
        check_teachers(["a"], [bad], {0: order}, ["b is the best normalization"], [note])
    assert caught.value.hint == f"{ORDER_HINT}. {note.removesuffix(f'. {HINT}')}"
    with pytest.raises(UserError) as caught:
        check_teachers(["a"], [bad], {}, ["b is the best normalization"], [note])
    assert caught.value.hint is not None
    assert caught.value.hint.count("check that the teacher's normalization") == 1
    assert "b is the best normalization" in caught.value.hint
    assert "far below its reported accuracy" in caught.value.hint
