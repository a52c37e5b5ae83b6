"""Which teachers may teach, and which are warned of, however many classes there are."""

import pytest

from kdcore.evaluation.teacher_check import ChanceTest, check_teachers
from kdcore.runtime.errors import UserError


@pytest.mark.parametrize(
    ("right", "majority", "weak"),
    [
        # Two classes: naming one of them is right half the time.
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
def test_a_teacher_is_held_against_the_most_frequent_class(
    right: int, majority: int, weak: bool
) -> None:
    warned = ChanceTest(num_correct=right, total=1000, majority_count=majority).is_weak
    assert warned == weak


def test_a_good_teacher_of_two_classes_is_not_warned_of() -> None:
    assert check_teachers(["t"], [ChanceTest(num_correct=485, total=500, majority_count=260)]) == []


def test_a_weak_teacher_is_warned_of_and_a_useless_one_refused() -> None:
    (told,) = check_teachers(["t"], [ChanceTest(num_correct=2150, total=4000, majority_count=2000)])
    assert "the teacher t is weak: 53.8 % of 4000" in told
    with pytest.raises(UserError, match="no better than chance"):
        check_teachers(["t"], [ChanceTest(num_correct=2050, total=4000, majority_count=2000)])
