"""The random numbers of training: PCG64, and the order of the rows that it gives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

_HALF = 2**64 - 1


def words(bit_generator: np.random.PCG64) -> list[int]:
    """Return state and increment as four numbers of 64 bits, the upper half of each first."""
    inner: Any = bit_generator.state["state"]
    return [inner["state"] >> 64, inner["state"] & _HALF, inner["inc"] >> 64, inner["inc"] & _HALF]


def bit_generator(numbers: Sequence[int] | NDArray[np.uint64]) -> np.random.PCG64:
    """Return the generator that `words` has told apart."""
    state_high, state_low, inc_high, inc_low = map(int, numbers)
    generator = np.random.PCG64(0)
    inner = {"state": state_high << 64 | state_low, "inc": inc_high << 64 | inc_low}
    whole: Any = {"bit_generator": "PCG64", "state": inner, "has_uint32": 0, "uinteger": 0}
    generator.state = whole
    return generator


def shuffled(n: int, bit_generator: np.random.PCG64) -> NDArray[np.int64]:
    """Put the numbers 0 to n - 1 in random order, each order equally likely (Fisher and Yates).

    Each swap takes one raw 64-bit number, whose upper half picks a place j <= i.
    """
    order = list(range(n))
    raw = bit_generator.random_raw(n - 1).tolist()
    for i, r in zip(range(n - 1, 0, -1), raw, strict=True):
        j = ((r >> 32) * (i + 1)) >> 32
        order[i], order[j] = order[j], order[i]
    return np.array(order, np.int64)
