"""Gradients of whole networks against complex-step differentiation, for every activation with every loss it can have.

The derivative of f at x is Im f(x + ih) / h up to an error of h**2: with h = 1e-100 there is neither cancellation nor a
step to choose. The reference's loss takes complex parameters; its value is tested elsewhere (test_losses.py), and its
gradient has no part in this.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from backends import (
    COMPILED,
    LOSS_VARIANTS,
    Problem,
    distance,
    each_backend,
    hidden_activations,
    label,
    layers,
    make_problem,
    module,
    outputs_of,
)
from backprop import reference
from backprop.layers import Dense
from backprop.losses import CrossEntropy, SquaredError
from backprop.reference.activations import ACTIVATIONS
from backprop.reference.layers import objective
from backprop.reference.losses import LOSSES

H = 1e-100
# Each side makes tens of roundings for each number on these sizes, of either sign: in all about 10 times eps = 2e-16.
TOLERANCE = 1e-14


def complex_step_gradient(problem: Problem) -> np.ndarray:
    """The gradient, one parameter at a time."""
    plan = reference.Plan(problem.n_inputs, problem.dense)
    gradient = np.empty_like(problem.parameters)
    for i in range(gradient.size):
        parameters = problem.parameters.astype(complex)
        parameters[i] += 1j * H
        gradient[i] = sum(objective(plan, problem.loss, parameters, problem.data, None)).imag / H
    return gradient


def central_differences(problem: Problem, backend: str) -> np.ndarray:
    """The gradient from values of the loss only."""
    h = 1e-5
    gradient = np.empty_like(problem.parameters)
    for i in range(gradient.size):
        values = []
        for step in (h, -h):
            parameters = problem.parameters.copy()
            parameters[i] += step
            values.append(replace(problem, parameters=parameters).loss_and_gradient(backend)[0])
        gradient[i] = (values[0] - values[1]) / (2 * h)
    return gradient


def trainable(problem: Problem) -> np.ndarray:
    """Which parameters the optimizer may change."""
    parts = []
    for n, layer in layers(problem.n_inputs, problem.dense):
        parts.append(np.full(n * layer.units, layer.trainable))
        if layer.bias:
            parts.append(np.full(layer.units, layer.bias_trainable))
    return np.concatenate(parts)


def smallest_gap(problem: Problem) -> float:
    """How near a score comes to 0, or a weight with an l1 penalty, or an output to its target's kinks."""
    plan = reference.Plan(problem.n_inputs, problem.dense)
    A, gaps = problem.data.X, []
    for layer in plan.layers:
        Z = layer.scores(problem.parameters, A)
        A = layer.function.value(Z, layer.alpha)
        if not layer.function.smooth:
            gaps.append(np.abs(Z).min())
        if layer.l1:
            gaps.append(np.abs(layer.weights(problem.parameters)).min())
    if not LOSSES[problem.loss.name].smooth:
        distances = np.abs(A - problem.data.targets)
        gaps += [distances.min(), np.abs(distances - problem.loss.parameter).min()]
    return min(gaps, default=np.inf)


def problems(hidden: str, loss):
    """Networks with this hidden activation, as the output too where the loss accepts it; other settings in turn."""
    outputs = [hidden] if hidden in outputs_of(loss) else []
    outputs += [output for output in outputs_of(loss) if output in ("softmax", *(loss.outputs or ()))]
    for k, output in enumerate(dict.fromkeys([*outputs, outputs_of(loss)[0]])):
        alpha = 0.3 if ACTIVATIONS[hidden].alpha is not None and k == 0 else None
        dense = [
            Dense(4, hidden, alpha=alpha, bias=False, l2=0.1),
            Dense(3, hidden, l1=0.05, l2=0.02),
            Dense(2, output, l1=0.03),
        ]
        for seed, reduction in enumerate(("mean", "sum")):
            variant = replace(loss, reduction=reduction, scale=1.3)
            problem = make_problem(3, dense, variant, 7, weighted=seed == k % 2, labels=k % 2 == 0, seed=seed)
            if hidden == "exp":  # three of them on top of each other
                problem.parameters *= 0.3
            yield problem


