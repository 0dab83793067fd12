"""Random numbers of the estimators: those of scikit-learn."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.random.bit_generator import ISeedSequence
from sklearn.utils import check_random_state


class _Nothing(ISeedSequence):
    """What a generator begins with that is seeded afterwards: NumPy takes 80 µs to stir a seed of its own."""

    def generate_state(self, n_words: int, dtype: Any = np.uint32) -> Any:
        return [1] * n_words  # NumPy takes the numbers one by one, sooner from a list than from an array


def random_numbers(seed: Any) -> np.random.RandomState:
    """Return what `sklearn.utils.check_random_state` returns, sooner where the seed is an int."""
    if type(seed) is not int or not 0 <= seed < 1 << 32:
        try:
            generator: np.random.RandomState = check_random_state(seed)
        except ValueError as error:
            raise ValueError(f"random_state: {error}") from None
        return generator
    nothing: Any = _Nothing()
    generator = np.random.RandomState(np.random.MT19937(nothing))
    generator.seed(seed)
    return generator
