"""The forward and the backward pass over all layers: backpropagation itself.

A layer computes ``Z = A_in W + b`` and ``A = activation(Z)`` for all samples of a batch at once, one in each row.
With ``D = dLoss/dZ`` the chain rule gives everything else:

    dLoss/dW = A_in^T D        dLoss/db = sum of D over the rows        dLoss/dA_in = D W^T

and ``dLoss/dA_in`` is what the layer below needs to form its own ``D``. Where that layer has dropout, ``A_in`` is its
output times ``F``, which holds 0 or ``1 / (1 - rate)``, and ``dLoss/dA_in`` is multiplied with the same ``F``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from backprop.reference import dropout
from backprop.reference.activations import ACTIVATIONS, Activation, Array
from backprop.reference.losses.loss import as_rows, row_factors

if TYPE_CHECKING:
    from backprop.base.types import Data, RealArray
    from backprop.reference.dense import Dense
    from backprop.reference.losses import Loss


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
    dropout: float
    """share of the outputs that a training step drops"""
    max_norm: float | None
    """bound of the Euclidean norm of each column of the weights"""

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
        self.trainable_parts: list[tuple[slice, tuple[int, ...]]] = []
        """the parts of the parameter vector that training changes, and the shapes of these arrays"""
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
                dropout=float(dense.dropout),
                max_norm=dense.max_norm,
            )
            self.layers.append(layer)
            if layer.weights_trainable:
                self.trainable_parts.append((layer.weights_at, (n_inputs, dense.units)))
            if layer.biases_trainable:
                self.trainable_parts.append((layer.biases_at, (dense.units,)))
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
        out[...] = forward_pass(plan, parameters, X).outputs[-1]
    return True


def loss_and_gradient(
    plan: Plan,
    loss: Loss,
    parameters: RealArray,
    data: Data,
    gradient: RealArray | None,
    input_gradient: RealArray | None = None,
) -> float:
    """Return the loss over all rows, penalties included.

    Its gradient goes into `gradient` (n_parameters,), and that with respect to X into `input_gradient` (n, n_inputs),
    unless they are None. There is no dropout.
    """
    with np.errstate(all="ignore"):
        return float(sum(objective(plan, loss, parameters, data, gradient, input_gradient)))


def backward(
    plan: Plan,
    parameters: RealArray,
    X: RealArray,
    head: Callable[[RealArray], RealArray],
    gradient: RealArray | None,
    input_gradient: RealArray | None,
    dropout_key: int | None = None,
) -> None:
    """Compute the gradients of any function of the outputs.

    `head` is called once, with the outputs (n, n_outputs), and returns the function's gradient with respect to them, of
    the same shape and dtype. `gradient` and `input_gradient` are as in `loss_and_gradient`, without penalties. With a
    `dropout_key` the layers drop outputs as in a training step that drew this key.
    """
    last = plan.layers[-1]
    with np.errstate(all="ignore"):
        run = forward_pass(plan, parameters, X, dropout_key)
    output_gradient = head(run.outputs[-1].copy())
    with np.errstate(all="ignore"):
        D = last.function.backward(run.scores[-1], run.outputs[-1], output_gradient, last.alpha)
        backward_pass(plan, parameters, run, D, gradient, input_gradient)


def objective(
    plan: Plan,
    loss: Loss,
    parameters: Array,
    data: Data,
    gradient: Array | None,
    input_gradient: Array | None = None,
) -> tuple[Any, Any]:
    """Compute the loss of the data and the penalties, two numbers, and the gradients of their sum that are not None.

    Without gradients the parameters and X may be complex, for complex-step differentiation; then so are the numbers.
    """
    value = data_loss(plan, loss, parameters, data, gradient, input_gradient)
    if gradient is not None:
        add_penalty_gradient(plan, parameters, gradient)
    return value, penalty(plan, parameters)


def data_loss(
    plan: Plan,
    loss: Loss,
    parameters: Array,
    data: Data,
    gradient: Array | None = None,
    input_gradient: Array | None = None,
    dropout_key: int | None = None,
) -> Any:
    """Compute the loss of the data, without penalties, and its gradients that are not None."""
    run = forward_pass(plan, parameters, data.X, dropout_key)
    value, D = output_layer(plan, loss, run.scores[-1], run.outputs[-1], data)
    if gradient is not None or input_gradient is not None:
        backward_pass(plan, parameters, run, D, gradient, input_gradient)
    return value


@dataclass(frozen=True, slots=True)
class ForwardPass:
    """What the forward pass leaves for the backward pass: four arrays for each layer, one row for each sample."""

    inputs: list[Array] = field(default_factory=list)
    scores: list[Array] = field(default_factory=list)
    outputs: list[Array] = field(default_factory=list)
    """before dropout"""
    factors: list[Array | None] = field(default_factory=list)
    """what the outputs are multiplied with to be the inputs of the layer above; None where nothing is dropped"""


def forward_pass(plan: Plan, parameters: Array, X: Array, dropout_key: int | None = None) -> ForwardPass:
    """Compute the raw scores Z and the outputs A of every layer; without a key nothing is dropped."""
    run = ForwardPass()
    A_in = X
    for k, layer in enumerate(plan.layers):
        Z = layer.scores(parameters, A_in)
        A = layer.function.value(Z, layer.alpha)
        F = None
        if dropout_key is not None and layer.dropout > 0:
            F = dropout.factors(dropout_key, k, layer.dropout, len(X), layer.n_outputs, X.real.dtype)
        run.inputs.append(A_in)
        run.scores.append(Z)
        run.outputs.append(A)
        run.factors.append(F)
        A_in = A if F is None else A * F
    return run


def output_layer(plan: Plan, loss: Loss, Z: Array, A: Array, data: Data) -> tuple[Any, Array]:
    """Compute the loss of the data, and its gradient D with respect to the raw scores Z of the last layer."""
    last = plan.layers[-1]
    Y = as_rows(data.targets, last.n_outputs, data.X.dtype)
    factors = row_factors(loss, data.sample_weight, len(Z), last.n_outputs, data.X.dtype)
    if loss.from_scores(last.activation):
        values = loss.value_from_scores(Z, Y)
        D = loss.gradient_from_scores(Z, A, Y)
    else:
        values = loss.value(A, Y)
        D = last.function.backward(Z, A, loss.gradient(A, Y), last.alpha)
    return (factors * values).sum(dtype=accumulator(values)), factors * D


def backward_pass(
    plan: Plan, parameters: Array, run: ForwardPass, D: Array, gradient: Array | None, input_gradient: Array | None
) -> None:
    """Go from D of the last layer down to the first, filling in the gradients that are not None.

    `gradient` is 0 for all that is not trainable.
    """
    if gradient is not None:
        gradient[:] = 0
    for k in reversed(range(len(plan.layers))):
        layer = plan.layers[k]
        if gradient is not None:
            if layer.weights_trainable:
                layer.weights(gradient)[:] = run.inputs[k].T @ D
            if layer.biases_trainable:
                gradient[layer.biases_at] = D.sum(axis=0)
        if k > 0:
            below, F = plan.layers[k - 1], run.factors[k - 1]
            G = D @ layer.weights(parameters).T
            if F is not None:
                G = G * F
            D = below.function.backward(run.scores[k - 1], run.outputs[k - 1], G, below.alpha)
        elif input_gradient is not None:
            input_gradient[:] = D @ layer.weights(parameters).T


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


def add_penalty_gradient(plan: Plan, parameters: Array, gradient: Array, factor: float = 1.0) -> None:
    """Add ``factor (l1 sign(W) + l2 W)`` to the gradient of all weights that are trainable."""
    for layer in plan.layers:
        if layer.weights_trainable and (layer.l1 or layer.l2):
            W = layer.weights(parameters)
            layer.weights(gradient)[:] += factor * (layer.l1 * np.sign(W) + layer.l2 * W)


def accumulator(array: Array) -> Any:
    """Choose what losses are added up in, whatever the network's dtype: double precision."""
    return np.complex128 if np.iscomplexobj(array) else np.float64
