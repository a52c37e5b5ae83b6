"""Random numbers by counter: the published generator, uniform and unrelated draws."""

import numpy as np

from kdcore.data.rng import bounded_integers, derive_key, random_bits, splitmix64


def test_splitmix64_gives_the_published_outputs() -> None:
    # The first two outputs of the published generator for seed 0.
    gamma = 0x9E3779B97F4A7C15
    states = np.array([gamma, 2 * gamma % 2**64], np.uint64)
    assert [hex(x) for x in splitmix64(states)] == ["0xe220a8397b1dcdaf", "0x6e789e6aa1b965f4"]


def test_draws_are_uniform_and_unrelated() -> None:
    ids = np.arange(40_000)
    draws = [bounded_integers(random_bits(derive_key(9, 1, 1), ids, draw), 5) for draw in range(3)]
    for values in draws:
        assert np.abs(np.bincount(values, minlength=5) / 8000 - 1).max() < 0.05
    assert abs(np.corrcoef(draws[0], draws[1])[0, 1]) < 0.02
    assert abs(np.corrcoef(draws[0][1:], draws[0][:-1])[0, 1]) < 0.02
    assert len({derive_key(1, 2), derive_key(2, 1), derive_key(1), derive_key(1, 2, 0)}) == 4
