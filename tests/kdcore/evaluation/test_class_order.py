"""An order of classes other than the data set's is detected from predictions."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from kdcore.evaluation.class_order import find_likely_order
from kdcore.evaluation.plausibility import check_teachers, count_correct
from kdcore.runtime.errors import UserError

NUMBERS = tuple(str(number) for number in range(12))
NAMES = tuple("abcdefgh")


def draw_logits(num_classes: int, accuracy: float, num_images: int) -> tuple[Tensor, Tensor]:
    """Logits (N, C) that are right for about a share of the images, and targets (N,)."""
    generator = torch.Generator().manual_seed(0)
    target = torch.arange(num_images) % num_classes
    wrong = torch.rand(num_images, generator=generator) >= accuracy
    predicted = target.clone()
    predicted[wrong] = torch.randint(num_classes, (int(wrong.sum()),), generator=generator)
    return torch.nn.functional.one_hot(predicted, num_classes).float(), target


def in_order(logits: Tensor, class_map: Sequence[int]) -> Tensor:
    """The logits of a network whose class for the data set's class ``i`` is ``class_map[i]``."""
    permuted = torch.empty_like(logits)
    permuted[:, list(class_map)] = logits
    return permuted


TEXT_ORDER = tuple(sorted(NUMBERS).index(name) for name in NUMBERS)
SWAPPED = (0, 2, 1, 3, 5, 4, 7, 6)


def test_numbers_sorted_as_text_are_detected() -> None:
    # A third of the images is right in either order, as for a weak teacher of many classes.
    logits, target = draw_logits(len(NUMBERS), 0.5, 240)
    order = find_likely_order(in_order(logits, TEXT_ORDER), target, NUMBERS)
    assert order is not None
    assert order.class_map == TEXT_ORDER
    assert order.other_top1 == count_correct(logits, target).top1
    assert order.other_top1 > order.top1 + 10
    assert "sorted as text (torchvision's ImageFolder)" in order.sentence


def test_order_of_a_permuted_confusion_matrix_is_detected() -> None:
    logits, target = draw_logits(len(NAMES), 0.9, 160)
    order = find_likely_order(in_order(logits, SWAPPED), target, NAMES)
    assert order is not None
    assert order.class_map == SWAPPED
    assert order.other_top1 > 80


@pytest.mark.parametrize("accuracy", [0.0, 0.3, 0.6, 1.0])
@pytest.mark.parametrize("classes", [NUMBERS, NAMES])
@pytest.mark.parametrize("num_images", [24, 240])
def test_right_order_is_never_replaced(
    accuracy: float, classes: tuple[str, ...], num_images: int
) -> None:
    logits, target = draw_logits(len(classes), accuracy, num_images)
    assert find_likely_order(logits, target, classes) is None


def test_misordered_teachers_are_refused_with_their_class_maps() -> None:
    logits, target = draw_logits(len(NAMES), 1.0, 160)
    misordered = in_order(logits, SWAPPED)
    order = find_likely_order(misordered, target, NAMES)
    assert order is not None
    results = [count_correct(logits, target), count_correct(misordered, target)]
    with pytest.raises(UserError, match="probably has its classes in another order") as caught:
        check_teachers(["good", "swapped"], results, {1: order})
    error = caught.value
    assert error.code == "teacher_load_failed"
    assert [item.name for item in error.items] == ["swapped"]
    assert error.items[0].detail.startswith(
        "25.0 % of 160 images are right in the data set's order"
    )
    patch = {"op": "add", "path": "/teachers/1/class_map", "value": list(SWAPPED)}
    assert error.fix == (patch,)
    assert error.likely_class_order == SWAPPED
