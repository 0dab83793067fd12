"""Penalties that count once for each row, as scikit-learn's alpha does, against scikit-learn and by hand."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace

import numpy as np
import pytest
from backends import Problem, distance, each_backend, each_dtype, make_problem, module, new_state, start, train
from backprop.base.types import Data, TrainingSettings
from backprop.layers import Dense
from backprop.losses import BinaryCrossEntropy, CrossEntropy, Poisson, SquaredError
from backprop.optimizers import SGD, Adam

N_ROWS = 20
ALPHA = 0.7
OPTIMIZERS = {
    "sgd": (SGD(learning_rate=0.05, velocity_of_steps=True), {"momentum": 0.0, "nesterovs_momentum": False}),
    "adam": (Adam(learning_rate=0.05, epsilon=1e-3, epsilon_hat=True), {"epsilon": 1e-3}),
}
TASKS = {
    "regression": ("MLPRegressor", SquaredError(scale=0.5), "identity"),
    "counts": ("MLPRegressor", Poisson(), "exp"),
    "2 classes": ("MLPClassifier", BinaryCrossEntropy(), "sigmoid"),
    "3 classes": ("MLPClassifier", CrossEntropy(), "softmax"),
}


def quiet_fit(model, *data):
    """Fit; that some epochs are not enough is no news."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return model.fit(*data)


def flat(model):
    """The weights of a scikit-learn network as one vector."""
    return np.concatenate([a.ravel() for pair in zip(model.coefs_, model.intercepts_, strict=True) for a in pair])


@each_backend
@pytest.mark.parametrize("solver", list(OPTIMIZERS))
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("batch_size", [1, 3, 7, N_ROWS])
@pytest.mark.parametrize("task", list(TASKS))
def test_against_scikit_learn(backend, task, batch_size, weighted, solver):
    """The weights after 4 epochs, and the loss curve; its epochs count rows, not weights, so not where rows weigh."""
    networks = pytest.importorskip("sklearn.neural_network")
    rng = np.random.default_rng(0)
    X, weight = rng.normal(size=(N_ROWS, 5)), rng.uniform(0.1, 2.0, N_ROWS) if weighted else None
    cls, loss, output = getattr(networks, TASKS[task][0]), *TASKS[task][1:]
    y = rng.poisson(2.0, N_ROWS) if task == "counts" else rng.normal(size=N_ROWS)
    if task.endswith("classes"):
        y = rng.integers(int(task[0]), size=N_ROWS)
    optimizer, options = OPTIMIZERS[solver]
    if task == "counts":
        options = {**options, "loss": "poisson"}
    model = cls(
        hidden_layer_sizes=(9, 8),
        activation="tanh",
        solver=solver,
        alpha=ALPHA,
        batch_size=batch_size,
        shuffle=False,
        learning_rate_init=0.05,
        max_iter=1,
        n_iter_no_change=100,
        warm_start=True,
        random_state=0,
        **options,
    )
    quiet_fit(model, X, y, weight)  # an epoch, for the weights to begin with
    parameters = flat(model)
    model.set_params(max_iter=4)
    quiet_fit(model, X, y, weight)

    dense = [Dense(9, "tanh", l2=ALPHA), Dense(8, "tanh", l2=ALPHA), Dense(model.n_outputs_, output, l2=ALPHA)]
    targets = y if task == "3 classes" else y[:, None].astype(float)
    problem = Problem(5, dense, loss, parameters, Data(X, targets, weight))
    settings = TrainingSettings(batch_size=batch_size, shuffle=False, penalty_per_row=True)
    state, losses, _ = train(backend, problem, optimizer, settings, 4)
    assert distance(state.parameters, flat(model)) <= 1e-12
    if not weighted or batch_size == N_ROWS:
        assert distance(losses, model.loss_curve_[-4:]) <= 1e-12


