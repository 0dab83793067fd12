"""The network of an estimator: its layers, its plan, and what it has learned as one vector."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from backprop.backends import choice
from backprop.backends.contract import Plan
from backprop.base.types import RealArray, new_parameters
from backprop.reference.dense import Dense
from backprop.reference.layout import ArrayLayout, end, layout


@lru_cache(maxsize=256)
def layers_of(
    units: tuple[int, ...], activations: tuple[str, ...], l2: float, dropout: tuple[float, ...]
) -> tuple[Dense, ...]:
    """Return the layers; the last one has no dropout."""
    settings = zip(units, activations, (*dropout, 0.0), strict=True)
    return tuple(Dense(n, activation, l2=l2, dropout=rate) for n, activation, rate in settings)


@lru_cache(maxsize=256)
def plan_of(backend: choice.Backend, dtype: np.dtype[np.generic], n_inputs: int, layers: tuple[Dense, ...]) -> Plan:
    """Return the backend's form of a network; it holds no numbers that change, so threads can share it."""
    plan: Plan = backend.module(dtype).Plan(n_inputs, layers)
    return plan


@lru_cache(maxsize=256)
def arrays(sizes: tuple[int, ...], activations: tuple[str, ...]) -> tuple[ArrayLayout, ...]:
    """Return where the arrays of layers of these widths, inputs first, are in the parameter vector."""
    return layout(sizes[0], layers_of(sizes[1:], activations, 0.0, (0.0,) * (len(activations) - 1)))


def sizes_of(coefs: Sequence[NDArray[np.generic]]) -> tuple[int, ...]:
    """Return the widths of all layers, inputs first."""
    return (coefs[0].shape[0], *(W.shape[1] for W in coefs))


def pack(table: Sequence[ArrayLayout], values: Iterable[NDArray[np.generic]], dtype: np.dtype[np.generic]) -> RealArray:
    """Return the values of all arrays, in their order, as one vector."""
    flat = new_parameters(end(table), dtype)
    for array, part in zip(table, values, strict=True):
        np.copyto(array.of(flat), np.reshape(part, array.shape), casting="same_kind")
    return flat


def unpack(table: Sequence[ArrayLayout], flat: RealArray, name: str) -> dict[int, RealArray]:
    """Return the arrays of that name as views of the vector, by the number of their layer."""
    return {array.layer: array.of(flat) for array in table if array.name == name}
