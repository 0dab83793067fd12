"""Which arrays a network has, and where each of them is in the flat parameter vector: the one table of it.

Everything that looks into the vector reads this table: views, files, plans, estimators, importers.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from backprop.base import random
from backprop.base.types import Array, RealArray

if TYPE_CHECKING:
    from backprop.reference.dense import Dense, LayerArray


@dataclass(frozen=True, slots=True)
class ArrayLayout:
    """One array of a layer, and its place in the flat vector, where it lies row by row."""

    layer: int
    """index of the layer"""
    name: str
    """``"weights"``, ``"biases"`` or what else the layer calls it"""
    shape: tuple[int, ...]
    start: int
    """where it begins in the vector"""
    trainable: bool
    """whether training changes it"""
    penalised: bool
    """whether the penalties of the layer count it"""

    size: int
    """how many numbers it has"""
    part: slice = field(compare=False)
    """its part of the vector"""

    def of(self, flat: Array) -> Array:
        """View its part of a vector that is laid out like the parameters, or of each row of a block of such."""
        return flat[..., self.part].reshape(*flat.shape[:-1], *self.shape)


def layout(n_inputs: int, layers: Iterable[Dense]) -> tuple[ArrayLayout, ...]:
    """Return the arrays of all layers in their order in the vector: layer by layer, without gaps.

    Examples
    --------
    >>> import backprop as bp
    >>> for array in layout(2, [bp.Dense(3), bp.Dense(1, bias=False)]):
    ...     print(array.layer, array.name, array.shape, array.start)
    0 weights (2, 3) 0
    0 biases (3,) 6
    1 weights (3, 1) 9
    """
    declared = []
    for layer in layers:
        declared.append(layer.arrays(n_inputs))
        n_inputs = layer.units
    return _placed(tuple(declared))


@lru_cache(maxsize=1024)
def _placed(layers: tuple[tuple[LayerArray, ...], ...]) -> tuple[ArrayLayout, ...]:
    found: list[ArrayLayout] = []
    start = 0
    for k, arrays in enumerate(layers):
        for name, shape, trainable, penalised in arrays:
            size = math.prod(shape)
            found.append(ArrayLayout(k, name, shape, start, trainable, penalised, size, slice(start, start + size)))
            start += size
    return tuple(found)


def parameter_count(n_inputs: int, layers: Iterable[Dense]) -> int:
    """Return how many parameters the layers have together."""
    return end(layout(n_inputs, layers))


def end(arrays: Sequence[ArrayLayout]) -> int:
    """Return where the last of these arrays ends."""
    return arrays[-1].part.stop if arrays else 0


def by_layer(arrays: Iterable[ArrayLayout], n_layers: int) -> tuple[tuple[ArrayLayout, ...], ...]:
    """Return the arrays of each layer."""
    found: list[list[ArrayLayout]] = [[] for _ in range(n_layers)]
    for array in arrays:
        found[array.layer].append(array)
    return tuple(map(tuple, found))


def drawn(layers: Sequence[Dense], array: ArrayLayout, rng: np.random.Generator, dtype: np.dtype[Any]) -> Array:
    """Return the initial values of one array."""
    k = array.layer
    return layers[k].initial(array.name, f"layers[{k}]", rng, array.shape, dtype)


def draw(block: RealArray, arrays: Sequence[ArrayLayout], layers: Sequence[Dense], seeds: Sequence[int]) -> None:
    """Fill each row of a block with the initial values of the network that has this seed."""
    generator = np.random.PCG64(0)
    rng = np.random.Generator(generator)
    several = []
    for array in arrays:
        before = random.words(generator)
        values = drawn(layers, array, rng, block.dtype)
        if random.words(generator) != before:
            several.append(array)
        else:  # the same for all
            array.of(block)[...] = values
    if not several:
        return
    for row, words in enumerate(random.words_of_seeds(seeds, random.INITIAL_VALUES)):
        random.set_words(generator, words)
        for array in several:
            array.of(block[row])[...] = drawn(layers, array, rng, block.dtype)
