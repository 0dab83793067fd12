"""The forward and the backward pass over all layers: backpropagation itself.

A layer computes ``Z = A_in W + b`` and ``A = activation(Z)`` for all samples of a batch at once, one in each row.
With ``D = dLoss/dZ`` the chain rule gives everything else:

    dLoss/dW = A_in^T D        dLoss/db = sum of D over the rows        dLoss/dA_in = D W^T

and ``dLoss/dA_in`` is what the layer below needs to form its own ``D``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from backprop.reference.activations import ACTIVATIONS, Activation, Array
from backprop.reference.losses import FROM_SCORES, LOSSES, as_rows, row_factors

if TYPE_CHECKING:
    from backprop._types import Data, RealArray
    from backprop.layers import Dense
    from backprop.losses import Loss


@dataclass(frozen=True, slots=True)
class Layer:
    """One dense layer, and where its numbers are in the flat parameter vector."""

    n_inputs: int
    n_outputs: int
    activation: str
    alpha: float
    weights_at: slice
    biases_at: slice
    """empty where the layer has no biases"""
    weights_trainable: bool
    biases_trainable: bool
    l1: float
    l2: float

    @property
    def function(self) -> Activation:
        """The activation and its derivative."""
        return ACTIVATIONS[self.activation]

    def weights(self, vector: Array) -> Array:
        """View the weights' part of a parameter or gradient vector as (n_inputs, n_outputs)."""
        return vector[self.weights_at].reshape(self.n_inputs, self.n_outputs)

    def scores(self, parameters: Array, A: Array) -> Array:
        """Compute the raw scores ``A W + b`` (rows, n_outputs) for inputs A (rows, n_inputs)."""
        biases = parameters[self.biases_at]
        return A @ self.weights(parameters) + biases if biases.size else A @ self.weights(parameters)


class Plan:
    """A network's layers, with their places in the flat parameter vector: weights, then biases, layer by layer."""

    def __init__(self, n_inputs: int, layers: Sequence[Dense]) -> None:
        self.n_inputs = n_inputs
        self.layers: list[Layer] = []
        self.trainable_parts: list[slice] = []
        """the parts of the parameter vector that training changes"""
        start = 0
        for dense in layers:
            middle = start + n_inputs * dense.units
            end = middle + (dense.units if dense.bias else 0)
            layer = Layer(
                n_inputs=n_inputs,
                n_outputs=dense.units,
                activation=dense.activation,
                alpha=0.0 if dense.alpha is None else float(dense.alpha),
                weights_at=slice(start, middle),
                biases_at=slice(middle, end),
                weights_trainable=dense.trainable,
                biases_trainable=dense.bias and dense.bias_trainable,
                l1=float(dense.l1),
                l2=float(dense.l2),
            )
            self.layers.append(layer)
            if layer.weights_trainable:
                self.trainable_parts.append(layer.weights_at)
            if layer.biases_trainable:
                self.trainable_parts.append(layer.biases_at)
            start, n_inputs = end, dense.units
        self.n_outputs = n_inputs
        self.n_parameters = start


def forward(plan: Plan, parameters: RealArray, X: RealArray, out: RealArray) -> bool:
    """Fill `out` (n, n_outputs) with the outputs for X (n, n_inputs).

    Returns False, with `out` undefined, when X holds a NaN or an infinity.
    """
    if not np.isfinite(X).all():
        return False
    with np.errstate(all="ignore"):
        _, activations = forward_pass(plan, parameters, X)
    out[...] = activations[-1]
    return True


def loss_and_gradient(plan: Plan, loss: Loss, parameters: RealArray, data: Data, gradient: RealArray | None) -> float:
    """Return the loss over all rows, penalties included; put its gradient into `gradient` unless that is None."""
    with np.errstate(all="ignore"):
        return float(sum(objective(plan, loss, parameters, data, gradient)))


def objective(plan: Plan, loss: Loss, parameters: Array, data: Data, gradient: Array | None) -> tuple[Any, Any]:
    """Compute the loss of the data and the penalties, two numbers, and the gradient of their sum unless that is None.

    Without a gradient the parameters may be complex, for complex-step differentiation; then so are the numbers.
    """
    scores, activations = forward_pass(plan, parameters, data.X)
    data_loss, D = output_layer(plan, loss, scores[-1], activations[-1], data)
    if gradient is not None:
        gradient[:] = 0
        backward_pass(plan, parameters, data.X, scores, activations, D, gradient)
        add_penalty_gradient(plan, parameters, gradient)
    return data_loss, penalty(plan, parameters)


def forward_pass(plan: Plan, parameters: Array, X: Array) -> tuple[list[Array], list[Array]]:
    """Compute the raw scores Z and the outputs A of every layer, each (rows, n_outputs)."""
    scores, activations = [], []
    A = X
    for layer in plan.layers:
        Z = layer.scores(parameters, A)
        A = layer.function.value(Z, layer.alpha)
        scores.append(Z)
        activations.append(A)
    return scores, activations


def output_layer(plan: Plan, loss: Loss, Z: Array, A: Array, data: Data) -> tuple[Any, Array]:
    """Compute the loss of the data, and its gradient D with respect to the raw scores Z of the last layer."""
    last = plan.layers[-1]
    Y = as_rows(data.targets, last.n_outputs, data.X.dtype)
    factors = row_factors(loss, data.sample_weight, len(Z), last.n_outputs, data.X.dtype)
    if (pair := FROM_SCORES.get((last.activation, loss.name))) is not None:
        values = pair.value(Z, Y)
        D = pair.gradient(Z, A, Y)
    else:
        function = LOSSES[loss.name]
        parameter = float(loss.parameter)
        values = function.value(A, Y, parameter)
        D = last.function.backward(Z, A, function.gradient(A, Y, parameter), last.alpha)
    return (factors * values).sum(dtype=accumulator(values)), factors * D


def backward_pass(
    plan: Plan, parameters: Array, X: Array, scores: list[Array], activations: list[Array], D: Array, gradient: Array
) -> None:
    """Go from D of the last layer down to the first, filling in the gradient of all that is trainable."""
    for k in reversed(range(len(plan.layers))):
        layer = plan.layers[k]
        A_in = activations[k - 1] if k > 0 else X
        if layer.weights_trainable:
            layer.weights(gradient)[:] = A_in.T @ D
        if layer.biases_trainable:
            gradient[layer.biases_at] = D.sum(axis=0)
        if k > 0:
            below = plan.layers[k - 1]
            D = below.function.backward(scores[k - 1], A_in, D @ layer.weights(parameters).T, below.alpha)


def penalty(plan: Plan, parameters: Array) -> Any:
    """Add up ``l1 sum|W| + l2 / 2 sum W**2`` over all layers."""
    total = 0.0
    for layer in plan.layers:
        W = layer.weights(parameters)
        if layer.l1:
            total += layer.l1 * np.where(W.real < 0, -W, W).sum(dtype=accumulator(W))
        if layer.l2:
            total += layer.l2 / 2 * (W * W).sum(dtype=accumulator(W))
    return total


def add_penalty_gradient(plan: Plan, parameters: Array, gradient: Array) -> None:
    """Add ``l1 sign(W) + l2 W`` to the gradient of all weights that are trainable."""
    for layer in plan.layers:
        if layer.weights_trainable and (layer.l1 or layer.l2):
            W = layer.weights(parameters)
            layer.weights(gradient)[:] += layer.l1 * np.sign(W) + layer.l2 * W


def accumulator(array: Array) -> Any:
    """Choose what losses are added up in, whatever the network's dtype: double precision."""
    return np.complex128 if np.iscomplexobj(array) else np.float64