@each_backend
@each_dtype
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("loss", [SquaredError(), CrossEntropy()], ids=lambda loss: loss.name)
@pytest.mark.parametrize("batch_size", [1, 7, None])
def test_one_step(backend, dtype, batch_size, loss, weighted):
    """The step of a network whose l1 and l2 are divided by the rows of the batch, or by the sum of their weights."""
    output = "softmax" if loss.name == "cross_entropy" else "tanh"
    dense = [Dense(9, "tanh", l1=0.3, l2=0.2), Dense(3, output, l2=0.1)]
    problem = make_problem(4, dense, loss, N_ROWS, weighted=weighted).cast(dtype)
    rows = slice(0, batch_size)
    divisor = problem.data.sample_weight[rows].sum(dtype=float) if weighted else (batch_size or N_ROWS)
    divided = [replace(layer, l1=layer.l1 / divisor, l2=layer.l2 / divisor) for layer in dense]
    results = []
    for p, per_row in ((problem, True), (replace(problem, dense=divided), False)):
        settings = TrainingSettings(batch_size=batch_size, shuffle=False, penalty_per_row=per_row)
        state = new_state(p, SGD(learning_rate=0.5))
        run = start(backend, p, SGD(learning_rate=0.5), settings, state)
        losses = np.full(1, np.nan)
        run.run(1, float("inf"), losses, last_step=1)
        results.append((state.parameters, state.loss_sum or losses[0]))
    tolerance = 1e-14 if dtype is np.float64 else 1e-6
    assert distance(results[0][0], results[1][0]) <= tolerance
    assert results[0][1] == pytest.approx(results[1][1], rel=tolerance)


@each_backend
@pytest.mark.parametrize("batch_size", [1, 7, None])
def test_sums_are_not_divided(backend, batch_size):
    """With reduction="sum" the denominator is 1."""
    problem = make_problem(4, [Dense(9, "tanh", l2=0.2), Dense(3)], SquaredError(reduction="sum"), N_ROWS)
    settings = TrainingSettings(batch_size=batch_size)
    runs = [train(backend, problem, SGD(learning_rate=1e-3), replace(settings, penalty_per_row=p), 3) for p in (0, 1)]
    assert runs[0][0].parameters.tobytes() == runs[1][0].parameters.tobytes()
    assert runs[0][1].tobytes() == runs[1][1].tobytes()


@each_backend
@each_dtype
@pytest.mark.parametrize("batch_size", [1, 7, None])
def test_rows_without_weight_have_no_penalties(backend, dtype, batch_size):
    """There is nothing to divide by: nothing changes and nothing is lost."""
    problem = make_problem(4, [Dense(9, "tanh", l1=0.1, l2=0.2), Dense(3)], SquaredError(), N_ROWS).cast(dtype)
    problem.data.sample_weight[:] = 0
    settings = TrainingSettings(batch_size=batch_size, penalty_per_row=True)
    state, losses, reason = train(backend, problem, SGD(), settings, 2)
    np.testing.assert_array_equal(state.parameters, problem.parameters)
    assert losses.tolist() == [0.0, 0.0]
    assert reason == "epochs"


@each_backend
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("batch_size", [1, 7, None])
def test_loss_of_an_epoch(backend, batch_size, weighted):
    """By the letter of the design, with a learning rate too small to change anything."""
    problem = make_problem(4, [Dense(9, "tanh", l1=0.1, l2=0.2), Dense(3)], SquaredError(), N_ROWS, weighted=weighted)
    settings = TrainingSettings(batch_size=batch_size, shuffle=False, penalty_per_row=True)
    _, losses, _ = train(backend, problem, SGD(learning_rate=1e-30), settings, 1)
    core = module(backend, float)
    plan, out = core.Plan(4, problem.dense), np.empty((N_ROWS, 3))
    core.forward(plan, problem.parameters, problem.data.X, out)
    W = problem.parameters[:36]
    penalty = 0.1 * np.abs(W).sum() + 0.1 * (W**2).sum()
    weights = problem.data.sample_weight if weighted else np.ones(N_ROWS)
    values = weights[:, None] * (out - problem.data.targets) ** 2
    total = 0.0
    for first in range(0, N_ROWS, batch_size or N_ROWS):
        rows = slice(first, first + (batch_size or N_ROWS))
        weight = weights[rows].sum()
        total += (values[rows].sum() / (3 * weight) + penalty / weight) * 3 * weight
    assert losses[0] == pytest.approx(total / (3 * weights.sum()), rel=1e-13)
    assert math.isfinite(total)