each_pair = pytest.mark.parametrize(
    ("hidden", "loss"),
    [
        pytest.param(hidden, loss, id=f"{hidden}-{label(loss)}")
        for hidden in hidden_activations()
        for loss in LOSS_VARIANTS
    ],
)


@each_backend
@each_pair
def test_against_complex_step(backend, hidden, loss):
    for problem in problems(hidden, loss):
        assert smallest_gap(problem) > 0
        _, gradient = problem.loss_and_gradient(backend)
        assert distance(gradient, complex_step_gradient(problem)) <= TOLERANCE, problem.dense[-1].activation


@pytest.mark.parametrize("backend", [*COMPILED[:1], "reference"])
@pytest.mark.parametrize(
    ("hidden", "loss"),
    [
        pytest.param(hidden, loss, id=f"{hidden}-{label(loss)}")
        for hidden in hidden_activations()
        for loss in LOSS_VARIANTS
        if not (ACTIVATIONS[hidden].smooth and LOSSES[loss.name].smooth)
    ],
)
def test_against_central_differences(backend, hidden, loss):
    """Where formulas meet, complex steps take the code's word for where that is; differences of values do not."""
    for problem in problems(hidden, loss):
        while smallest_gap(problem) < 1e-3:  # 1e-5 in a parameter moves a score by less than 1e-3
            problem = replace(problem, parameters=problem.parameters + 0.01)
        _, gradient = problem.loss_and_gradient(backend)
        # error of the values, about 1e-15, over 2 h = 2e-5; and h**2 / 6 times the third derivative, about 1e-10
        assert distance(gradient, central_differences(problem, backend)) <= 1e-8


@each_backend
def test_what_is_not_trainable_has_gradient_zero(backend):
    dense = [
        Dense(4, "tanh", bias_trainable=False, l2=0.1),
        Dense(5, "sigmoid", trainable=False, bias_trainable=False, l1=0.2),
        Dense(3, "silu", trainable=False, l2=0.1),
        Dense(2),
    ]
    for frozen_from in range(3):  # also with nothing trainable at the bottom, and in the end nothing at all
        dense = [replace(layer, trainable=False, bias_trainable=False) for layer in dense[:frozen_from]] + dense[
            frozen_from:
        ]
        problem = make_problem(3, dense, SquaredError(), 11)
        _, gradient = problem.loss_and_gradient(backend)
        learns = trainable(problem)
        assert not gradient[~learns].any()
        assert distance(gradient, np.where(learns, complex_step_gradient(problem), 0)) <= TOLERANCE
    frozen = [replace(layer, trainable=False, bias_trainable=False) for layer in dense]
    _, gradient = make_problem(3, frozen, SquaredError(), 11).loss_and_gradient(backend)
    assert not gradient.any()


@each_backend
@pytest.mark.parametrize("labels", [True, False])
@pytest.mark.parametrize("sizes", [(1, 1, 2), (2, 1, 7), (7, 17, 3), (3, 33, 7), (17, 3, 33), (33, 7, 3)])
@pytest.mark.parametrize("n_rows", [1, 2, 5, 32, 100])
def test_odd_shapes(backend, n_rows, sizes, labels):
    n_inputs, hidden, n_outputs = sizes
    problem = make_problem(
        n_inputs, [Dense(hidden, "tanh"), Dense(n_outputs, "softmax")], CrossEntropy(), n_rows, labels=labels
    )
    _, gradient = problem.loss_and_gradient(backend)
    assert distance(gradient, complex_step_gradient(problem)) <= TOLERANCE


@each_backend
def test_without_gradient(backend):
    problem = make_problem(3, [Dense(4, "tanh"), Dense(2)], SquaredError(), 11)
    core = module(backend, float)
    value = core.loss_and_gradient(core.Plan(3, problem.dense), problem.loss, problem.parameters, problem.data, None)
    assert value == problem.loss_and_gradient(backend)[0]
