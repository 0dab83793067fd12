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

from backprop.base.types import Array
from backprop.reference import dropout
from backprop.reference.layout import ArrayLayout, by_layer, end, layout
from backprop.reference.losses.loss import as_rows, row_factors

if TYPE_CHECKING:
    from backprop.base.types import Data, RealArray
    from backprop.reference.dense import Dense
    from backprop.reference.losses import Loss

INPUTS = -1
"""what a layer reads that reads no other layer"""


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer of a plan: what it is, what it reads, and where its arrays are in the flat parameter vector."""

    settings: Dense
    reads: int
    """index of the layer whose outputs are its inputs; `INPUTS` for the network's"""
    arrays: tuple[ArrayLayout, ...]

    def views(self, vector: Array) -> dict[str, Array]:
        """View its arrays in a parameter or gradient vector, by name."""
        return {array.name: array.of(vector) for array in self.arrays}


class Plan:
    """A network's layers, with the places of their arrays in the flat parameter vector."""

    def __init__(self, n_inputs: int, layers: Sequence[Dense]) -> None:
        self.n_inputs, self.n_outputs = n_inputs, layers[-1].units
        self.arrays = layout(n_inputs, layers)
        self.n_parameters = end(self.arrays)
        parts = by_layer(self.arrays, len(layers))
        # Each layer reads the one before it; INPUTS is -1.
        self.layers = [Layer(dense, k - 1, arrays) for k, (dense, arrays) in enumerate(zip(layers, parts, strict=True))]


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
    G = head(run.outputs[-1].copy())
    with np.errstate(all="ignore"):
        D = last.settings.score_gradient(last.views(parameters), run.scores[-1], run.outputs[-1], G)
        backward_pass(plan, parameters, run, G, D, gradient, input_gradient)


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
    if loss.sees_derivatives:
        return loss.data_loss(plan, parameters, data, gradient)
    run = forward_pass(plan, parameters, data.X, dropout_key)
    value, G, D = output_layer(plan, loss, parameters, run.scores[-1], run.outputs[-1], data)
    if gradient is not None or input_gradient is not None:
        backward_pass(plan, parameters, run, G, D, gradient, input_gradient)
    return value


@dataclass(frozen=True, slots=True)
class ForwardPass:
    """What the forward pass leaves for the backward pass: four arrays for each layer, one row for each sample."""

    inputs: list[Array] = field(default_factory=list)
    scores: list[Array] = field(default_factory=list)
    outputs: list[Array] = field(default_factory=list)
    """before dropout"""
    factors: list[Array | None] = field(default_factory=list)
    """what the outputs are multiplied with to be the inputs of other layers; None where nothing is dropped"""

    def dropped(self, k: int) -> Array:
        """Return the outputs of a layer as the layers that read it see them."""
        F = self.factors[k]
        return self.outputs[k] if F is None else self.outputs[k] * F


def forward_pass(plan: Plan, parameters: Array, X: Array, dropout_key: int | None = None) -> ForwardPass:
    """Compute the raw scores Z and the outputs A of every layer; without a key nothing is dropped."""
    run = ForwardPass()
    for k, layer in enumerate(plan.layers):
        A_in = X if layer.reads == INPUTS else run.dropped(layer.reads)
        Z, A = layer.settings.forward(layer.views(parameters), A_in)
        rate = layer.settings.dropout
        F = None
        if dropout_key is not None and rate > 0:
            F = dropout.factors(dropout_key, k, rate, len(X), layer.settings.units, X.real.dtype)
        run.inputs.append(A_in)
        run.scores.append(Z)
        run.outputs.append(A)
        run.factors.append(F)
    return run


def output_layer(
    plan: Plan, loss: Loss, parameters: Array, Z: Array, A: Array, data: Data
) -> tuple[Any, Array | None, Array]:
    """Compute the loss of the data, and its gradients G and D with respect to the last layer's outputs and scores.

    G is None where the loss is computed from the scores.
    """
    last = plan.layers[-1]
    Y = as_rows(data.targets, plan.n_outputs, data.X.dtype)
    factors = row_factors(loss, data.sample_weight, len(Z), plan.n_outputs, data.X.dtype)
    if loss.from_scores(last.settings.activation):
        values = loss.value_from_scores(Z, Y)
        G, D = None, factors * loss.gradient_from_scores(Z, A, Y)
    else:
        values = loss.value(A, Y)
        slope = loss.gradient(A, Y)
        G, D = factors * slope, factors * last.settings.score_gradient(last.views(parameters), Z, A, slope)
    return (factors * values).sum(dtype=accumulator(values)), G, D


def backward_pass(
    plan: Plan,
    parameters: Array,
    run: ForwardPass,
    G: Array | None,
    D: Array,
    gradient: Array | None,
    input_gradient: Array | None,
) -> None:
    """Go from G and D of the last layer down to the inputs, filling in the gradients that are not None.

    `gradient` is 0 for all that is not trainable.
    """
    if gradient is not None:
        gradient[:] = 0
    for k in reversed(range(len(plan.layers))):
        layer = plan.layers[k]
        if gradient is not None:
            for array in layer.arrays:
                if array.trainable:
                    slope = layer.settings.parameter_gradient(array.name, run.inputs[k], run.scores[k], D, G)
                    array.of(gradient)[...] = slope
        if layer.reads == INPUTS:
            if input_gradient is not None:
                input_gradient[:] = layer.settings.input_gradient(layer.views(parameters), D)
            continue
        below, F = plan.layers[layer.reads], run.factors[layer.reads]
        G = layer.settings.input_gradient(layer.views(parameters), D)
        if F is not None:
            G = G * F
        D = below.settings.score_gradient(below.views(parameters), run.scores[layer.reads], run.outputs[layer.reads], G)


def penalty(plan: Plan, parameters: Array) -> Any:
    """Add up ``l1 sum|W| + l2 / 2 sum W**2`` over all layers."""
    total = 0.0
    for array in plan.arrays:
        layer = plan.layers[array.layer].settings
        if not array.penalised:
            continue
        W = array.of(parameters)
        if layer.l1:
            total += layer.l1 * np.where(W.real < 0, -W, W).sum(dtype=accumulator(W))
        if layer.l2:
            total += layer.l2 / 2 * (W * W).sum(dtype=accumulator(W))
    return total


def add_penalty_gradient(plan: Plan, parameters: Array, gradient: Array, factor: float = 1.0) -> None:
    """Add ``factor (l1 sign(W) + l2 W)`` to the gradient of all weights that are trainable."""
    for array in plan.arrays:
        layer = plan.layers[array.layer].settings
        if array.penalised and array.trainable and (layer.l1 or layer.l2):
            W = array.of(parameters)
            array.of(gradient)[...] += factor * (layer.l1 * np.sign(W) + layer.l2 * W)


def accumulator(array: Array) -> Any:
    """Choose what losses are added up in, whatever the network's dtype: double precision."""
    return np.complex128 if np.iscomplexobj(array) else np.float64
