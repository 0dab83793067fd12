"""Dropout: which outputs a training step keeps, as a function of the step's key and of where an output is.

Nothing else goes into it, so every backend sees the same masks however it goes through a batch. ``uint32`` wraps round.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from backprop.base.types import Array

LAYER_STRIDE = 0x9E3779B9


def mix(x: Array) -> Array:
    """Permute the 32-bit numbers so that every bit of the result depends on every bit of ``x``."""
    x = x ^ (x >> 16)
    x = x * np.uint32(0x21F0AAAD)
    x = x ^ (x >> 15)
    x = x * np.uint32(0x735A2D97)
    result: Array = x ^ (x >> 15)
    return result


def kept(key: int, layer: int, rate: float, n_rows: int, n_units: int) -> Array:
    """Which outputs of the layer with that number a step with the 64-bit `key` keeps: (n_rows, n_units) booleans."""
    row_key, unit_key, layer_key = (np.uint32(k & 0xFFFFFFFF) for k in (key, key >> 32, layer * LAYER_STRIDE))
    rows = mix(np.arange(n_rows, dtype=np.uint32) ^ row_key)
    units = mix((np.arange(n_units, dtype=np.uint32) + layer_key) ^ unit_key)
    return (mix(rows[:, None] + units) >> 1) >= np.uint32(math.floor(rate * 2**31))


def factors(key: int, layer: int, rate: float, n_rows: int, n_units: int, dtype: np.dtype[Any]) -> Array:
    """What the outputs are multiplied with: ``1 / (1 - rate)`` where they are kept, else 0, so that the mean stays."""
    return np.where(kept(key, layer, rate, n_rows, n_units), 1 / (1 - rate), 0).astype(dtype)
