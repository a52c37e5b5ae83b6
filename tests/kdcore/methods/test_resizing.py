"""Our pooling and enlarging against torch's, which are not deterministic on CUDA."""

import pytest
import torch
from torch.nn import functional

from kdcore.methods.common.adapters import regressor
from kdcore.methods.common.resize import enlarge_to, pool_to, same_size

SIZES = [((8, 8), (4, 4)), ((7, 5), (3, 2)), ((9, 4), (9, 1)), ((5, 5), (5, 5)), ((6, 10), (4, 7))]


@pytest.mark.parametrize(("size", "wanted"), SIZES)
def test_pooling_is_torchs(size: tuple[int, int], wanted: tuple[int, int]) -> None:
    x = torch.randn(2, 3, *size).double()
    torch.testing.assert_close(pool_to(x, wanted), functional.adaptive_avg_pool2d(x, wanted))


@pytest.mark.parametrize(("wanted", "size"), SIZES)
def test_enlarging_is_torchs(wanted: tuple[int, int], size: tuple[int, int]) -> None:
    x = torch.randn(2, 3, *size)
    torch.testing.assert_close(enlarge_to(x, wanted), functional.interpolate(x, wanted))


def test_maps_meet_at_the_smaller_of_each_side() -> None:
    a, b = same_size(torch.randn(2, 3, 8, 2), torch.randn(2, 5, 3, 6))
    assert (a.shape, b.shape) == ((2, 3, 3, 2), (2, 5, 3, 2))


@pytest.mark.parametrize(
    ("size", "wanted", "given"),
    [
        *(((8, 8), (4, 4), (4, 4)), ((8, 4), (4, 4), (4, 4)), ((9, 9), (3, 3), (3, 3))),
        *(((4, 4), (8, 8), (4, 4)), ((7, 7), (4, 4), (7, 7)), ((4, 4), (4, 4), (4, 4))),
    ],
)
def test_the_regressor_strides_by_whole_factors(
    size: tuple[int, int], wanted: tuple[int, int], given: tuple[int, int]
) -> None:
    student, teacher = torch.randn(2, 3, *size), torch.randn(2, 5, *wanted)
    assert regressor(student, teacher)(student).shape == (2, 5, *given)
