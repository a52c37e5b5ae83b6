"""Counter-based random numbers: a pure function of key and sample id, in any order.

A generator with a state would make a view depend on the views that were drawn before, so a resumed
training could not repeat the same views.
"""

import numpy as np
from numpy.typing import NDArray

UInt64Array = NDArray[np.uint64]
_GAMMA = 0x9E3779B97F4A7C15
_MULTIPLIER_1 = 0xBF58476D1CE4E5B9
_MULTIPLIER_2 = 0x94D049BB133111EB
_MASK = (1 << 64) - 1


def splitmix64(x: UInt64Array) -> UInt64Array:
    """Apply the finalizer of SplitMix64 (Steele, Lea & Flood 2014), a bijection of integers."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(_MULTIPLIER_1)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(_MULTIPLIER_2)
    return x ^ (x >> np.uint64(31))


def _splitmix64_int(x: int) -> int:
    """Apply :func:`splitmix64` to one integer."""
    x = (x ^ (x >> 30)) * _MULTIPLIER_1 & _MASK
    x = (x ^ (x >> 27)) * _MULTIPLIER_2 & _MASK
    return x ^ (x >> 31)


def derive_key(*words: int) -> int:
    """Combine several integers, whose order matters, to one 64-bit key."""
    key = 0
    for word in words:
        key = _splitmix64_int((key + _GAMMA) & _MASK ^ _splitmix64_int((word + _GAMMA) & _MASK))
    return key


def random_bits(key: int, ids: NDArray[np.int64], draw_index: int) -> UInt64Array:
    """Return 64 random bits for every sample id, of draw ``draw_index``; shape of ``ids``."""
    counter = splitmix64(ids.astype(np.uint64) + np.uint64(key))
    return splitmix64(counter + np.uint64((draw_index + 1) * _GAMMA & _MASK))


def bounded_integers(bits: UInt64Array, limit: int | NDArray[np.int64]) -> NDArray[np.int64]:
    """Turn random bits into integers in [0, limit); ``limit`` < 2**31 may be one for each.

    Multiplies the upper half with ``limit`` (Lemire 2019); the bias is below ``limit`` / 2**32.
    """
    high = bits >> np.uint64(32)
    return ((high * np.asarray(limit).astype(np.uint64)) >> np.uint64(32)).astype(np.int64)


def uniform(bits: UInt64Array) -> NDArray[np.float64]:
    """Turn random bits into multiples of 2**-53 in [0, 1)."""
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53
