"""The short form of a network."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from numpy.typing import DTypeLike

from backprop.base import checks as check
from backprop.base.keywords import explained
from backprop.network import Network
from backprop.reference import ACTIVATIONS
from backprop.reference.dense import Dense


@explained
def mlp(
    sizes: Sequence[int],
    hidden: str = "relu",
    output: str = "identity",
    *,
    l1: float = 0.0,
    l2: float = 0.0,
    dtype: DTypeLike = "float32",
    seed: int | None = None,
    backend: str | None = None,
) -> Network:
    """Return a multilayer perceptron: dense layers with one activation for the hidden ones and one for the last.

    Parameters
    ----------
    sizes
        Number of inputs, units of each hidden layer, number of outputs.
    hidden, output
        Names of the activations.
    l1, l2
        Penalties on the weights of every layer; see `Dense`.
    dtype, seed, backend
        See `Network`.

    Examples
    --------
    >>> import backprop as bp
    >>> bp.mlp([64, 32, 10], hidden="tanh", output="softmax", seed=0)
    Network(64, [Dense(32, 'tanh'), Dense(10, 'softmax')], dtype='float32', seed=0)
    """
    if isinstance(sizes, str) or not isinstance(sizes, Iterable):
        raise TypeError(f"sizes: needs a sequence of integers, got {check.shown(sizes)}")
    checked = [check.integer(f"sizes[{k}]", size, at_least=1) for k, size in enumerate(sizes)]
    if len(checked) < 2:
        raise ValueError(f"sizes: needs at least the numbers of inputs and outputs, got {checked}")
    check.choice("hidden", hidden, ACTIVATIONS)
    check.choice("output", output, ACTIVATIONS)
    layers = [Dense(units, hidden, l1=l1, l2=l2) for units in checked[1:-1]]
    layers.append(Dense(checked[-1], output, l1=l1, l2=l2))
    return Network(checked[0], layers, dtype=dtype, seed=seed, backend=backend)
