"""Derivatives of every kind: of outputs and losses, with respect to inputs and parameters, of first and second order.

A *tangent* is how the numbers of the forward pass move where the inputs or the parameters move in some direction: the
forward mode. The backward pass over it, reverse mode, gives a product with the second derivatives ("forward over
reverse", B. A. Pearlmutter, "Fast exact multiplication by the Hessian", 1994). With dots for directions,

    Z. = A_in. W + A_in W.        A. = f'(Z) Z.        D. = f'(Z) G. + f''(Z) Z. G
    gradient. = A_in.^T D + A_in^T D.                  G_below. = D. W^T + D W.^T

The second derivatives of an output with respect to two inputs i and j need no backward pass over the tangents. They are
a sum over all units, of which only the activations bend: ``sum_u G_u f''(z_u) Z._i,u Z._j,u``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from backprop.base.types import Array
from backprop.reference.gauss_newton import jacobian as jacobian_of_output
from backprop.reference.gauss_newton import rows_of_gradient
from backprop.reference.losses.loss import as_rows, row_factors
from backprop.reference.passes import INPUTS, ForwardPass, Plan, backward_pass, forward_pass, output_layer

if TYPE_CHECKING:
    from backprop.base.types import Data, RealArray
    from backprop.reference.losses import Loss


# --- first derivatives, row by row ---------------------------------------------------------------------------------


def jacobian(plan: Plan, parameters: RealArray, X: RealArray, out: RealArray) -> None:
    """Fill `out` (n, n_outputs, n_inputs) with the derivatives of the outputs with respect to X."""
    with np.errstate(all="ignore"):
        run = forward_pass(plan, parameters, X)
        for output in range(plan.n_outputs):
            for k, _, D in _deltas(plan, parameters, run, output):
                if plan.layers[k].reads == INPUTS:
                    layer = plan.layers[k]
                    out[:, output] = layer.settings.input_gradient(layer.views(parameters), D)


def parameter_jacobian(plan: Plan, parameters: RealArray, X: RealArray, out: RealArray) -> None:
    """Fill `out` (n, n_outputs, n_parameters) with the derivatives of the outputs, 0 for what is not trainable."""
    with np.errstate(all="ignore"):
        run = forward_pass(plan, parameters, X)
        for output in range(plan.n_outputs):
            out[:, output] = jacobian_of_output(plan, parameters, run, output)


def gradients_per_row(plan: Plan, loss: Loss, parameters: RealArray, data: Data, out: RealArray) -> None:
    """Fill `out` (n, n_parameters) with each row's part of the gradient of the data loss, without penalties."""
    with np.errstate(all="ignore"):
        run = forward_pass(plan, parameters, data.X)
        _, G, D = output_layer(plan, loss, parameters, run.scores[-1], run.outputs[-1], data)
        rows_of_gradient(plan, parameters, run, G, D, out)


def _deltas(plan: Plan, parameters: Array, run: ForwardPass, output: int) -> Iterator[tuple[int, Array, Array]]:
    """Yield each layer from the last one down, and the gradients G and D of one output there."""
    G = np.zeros_like(run.outputs[-1])
    G[:, output] = 1
    for k in reversed(range(len(plan.layers))):
        layer = plan.layers[k]
        views = layer.views(parameters)
        D = layer.settings.score_gradient(views, run.scores[k], run.outputs[k], G)
        yield k, G, D
        G = layer.settings.input_gradient(views, D)


# --- tangents ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Tangent:
    """How the arrays of a forward pass move, one of each for each layer."""

    moves: Array
    """the direction of the parameters"""
    inputs: list[Array] = field(default_factory=list)
    scores: list[Array] = field(default_factory=list)
    outputs: list[Array] = field(default_factory=list)


def tangent_pass(plan: Plan, parameters: Array, run: ForwardPass, dX: Array, moves: Array) -> Tangent:
    """Return how the forward pass moves where X and the parameters do."""
    tangent = Tangent(moves)
    for k, layer in enumerate(plan.layers):
        views, own = layer.views(parameters), layer.views(moves)
        dA_in = dX if layer.reads == INPUTS else tangent.outputs[layer.reads]
        dZ = layer.settings.score_tangent(views, own, run.inputs[k], dA_in)
        dA = layer.settings.output_tangent(views, own, run.scores[k], run.outputs[k], dZ)
        tangent.inputs.append(dA_in)
        tangent.scores.append(dZ)
        tangent.outputs.append(dA)
    return tangent


def tangents_of_inputs(plan: Plan, parameters: Array, run: ForwardPass) -> Iterator[Tangent]:
    """Yield how the forward pass moves with each of the inputs."""
    X = run.inputs[0]
    for i in range(plan.n_inputs):
        dX = np.zeros_like(X)
        dX[:, i] = 1
        yield tangent_pass(plan, parameters, run, dX, np.zeros_like(parameters))


