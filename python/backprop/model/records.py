"""What computations leave behind, as plain records: `plotting` draws them, `explain` spells them out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from backprop.base.types import RealArray
from backprop.reference.dense import Dense
from backprop.reference.losses import Loss
from backprop.reference.optimizers import Optimizer

Method = Literal["given", "complex step", "central difference"]
Reason = Literal["tolerance", "steps", "rising", "not finite", "stuck"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LayerTrace:
    """One layer in a training step; n is the number of rows. All arrays are copies, of the network's dtype.

    Attributes
    ----------
    layer : Dense
        Its settings.
    inputs : ndarray
        What comes in: X, or the outputs of the layer below, (n, n_in).
    z, a : ndarray
        Its scores ``inputs @ weights + biases`` and its outputs ``activation(z)``, (n, units).
    gradient : ndarray
        The derivative of the loss with respect to a, (n, units). For the last layer, where activation and loss are
        computed as one (softmax with cross_entropy and the like), NaN: there delta comes first.
    delta : ndarray
        The derivative of the loss with respect to z, (n, units).
    weights, new_weights : ndarray
        Before and after the step, (n_in, units).
    dW, numerical_dW : ndarray
        The gradient of the loss with respect to the weights, and the same by central differences, (n_in, units). Zeros
        where the weights are not trainable; NaN where no finite differences were asked for.
    biases, new_biases, db, numerical_db : ndarray or None
        The same for the biases, (units,).
    slopes, new_slopes, dslopes, numerical_dslopes : ndarray or None
        The same for the slopes of ``prelu``, (units,).
    """

    layer: Dense
    inputs: RealArray
    z: RealArray
    a: RealArray
    gradient: RealArray
    delta: RealArray
    weights: RealArray
    dW: RealArray
    numerical_dW: NDArray[np.float64]
    new_weights: RealArray
    biases: RealArray | None
    db: RealArray | None
    numerical_db: NDArray[np.float64] | None
    new_biases: RealArray | None
    slopes: RealArray | None = None
    dslopes: RealArray | None = None
    numerical_dslopes: NDArray[np.float64] | None = None
    new_slopes: RealArray | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class StepRecord:
    """One full-batch training step; `backprop.explain.trace.Trace` has what its numbers mean, and spells them out."""

    layers: tuple[LayerTrace, ...]
    loss: Loss
    optimizer: Optimizer
    X: RealArray
    targets: RealArray
    factors: NDArray[np.float64]
    """what each row's loss is multiplied by, (n,): ``scale / denominator * sample weight``"""
    terms: NDArray[np.float64]
    penalty: float
    value: float
    new_value: float
    step: int
    dtype: str
    backend: str
    has_finite_differences: bool

    @property
    def outputs(self) -> RealArray:
        """What the network predicts, (n, n_outputs)."""
        return self.layers[-1].a


@dataclass(frozen=True, slots=True, kw_only=True, repr=False, eq=False)
class RangeRecord:
    """A learning-rate range test, step by step; `backprop.explain.range_test.RangeTest` says what its numbers mean."""

    rates: NDArray[np.float64]
    losses: NDArray[np.float64]
    smoothed: NDArray[np.float64]
    suggestion: float
    diverged: bool


@dataclass(frozen=True, slots=True, kw_only=True, repr=False, eq=False)
class DescentRecord:
    """A gradient descent, point by point; `backprop.explain.descent.Descent` says what its numbers mean."""

    x: Any
    value: float
    path: NDArray[np.float64]
    values: NDArray[np.float64]
    gradients: NDArray[np.float64]
    converged: bool
    diverged: bool
    reason: Reason
    method: Method
    learning_rate: float
    momentum: float
    function: Callable[[Any], Any] = field(repr=False)
    solver: str = "gradient descent"

    @property
    def steps(self) -> int:
        """How many steps were taken."""
        return len(self.path) - 1
