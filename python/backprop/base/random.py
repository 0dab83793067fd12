"""The random numbers of networks: PCG64, how a seed begins it, and the order of the rows that it gives."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from backprop.base import checks as check

_HALF = 2**64 - 1
_WHOLE = 2**128 - 1
_MULTIPLIER = 0x2360ED051FC65DA44385DF649FCCF645

INITIAL_VALUES, TRAINING = 0, 1
"""The two streams of a network's seed, as `numpy.random.SeedSequence.spawn` counts them"""
_Wide: TypeAlias = tuple[NDArray[np.uint64], NDArray[np.uint64]]
"""Integers of 128 bits, the upper halves first"""


def words(bit_generator: np.random.PCG64) -> list[int]:
    """Return state and increment as four numbers of 64 bits, the upper half of each first."""
    inner: Any = bit_generator.state["state"]
    return [inner["state"] >> 64, inner["state"] & _HALF, inner["inc"] >> 64, inner["inc"] & _HALF]


def bit_generator(numbers: Sequence[int] | NDArray[np.uint64]) -> np.random.PCG64:
    """Return the generator that `words` has told apart."""
    generator = np.random.PCG64(0)
    set_words(generator, numbers)
    return generator


def set_words(generator: np.random.PCG64, numbers: Iterable[Any]) -> None:
    """Put a generator where `words` has found one."""
    state_high, state_low, inc_high, inc_low = map(int, numbers)
    inner = {"state": state_high << 64 | state_low, "inc": inc_high << 64 | inc_low}
    whole: Any = {"bit_generator": "PCG64", "state": inner, "has_uint32": 0, "uinteger": 0}
    generator.state = whole


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


# --- many seeds at once --------------------------------------------------------------------------------------------


def seeds(size: Any, seed: Any) -> Sequence[int]:
    """Return the seeds of a fleet's members."""
    if size is not None:
        size = check.integer("size", size, at_least=1)
    if seed is None or isinstance(seed, (bool, int, np.integer)):
        if size is None:
            raise ValueError("size: needs the number of members unless seed is a sequence, got None")
        first: Any = np.random.SeedSequence().entropy if seed is None else check.integer("seed", seed, at_least=0)
        return range(first, first + size)
    if isinstance(seed, str) or not isinstance(seed, (Sequence, np.ndarray)) or not len(seed):
        raise TypeError(f"seed: needs an integer, None or a sequence of integers, got {check.shown(seed)}")
    if size is not None and size != len(seed):
        raise ValueError(f"seed: needs one for each of the {size} members, got {len(seed)}")
    return kept([check.integer(f"seed[{k}]", each, at_least=0) for k, each in enumerate(seed)])


def kept(seeds: Sequence[int]) -> Sequence[int]:
    """Return seeds in a form that takes little memory: a range, an array of int64, or a tuple."""
    count = range(seeds[0], seeds[0] + len(seeds))
    if isinstance(seeds, range) or all(map(int.__eq__, map(int, seeds), count)):
        return seeds if isinstance(seeds, range) else count
    return np.array(seeds, np.int64) if max(seeds) < 2**63 else tuple(map(int, seeds))  # type: ignore[return-value]


def words_of_seeds(seeds: Sequence[int], stream: int) -> NDArray[np.uint64]:
    """Return the `words` with which ``PCG64(SeedSequence(seed).spawn(2)[stream])`` begins, (size, 4).

    The same as NumPy's, for all seeds together, which takes a fiftieth of the time. NumPy keeps both algorithms as
    they are: M. O'Neill, "Developing a seed_seq alternative" (2015), and her PCG64.
    """
    found = np.empty((len(seeds), 4), np.uint64)
    chunk = 8192  # what is worked out on the way stays in the cache
    for start in range(0, len(seeds), chunk):
        found[start : start + chunk] = _words([int(seed) for seed in seeds[start : start + chunk]], stream)
    return found


def _words(seeds: list[int], stream: int) -> NDArray[np.uint64]:
    if max(seeds) > _WHOLE:
        sequences = [np.random.SeedSequence(seed, spawn_key=(stream,)) for seed in seeds]
        return np.array([words(np.random.PCG64(sequence)) for sequence in sequences], np.uint64)
    state_high, state_low, sequence_high, sequence_low = _seeding(seeds, stream).T
    one = np.uint64(1)
    inc = sequence_high << one | sequence_low >> np.uint64(63), sequence_low << one | one
    state = _sum(_product(_sum(inc, (state_high, state_low)), _MULTIPLIER), inc)
    return np.stack([*state, *inc], axis=1)


def _sum(a: _Wide, b: _Wide) -> _Wide:
    """Return a + b modulo 2**128."""
    low = a[1] + b[1]
    return a[0] + b[0] + (low < a[1]), low


def _product(a: _Wide, factor: int) -> _Wide:
    """Return a * factor modulo 2**128, a's lower half by halves of 32 bits."""
    high, low, half, mask = np.uint64(factor >> 64), np.uint64(factor & _HALF), np.uint64(32), np.uint64(0xFFFFFFFF)
    a_high, a_low, b_high, b_low = a[1] >> half, a[1] & mask, low >> half, low & mask
    middle = a_high * b_low + (a_low * b_low >> half)
    carried = (middle >> half) + (a_low * b_high + (middle & mask) >> half)
    return a[0] * low + a[1] * high + a_high * b_high + carried, a[1] * low


def _seeding(seeds: list[int], stream: int) -> NDArray[np.uint64]:
    """Return ``SeedSequence(seed, spawn_key=(stream,)).generate_state(4, uint64)`` of each seed < 2**128."""
    is_wide = max(seeds) > _HALF
    low = np.array([seed & _HALF for seed in seeds] if is_wide else seeds, np.uint64)
    high = np.array([seed >> 64 for seed in seeds], np.uint64) if is_wide else np.zeros_like(low)
    entropy = [(half >> np.uint64(shift)).astype(np.uint32) for half in (low, high) for shift in (0, 32)]
    entropy.append(np.full(len(seeds), stream, np.uint32))
    hashing = _Hash(0x43B0D7E5, 0x931E8875)
    pool = [hashing(word) for word in entropy[:4]]
    for source in range(5):
        for target in range(4):
            if source != target:
                pool[target] = _mix(pool[target], hashing(pool[source] if source < 4 else entropy[source]))
    hashing = _Hash(0x8B51F9DD, 0x58F38DED)
    halves = [hashing(pool[k % 4]).astype(np.uint64) for k in range(8)]
    return np.stack([halves[k] | halves[k + 1] << np.uint64(32) for k in range(0, 8, 2)], axis=1)


class _Hash:
    """The hash of `SeedSequence`, whose constant changes with each use."""

    def __init__(self, constant: int, factor: int) -> None:
        self.constant, self.factor = constant, factor

    def __call__(self, values: NDArray[np.uint32]) -> NDArray[np.uint32]:
        values = values ^ np.uint32(self.constant)
        self.constant = self.constant * self.factor & 0xFFFFFFFF
        values = values * np.uint32(self.constant)
        return values ^ values >> np.uint32(16)


def _mix(a: NDArray[np.uint32], b: NDArray[np.uint32]) -> NDArray[np.uint32]:
    mixed: NDArray[np.uint32] = np.uint32(0xCA01F9DD) * a - np.uint32(0x4973F715) * b
    return mixed ^ mixed >> np.uint32(16)
