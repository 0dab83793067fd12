"""The Gauss-Newton matrix of a loss of residuals: what stands for the Hessian in least squares.

With the residuals ``e = a - y``, the factor ``f`` of each row, and the loss ``sum f v(e)``,

    gradient = J^T (f v'(e))        matrix = J^T diag(f v'(e) / e) J

where J has a row for each output of each sample: the derivatives of that output with respect to all parameters. Squared
errors have ``v'(e) / e = 2``. For Huber's loss and log-cosh these are the weights of iteratively reweighted least
squares.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from backprop.base.types import Array
from backprop.reference.activation_functions import prelu_slope_derivative
from backprop.reference.losses.loss import as_rows, row_factors
from backprop.reference.passes import INPUTS, ForwardPass, Plan, accumulator, forward_pass

if TYPE_CHECKING:
    from backprop.base.types import Data
    from backprop.reference.losses import Loss

WEIGHTS: dict[str, Callable[[Any, Array], Array]] = {
    "squared_error": lambda loss, e: np.full_like(e, 2),
    "huber": lambda loss, e: loss.delta / np.maximum(np.abs(e), loss.delta),
    "log_cosh": lambda loss, e: np.where(e == 0, 1, np.tanh(e) / np.where(e == 0, 1, e)),
}
"""``v'(e) / e`` of the losses of residuals"""


def gauss_newton(plan: Plan, loss: Loss, parameters: Array, data: Data) -> tuple[float, Array, Array]:
    """Return the loss of the data, its gradient and the matrix, without penalties; 0 for what is not trainable."""
    run = forward_pass(plan, parameters, data.X)
    e = run.outputs[-1] - as_rows(data.targets, plan.n_outputs, data.X.dtype)
    factors = row_factors(loss, data.sample_weight, len(data.X), plan.n_outputs, data.X.dtype)
    values = factors * loss.value(run.outputs[-1], run.outputs[-1] - e)
    roots = np.sqrt(factors * WEIGHTS[loss.name](loss, e))
    matrix = np.zeros((plan.n_parameters, plan.n_parameters))
    gradient = np.zeros(plan.n_parameters)
    for output in range(plan.n_outputs):
        J = jacobian(plan, parameters, run, output) * roots[:, output : output + 1]
        matrix += J.T @ J
        gradient += J.T @ (roots * e)[:, output]
    return float(values.sum(dtype=accumulator(values))), gradient, matrix


def jacobian(plan: Plan, parameters: Array, run: ForwardPass, output: int) -> Array:
    """Return the derivatives of one output with respect to the parameters, (rows, n_parameters)."""
    last = plan.layers[-1]
    J = np.zeros((len(run.outputs[-1]), plan.n_parameters), parameters.dtype)
    G = np.zeros_like(run.outputs[-1])
    G[:, output] = 1
    D = last.settings.score_gradient(last.views(parameters), run.scores[-1], run.outputs[-1], G)
    rows_of_gradient(plan, parameters, run, G, D, J)
    return J


def rows_of_gradient(plan: Plan, parameters: Array, run: ForwardPass, G: Array | None, D: Array, out: Array) -> None:
    """Fill `out` (rows, n_parameters) with each row's part of the gradient, from G and D of the last layer."""
    out[:] = 0
    for k in reversed(range(len(plan.layers))):
        layer = plan.layers[k]
        for array in layer.arrays:
            if array.trainable:
                out[:, array.part] = _of_rows(array.name, run.inputs[k], run.scores[k], D, G)
        if layer.reads != INPUTS:
            below = plan.layers[layer.reads]
            G = layer.settings.input_gradient(layer.views(parameters), D)
            D = below.settings.score_gradient(
                below.views(parameters), run.scores[layer.reads], run.outputs[layer.reads], G
            )


def _of_rows(name: str, inputs: Array, Z: Array, D: Array, G: Any) -> Array:
    """Return the part of an array, row by row."""
    if name == "weights":
        return (inputs[:, :, np.newaxis] * D[:, np.newaxis, :]).reshape(len(D), -1)
    return G * prelu_slope_derivative(Z) if name == "slopes" else D
