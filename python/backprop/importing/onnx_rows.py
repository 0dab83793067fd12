"""What a dense layer can take in or absorb: rows that are linear in the outputs of the layer before.

Numbers are double here, and rounded once, when a layer is put together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from backprop.importing.stack import Named, Stack

_Doubles: TypeAlias = "NDArray[np.float64]"
_MOST_SHIFT = 100
"""An input may lie this many of its units from 0: beyond, scaling it in the weights costs float32 over two digits."""


NOTHING_YET = np.dtype(np.float16)
"""a dtype that gives way to float32 and float64"""


@dataclass(frozen=True, eq=False)
class Layer:
    """The inputs of the network, or a layer with the one before it; two are equal where they are one object."""

    units: int
    before: Layer | None = None
    where: str = ""
    arrays: tuple[NDArray[Any], NDArray[Any] | None] | None = None
    activation: Named = ("identity", None)
    slopes: NDArray[Any] | None = None

    def put_on(self, stack: Stack) -> None:
        """Put this layer and those before it on a stack."""
        for layer in reversed(list(self._upwards())):
            if layer.arrays is not None:
                stack.dense(layer.where, *layer.arrays)
            stack.activation(layer.where, layer.activation, layer.slopes)

    def _upwards(self) -> Iterator[Layer]:
        layer: Layer | None = self
        while layer is not None:
            yield layer
            layer = layer.before


@dataclass(frozen=True)
class Affine:
    """Rows of numbers, each of some shape, that are affine in the outputs of a layer.

    They are ``outputs @ weights + biases``, or without weights ``outputs[:, columns] * scales + biases``; ``dtype`` is
    what they are computed in, and `NOTHING_YET` until a constant says it.
    """

    source: Layer
    shape: tuple[int, ...]
    columns: NDArray[np.int64]
    scales: _Doubles
    biases: _Doubles | None = None
    weights: _Doubles | None = None
    dtype: np.dtype[Any] = NOTHING_YET

    @classmethod
    def of(cls, source: Layer, shape: tuple[int, ...] | None = None) -> Affine:
        """Return the outputs of a layer as they are."""
        n = source.units
        return cls(source, (n,) if shape is None else shape, np.arange(n), np.ones(n))

    @property
    def size(self) -> int:
        """The numbers in a row."""
        return int(np.prod(self.shape))

    @property
    def _plain(self) -> bool:
        """Whether they are the outputs themselves."""
        n = self.source.units
        return (
            self.weights is None
            and self.biases is None
            and np.array_equal(self.columns, np.arange(n))
            and bool((self.scales == 1).all())
        )

    def scaled(self, scales: Any, dtype: Any) -> Affine:
        """Return them times a number for each column, or for all."""
        by = np.broadcast_to(np.asarray(scales, np.float64), self.size)
        biases = None if self.biases is None else self.biases * by
        found = replace(self, biases=biases, dtype=np.result_type(self.dtype, dtype))
        if self.weights is None:
            return replace(found, scales=self.scales * by)
        return replace(found, weights=self.weights * by)

    def shifted(self, shifts: Any, dtype: Any) -> Affine:
        """Return them plus a number for each column, or for all."""
        by = np.broadcast_to(np.asarray(shifts, np.float64), self.size)
        biases = by if self.biases is None else self.biases + by
        return replace(self, biases=biases, dtype=np.result_type(self.dtype, dtype))

    def times(self, where: str, weights: NDArray[Any], biases: NDArray[Any] | None) -> Affine:
        """Return the scores of the next layer; if they are scores already, those get a layer of their own."""
        if self.weights is not None:
            return Affine.of(self.closed(where)).times(where, weights, biases)
        wide = weights.astype(np.float64)
        dtype = np.result_type(self.dtype, weights.dtype, *([] if biases is None else [biases.dtype]))
        constant = None if biases is None else biases.astype(np.float64)
        if self.biases is not None:
            constant = self.biases @ wide + (0 if constant is None else constant)
            if self.source.before is None and np.abs(self.biases).max() > _MOST_SHIFT:
                dtype = np.dtype(np.float64)
        return replace(self, shape=wide.shape[1:], weights=self._onto_source(wide), biases=constant, dtype=dtype)

    def _as_scores(self) -> Affine:
        """Return them with weights."""
        return self if self.weights is not None else replace(self, weights=self._onto_source(np.eye(self.size)))

    def _onto_source(self, weights: _Doubles) -> _Doubles:
        """Return weights of these rows as weights of the outputs that they are made of."""
        if (self.scales == 1).all() and np.array_equal(self.columns, np.arange(self.source.units)):
            return weights
        found = np.zeros((self.source.units, weights.shape[1]))
        np.add.at(found, self.columns, self.scales[:, None] * weights)
        return found

    def closed(self, where: str, activation: Named = ("identity", None), slopes: NDArray[Any] | None = None) -> Layer:
        """Return the layer whose scores these are; scaled outputs become a layer that scales, plain ones need none."""
        if self._plain:
            if activation[0] == "identity":
                return self.source
            return Layer(self.source.units, self.source, where, None, activation, slopes)
        weights = self._as_scores().weights
        assert weights is not None
        dtype = np.dtype(np.float32) if self.dtype == NOTHING_YET and self.weights is None else self.dtype
        biases = None if self.biases is None else self.biases.astype(dtype)
        return Layer(self.size, self.source, where, (weights.astype(dtype), biases), activation, slopes)


def picked(parts: Sequence[Affine], places: NDArray[np.int64]) -> Affine:
    """Return rows whose numbers are those at these places of the parts laid side by side, which have one source."""
    at = places.ravel()
    if any(part.weights is not None for part in parts):
        parts = [part._as_scores() for part in parts]
    weights = [part.weights for part in parts if part.weights is not None]
    biases = [np.zeros(part.size) if part.biases is None else part.biases for part in parts]
    return Affine(
        parts[0].source,
        places.shape,
        parts[0].columns if weights else np.concatenate([part.columns for part in parts])[at],
        parts[0].scales if weights else np.concatenate([part.scales for part in parts])[at],
        np.concatenate(biases)[at] if any(part.biases is not None for part in parts) else None,
        np.concatenate(weights, axis=1)[:, at] if weights else None,
        np.result_type(*(part.dtype for part in parts)),
    )
