"""Pooling and enlarging equal torch's, whose backward passes are not deterministic on CUDA."""

import pytest
import torch
from torch.nn import functional

from kdcore.methods.common.adapters import regressor
from kdcore.methods.common.resize import enlarge_to, pool_to, same_size

SIZES = [((8, 8), (4, 4)), ((7, 5), (3, 2)), ((9, 4), (9, 1)), ((5, 5), (5, 5)), ((6, 10), (4, 7))]


@pytest.mark.parametrize(("size", "target"), SIZES)
def test_pooling_equals_torch(size: tuple[int, int], target: tuple[int, int]) -> None:
    x = torch.randn(2, 3, *size).double()
    torch.testing.assert_close(pool_to(x, target), functional.adaptive_avg_pool2d(x, target))


@pytest.mark.parametrize(("target", "size"), SIZES)
def test_enlarging_equals_torch(target: tuple[int, int], size: tuple[int, int]) -> None:
    x = torch.randn(2, 3, *size)
    torch.testing.assert_close(enlarge_to(x, target), functional.interpolate(x, target))


def test_maps_are_pooled_to_smaller_height_and_width() -> None:
    a, b = same_size(torch.randn(2, 3, 8, 2), torch.randn(2, 5, 3, 6))
    assert (a.shape, b.shape) == ((2, 3, 3, 2), (2, 5, 3, 2))


@pytest.mark.parametrize(
    ("size", "target", "output"),
    [
        *(((8, 8), (4, 4), (4, 4)), ((8, 4), (4, 4), (4, 4)), ((9, 9), (3, 3), (3, 3))),
        *(((4, 4), (8, 8), (4, 4)), ((7, 7), (4, 4), (7, 7)), ((4, 4), (4, 4), (4, 4))),
    ],
)
def test_regressor_strides_by_integer_factors(
    size: tuple[int, int], target: tuple[int, int], output: tuple[int, int]
) -> None:
    student, teacher = torch.randn(2, 3, *size), torch.randn(2, 5, *target)
    assert regressor(student, teacher)(student).shape == (2, 5, *output)