def add_tangent_gradient(
    plan: Plan,
    parameters: Array,
    run: ForwardPass,
    tangent: Tangent,
    last: tuple[Array | None, Array | None, Array, Array],
    gradient: Array,
) -> None:
    """Go from the last layer's G, G., D and D. down, and add the direction of each gradient to `gradient`."""
    G, dG, D, dD = last
    for k in reversed(range(len(plan.layers))):
        layer = plan.layers[k]
        for array in layer.arrays:
            if array.trainable:
                array.of(gradient)[...] += layer.settings.parameter_gradient_tangent(
                    array.name, run.inputs[k], tangent.inputs[k], run.scores[k], tangent.scores[k], D, dD, G, dG
                )
        if layer.reads == INPUTS:
            continue
        views, own = layer.views(parameters), layer.views(tangent.moves)
        G = layer.settings.input_gradient(views, D)
        dG = layer.settings.input_gradient_tangent(views, own, D, dD)
        at, below = layer.reads, plan.layers[layer.reads]
        Z, A, views, own = run.scores[at], run.outputs[at], below.views(parameters), below.views(tangent.moves)
        D = below.settings.score_gradient(views, Z, A, G)
        dD = below.settings.score_gradient_tangent(views, own, Z, A, tangent.scores[at], G, dG)


# --- products with second derivatives of the loss ------------------------------------------------------------------


def curvature_product(
    plan: Plan,
    loss: Loss,
    parameters: RealArray,
    data: Data,
    vector: RealArray,
    out: RealArray,
    gauss_newton: bool = False,
) -> None:
    """Fill `out` (n_parameters,) with the Hessian of the loss, or its Gauss-Newton matrix, times a vector.

    `vector` is 0 for what is not trainable, and so is `out`. Penalties are included: l2 adds l2 times the vector.
    """
    with np.errstate(all="ignore"):
        run = forward_pass(plan, parameters, data.X)
        tangent = tangent_pass(plan, parameters, run, np.zeros_like(data.X), vector)
        G, dG, D, dD = _loss_tangent(plan, loss, parameters, data, run, tangent)
        out[:] = 0
        if gauss_newton:  # outputs that move as those of the tangent do, but nothing else
            if dG is not None:
                last = plan.layers[-1]
                dD = last.settings.score_gradient(last.views(parameters), run.scores[-1], run.outputs[-1], dG)
            backward_pass(plan, parameters, run, dG, dD, out, None)
        else:
            add_tangent_gradient(plan, parameters, run, tangent, (G, dG, D, dD), out)
        for array in plan.arrays:
            l2 = plan.layers[array.layer].settings.l2
            if array.penalised and array.trainable and l2:
                array.of(out)[...] += l2 * array.of(vector)


def _loss_tangent(
    plan: Plan, loss: Loss, parameters: Array, data: Data, run: ForwardPass, tangent: Tangent
) -> tuple[Array | None, Array | None, Array, Array]:
    """Return the last layer's G, G., D and D.; G and G. are None where the loss is computed from the scores."""
    last, Z, A, dZ, dA = plan.layers[-1], run.scores[-1], run.outputs[-1], tangent.scores[-1], tangent.outputs[-1]
    Y = as_rows(data.targets, plan.n_outputs, data.X.dtype)
    factors = row_factors(loss, data.sample_weight, len(Z), plan.n_outputs, data.X.dtype)
    _, G, D = output_layer(plan, loss, parameters, Z, A, data)
    if loss.from_scores(last.settings.activation):
        return None, None, D, factors * loss.score_tangent(Z, A, Y, dZ, dA)
    assert G is not None
    dG = factors * loss.curvature(A, Y) * dA
    views, own = last.views(parameters), last.views(tangent.moves)
    return G, dG, D, last.settings.score_gradient_tangent(views, own, Z, A, dZ, G, dG)


# --- second derivatives of the outputs -----------------------------------------------------------------------------


def hessian(plan: Plan, parameters: RealArray, X: RealArray, out: RealArray) -> None:
    """Fill `out` (n, n_outputs, n_inputs, n_inputs) with the second derivatives of the outputs with respect to X."""
    with np.errstate(all="ignore"):
        run = forward_pass(plan, parameters, X)
        tangents = list(tangents_of_inputs(plan, parameters, run))
        for output in range(plan.n_outputs):
            H = np.zeros((len(X), plan.n_inputs, plan.n_inputs), X.dtype)
            for k, G, _ in _deltas(plan, parameters, run, output):
                layer = plan.layers[k]
                function, alpha = layer.settings.function, layer.settings.slopes(layer.views(parameters))
                Z, A, T = run.scores[k], run.outputs[k], [tangent.scores[k] for tangent in tangents]
                for i, dZ in enumerate(T):
                    bent = function.backward_tangent(Z, A, dZ, G, alpha)
                    for j in range(i + 1):
                        H[:, i, j] += (bent * T[j]).sum(axis=1)
            for i in range(plan.n_inputs):
                H[:, :i, i] = H[:, i, :i]
            out[:, output] = H


def laplacian(plan: Plan, parameters: RealArray, X: RealArray, out: RealArray) -> None:
    """Fill `out` (n, n_outputs) with the sums of the second derivatives of each output with respect to each input.

    They are carried forward, layer by layer: ``f'(Z) (L_in W) + sum_i f''(Z) Z._i**2``.
    """
    with np.errstate(all="ignore"):
        run = forward_pass(plan, parameters, X)
        tangents = list(tangents_of_inputs(plan, parameters, run))
        L = np.zeros_like(X)
        for k, layer in enumerate(plan.layers):
            views, Z, A = layer.views(parameters), run.scores[k], run.outputs[k]
            function, alpha = layer.settings.function, layer.settings.slopes(views)
            still = layer.views(np.zeros_like(parameters))
            L = function.backward(Z, A, layer.settings.score_tangent(views, still, run.inputs[k], L), alpha)
            for tangent in tangents:
                dZ = tangent.scores[k]
                L = L + function.backward_tangent(Z, A, dZ, dZ, alpha)
        out[:] = L
