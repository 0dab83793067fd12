"""Custom losses: training with a function is training with the loss that it computes, on every backend."""

from __future__ import annotations

import math
import re
import warnings
from dataclasses import replace

import backprop as bp
import numpy as np
import pytest
from backends import (
    INFINITE,
    N_ROWS,
    SETTINGS,
    Problem,
    distance,
    each_backend,
    each_dtype,
    each_settings,
    in_pieces,
    label,
    make_problem,
    module,
    new_state,
    numbers,
    start,
    train,
    train_and_validate,
)
from backprop import mlp
from backprop.base.types import Data
from backprop.layers import Dense
from backprop.losses import BinaryCrossEntropy, CrossEntropy, Custom, Poisson, SquaredError
from backprop.optimizers import SGD, Adam

# ---- losses of the library, as functions ----


def mean(values, sample_weight):
    """The weighted mean over the rows of the sum over the outputs, and what each row is multiplied with."""
    weights = np.ones(len(values)) if sample_weight is None else sample_weight
    shares = (weights / weights.sum())[:, None]
    return float((shares * values).sum()), shares


def squared_error(outputs, targets, sample_weight=None):
    value, shares = mean((outputs - targets) ** 2 / outputs.shape[1], sample_weight)
    return value, shares * 2 * (outputs - targets) / outputs.shape[1]


def cross_entropy(outputs, targets, sample_weight=None):
    rows = np.eye(outputs.shape[1])[targets] if targets.ndim == 1 else targets
    value, shares = mean(-rows * np.log(outputs), sample_weight)
    return value, -shares * rows / outputs


def binary_cross_entropy(outputs, targets, sample_weight=None):
    values = -targets * np.log(outputs) - (1 - targets) * np.log1p(-outputs)
    value, shares = mean(values / outputs.shape[1], sample_weight)
    return value, shares * (outputs - targets) / (outputs * (1 - outputs)) / outputs.shape[1]


def poisson(outputs, targets, sample_weight=None):
    logs = np.where(targets > 0, targets * np.log(np.where(targets > 0, targets, 1) / outputs), 0)
    value, shares = mean((outputs - targets + logs) / outputs.shape[1], sample_weight)
    return value, shares * (1 - targets / outputs) / outputs.shape[1]


PAIRS = [
    (SquaredError(), squared_error, "tanh"),
    (SquaredError(), squared_error, "softmax"),
    (CrossEntropy(), cross_entropy, "softmax"),
    (BinaryCrossEntropy(), binary_cross_entropy, "sigmoid"),
    (Poisson(), poisson, "exp"),
]
each_pair = pytest.mark.parametrize(
    ("loss", "function", "output"), PAIRS, ids=[f"{label(loss)}-{output}" for loss, _, output in PAIRS]
)


def some(loss, output, **options) -> tuple[Problem, Data]:
    """A problem with all that a network can have, and validation data."""
    dense = [
        Dense(8, "tanh", l2=0.01, dropout=0.3),
        Dense(17, "silu", l1=0.01, max_norm=1.5),
        Dense(9, "elu", bias_trainable=False, dropout=0.1),
        Dense(3, output, l2=0.1, trainable=False),
        Dense(3, output),
    ]
    if output == "softmax":
        dense[3] = replace(dense[3], activation="sigmoid")
    problem = make_problem(3, dense, loss, N_ROWS, **options)
    return problem, make_problem(3, dense, loss, 13, **options, seed=1).data


@each_backend
@each_pair
@each_settings
@pytest.mark.parametrize("weighted", [True, False])
def test_a_library_loss_as_a_function(backend, loss, function, output, settings, weighted):
    """Parameters, slots, losses and all books: rounding only, as in test_twins.py."""
    settings = replace(
        settings, clip_norm=0.7, clip_value=0.3, penalty_per_row=weighted, monitor="val_loss", keep_best=True
    )
    optimizer = Adam(epsilon=1e-2)
    for labels in (True, False):
        problem, validation = some(loss, output, weighted=weighted, labels=labels)
        state, losses, validated, reason = train_and_validate(backend, problem, optimizer, settings, 4, validation)
        custom, *others, other_reason = train_and_validate(
            backend, replace(problem, loss=Custom(function)), optimizer, settings, 4, validation
        )
        assert reason == other_reason == "epochs"
        assert distance(others[0], losses) <= 1e-12
        assert distance(others[1], validated) <= 1e-12
        for name in ("parameters", "slots", "best_parameters"):
            assert distance(getattr(custom, name), getattr(state, name)) <= 1e-11, name
        assert custom.best_loss == pytest.approx(state.best_loss, rel=1e-12)
        np.testing.assert_array_equal(custom.permutation, state.permutation)
        assert custom.bit_generator.state == state.bit_generator.state
        for name in ("step", "epoch", "cursor", "loss_sum", "weight_sum", "best_epoch", "stale_epochs"):
            assert getattr(custom, name) == getattr(state, name), name


@each_backend
@each_pair
def test_in_float32(backend, loss, function, output):
    """Some hundred operations with an error of 1e-7 each, of a network of a single precision."""
    problem, validation = some(loss, output)
    problem, validation = problem.cast(np.float32), replace(problem, data=validation).cast(np.float32).data
    state, *losses, _ = train_and_validate(backend, problem, SGD(), SETTINGS["3"], 3, validation)
    custom, *others, _ = train_and_validate(
        backend, replace(problem, loss=Custom(function)), SGD(), SETTINGS["3"], 3, validation
    )
    assert custom.parameters.dtype == np.float32
    assert distance(custom.parameters, state.parameters) <= 1e-5
    assert distance(others, losses) <= 1e-5


@each_backend
@each_pair
def test_against_pytorchs_gradient(backend, loss, function, output):
    """A function whose gradient comes from autograd."""
    torch = pytest.importorskip("torch")

    def by_autograd(outputs, targets):
        a, y = torch.tensor(outputs, requires_grad=True), torch.tensor(targets)
        if loss.name == "cross_entropy":
            value = torch.nn.functional.nll_loss(a.log(), y)
        elif loss.name == "binary_cross_entropy":
            value = torch.nn.functional.binary_cross_entropy(a, y)
        elif loss.name == "poisson":
            value = torch.mean(a - y + torch.xlogy(y, y) - torch.xlogy(y, a))
        else:
            value = torch.nn.functional.mse_loss(a, y)
        value.backward()
        return value.detach(), a.grad

    problem, _ = some(loss, output, weighted=False)
    state, losses, _ = train(backend, problem, SGD(), SETTINGS["3"], 3)
    custom, others, _ = train(backend, replace(problem, loss=Custom(by_autograd)), SGD(), SETTINGS["3"], 3)
    assert distance(custom.parameters, state.parameters) <= 1e-12
    assert distance(others, losses) <= 1e-12


@each_backend
@each_dtype
@each_settings
@pytest.mark.parametrize("steps", [None, 1, 4])
def test_pieces_change_nothing(backend, dtype, settings, steps):
    problem, validation = some(SquaredError(), "tanh")
    problem, validation = problem.cast(dtype), replace(problem, data=validation).cast(dtype).data
    problem = replace(problem, loss=Custom(squared_error))
    settings = replace(settings, monitor="val_loss", tolerance=0.0, patience=4, keep_best=True)
    whole, *expected, why = train_and_validate(backend, problem, Adam(), settings, 5, validation)
    state = new_state(problem, Adam())
    run = start(backend, problem, Adam(), settings, state, validation=validation)
    *losses, reasons = in_pieces(run, state, 5, steps=steps)
    assert reasons[-1] == why
    assert numbers(state) == numbers(whole)
    assert losses == [array.tolist() for array in expected]


@each_backend
@each_settings
def test_set_learning_rates(backend, settings):
    problem, _ = some(SquaredError(), "tanh")
    states = []
    for loss in (SquaredError(), Custom(squared_error)):
        state = new_state(problem, SGD())
        run = start(backend, replace(problem, loss=loss), SGD(), settings, state, [0.1, 0.05])
        run.run(10, INFINITE, np.empty(10), last_step=5)
        run.set_learning_rates(np.array([0.02, 0.01]))
        run.run(10, INFINITE, np.empty(10))
        states.append(state)
    assert distance(states[1].parameters, states[0].parameters) <= 1e-12


# ---- what the function gets ----


@each_backend
@each_dtype
@each_settings
@pytest.mark.parametrize("weighted", [True, False])
def test_what_the_function_gets(backend, dtype, settings, weighted):
    """Each row once in an epoch, with its own target and weight; then the validation data, whole."""
    core, calls = module(backend, dtype), []
    weights = np.arange(1.0, N_ROWS + 1).astype(dtype) if weighted else None
    X = np.arange(N_ROWS, dtype=dtype)[:, None]
    targets = np.array([f"row {k}" for k in range(N_ROWS)])  # any array with rows
    validation = Data(X[:5] + 100, targets[:5], None if weights is None else weights[:5])

    def function(outputs, targets, *rest):
        calls.append((outputs, targets, *rest))
        return 0.0, np.zeros_like(outputs)

    dense = [Dense(1, bias=False)]
    problem = Problem(1, dense, Custom(function), np.ones(1, dtype), Data(X, targets, weights))
    state, *losses, _ = train_and_validate(backend, problem, SGD(), settings, 1, validation)
    for outputs, rows, *rest in calls:
        assert outputs.dtype == dtype
        assert outputs.shape == (len(rows), 1)
        assert len(rest) == weighted
        if weighted:
            assert rest[0].dtype == dtype
            np.testing.assert_array_equal(rest[0], outputs[:, 0] % 100 + 1)
        assert rows.tolist() == [f"row {int(k)}" for k in outputs[:, 0] % 100]
    *batches, last = calls
    batch_size = settings.batch_size or N_ROWS
    assert [len(outputs) for outputs, *_ in batches] == [
        min(batch_size, N_ROWS - first) for first in range(0, N_ROWS, batch_size)
    ]
    seen = np.concatenate([outputs[:, 0] for outputs, *_ in batches])
    assert sorted(seen) == list(range(N_ROWS))
    assert (seen.tolist() == sorted(seen)) == (not settings.shuffle or batch_size == N_ROWS)
    assert last[0][:, 0].tolist() == [100, 101, 102, 103, 104]
    assert state.step == len(batches)
    assert np.array(losses).tolist() == [[0.0], [0.0]]
    assert core.ACTIVATIONS  # a backend's module, not the reference in its place


@each_backend
@each_settings
def test_the_function_may_change_what_it_gets(backend, settings):
    """Arrays are its own: neither the data nor the gradient notice."""

    def function(outputs, targets, sample_weight):
        result = squared_error(outputs, targets, sample_weight)
        for array in (outputs, targets, sample_weight):
            array[:] = 17
        return result

    problem, validation = some(SquaredError(), "tanh")
    before = [array.tobytes() for array in (*problem.data, *validation)]
    runs = [
        train_and_validate(backend, replace(problem, loss=Custom(f)), SGD(), settings, 2, validation)
        for f in (squared_error, function)
    ]
    assert [array.tobytes() for array in (*problem.data, *validation)] == before
    assert numbers(runs[0][0]) == numbers(runs[1][0])


@each_backend
def test_rows_without_weight_are_not_asked_about(backend):
    """As with the losses of the library, such a batch has the loss 0 and the gradient 0; its penalties are whole."""
    problem, validation = some(SquaredError(), "tanh")
    problem.data.sample_weight[:14] = 0
    validation.sample_weight[:] = 0
    settings = SETTINGS["7, in order"]
    for per_row in (False, True):
        settings = replace(settings, penalty_per_row=per_row)
        state, *losses, _ = train_and_validate(backend, problem, SGD(), settings, 3, validation)
        custom, *others, _ = train_and_validate(
            backend, replace(problem, loss=Custom(squared_error)), SGD(), settings, 3, validation
        )
        assert distance(custom.parameters, state.parameters) <= 1e-12
        assert distance(others, losses) <= 1e-12


@each_backend
@pytest.mark.parametrize("where", ["step", "validation"])
def test_what_the_function_raises_comes_through(backend, where):
    """At the third call, or in the validation: the steps before it are done, and a later call can go on."""
    problem, validation = some(SquaredError(), "tanh")
    calls = 0

    def function(outputs, targets, sample_weight):
        nonlocal calls
        calls += 1
        if (calls == 3) if where == "step" else len(outputs) == 13 and calls == 4:
            raise LookupError("no such thing")
        return squared_error(outputs, targets, sample_weight)

    settings = SETTINGS["7, in order"]
    whole, *expected, _ = train_and_validate(
        backend, replace(problem, loss=Custom(squared_error)), Adam(), settings, 2, validation
    )
    state, losses = new_state(problem, Adam()), np.full((2, 2), np.nan)
    run = start(backend, replace(problem, loss=Custom(function)), Adam(), settings, state, validation=validation)
    with pytest.raises(LookupError, match="no such thing"):
        run.run(2, INFINITE, *losses)
    assert (state.epoch, state.step) == (0, 2 if where == "step" else 3)
    if where == "validation":
        assert run.run(2, INFINITE, *losses) == "epochs"
        assert numbers(state) == numbers(whole)
        assert losses.tolist() == [array.tolist() for array in expected]


@each_backend
def test_floating_point_errors_are_treated_as_the_caller_wants(backend):
    """NumPy's warnings in the function are not swallowed, and those of a backend stay hidden."""
    problem, _ = some(SquaredError(), "tanh", weighted=False)

    def function(outputs, targets):
        np.log(np.zeros(1))
        return 0.0, np.zeros_like(outputs)

    problem = replace(problem, loss=Custom(function))
    with pytest.warns(RuntimeWarning, match="divide by zero"):
        train(backend, problem, SGD(), SETTINGS["full"], 1)
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("error")
        train(backend, problem, SGD(), SETTINGS["full"], 1)


# ---- divergence ----


@each_backend
@each_dtype
def test_divergence(backend, dtype):
    """The function sees finite outputs only, and no warning is about anything else."""
    problem, validation = some(SquaredError(), "tanh")
    problem = replace(problem, dense=[Dense(4), Dense(2)], data=make_problem(3, [Dense(2)], SquaredError(), 20).data)
    problem.parameters = make_problem(3, problem.dense, SquaredError(), 1).parameters
    problem = problem.cast(dtype)
    finite = []

    def function(outputs, targets, sample_weight):
        finite.append(np.isfinite(outputs).all())
        with np.errstate(over="ignore"):
            return squared_error(outputs, targets, sample_weight)

    validation = problem.data
    results = [
        train_and_validate(backend, p, SGD(learning_rate=1e3), SETTINGS["full"], 1000, validation)
        for p in (problem, replace(problem, loss=Custom(function)))
    ]
    assert [reason for *_, reason in results] == ["diverged"] * 2
    assert all(finite)
    state, losses, validated, _ = results[1]
    assert abs(state.epoch - results[0][0].epoch) <= 1
    assert np.isfinite(losses[: state.epoch - 1]).all()
    assert np.isnan(losses[state.epoch :]).all()
    assert not np.isfinite(validated[state.epoch - 1])


@each_backend
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_is_divergence(backend, value):
    problem, _ = some(SquaredError(), "tanh", weighted=False)
    custom = Custom(lambda outputs, targets: (value, np.full_like(outputs, math.nan)))
    state, losses, reason = train(backend, replace(problem, loss=custom), SGD(), SETTINGS["full"], 5)
    assert (reason, state.epoch) == ("diverged", 1)
    np.testing.assert_array_equal(losses[:1], [value])


# ---- checks ----


@pytest.mark.parametrize("function", [None, 3, "squared_error", [squared_error]])
def test_what_cannot_be_called(function):
    with pytest.raises(TypeError, match=r"^function: needs a function of \(outputs, targets\).*got "):
        Custom(function)


@pytest.mark.parametrize(
    ("result", "error", "message"),
    [
        (None, TypeError, "function: needs to return a pair (value, gradient), got None"),
        (1.5, TypeError, "function: needs to return a pair (value, gradient), got 1.5 (float)"),
        ((1.0,), TypeError, "function: needs to return a pair (value, gradient), got (1.0,) (tuple)"),
        (np.zeros((2, 4)), TypeError, "function: needs to return a pair (value, gradient), got array"),
        ((None, np.zeros((4, 2))), TypeError, "function's value: needs"),
        (("much", np.zeros((4, 2))), TypeError, "function's value: needs"),
        ((1j, np.zeros((4, 2))), TypeError, "function's value: needs"),
        ((np.zeros(4), np.zeros((4, 2))), ValueError, "function's value: needs a single number, got shape (4,)"),
        ((1.0, None), TypeError, "function's gradient: needs"),
        ((1.0, np.zeros(4)), ValueError, "function's gradient: needs the shape of the outputs, (4, 2), got shape (4,)"),
        ((1.0, np.zeros((2, 4))), ValueError, "function's gradient: needs the shape of the outputs"),
        ((1.0, 0.0), ValueError, "function's gradient: needs the shape of the outputs, (4, 2), got shape ()"),
        ((math.nan, np.zeros(4)), ValueError, "function's gradient: needs the shape of the outputs"),
        ((1.0, np.zeros((4, 2), complex)), TypeError, "function's gradient: needs real numbers, got dtype complex128"),
        ((1.0, np.full((4, 2), math.nan)), ValueError, "function's gradient: needs finite numbers, got nan at"),
        ((1.0, np.full((4, 2), 1e300)), ValueError, "function's gradient: needs numbers that fit into float32"),
    ],
    ids=str,
)
def test_what_comes_back(result, error, message):
    custom = Custom(lambda outputs, targets: result)
    with pytest.raises(error, match="^" + re.escape(message)):
        custom(np.zeros((4, 2), np.float32), np.zeros((4, 2), np.float32))


def test_weights_need_a_function_that_takes_them():
    """What a function of three raises comes through as it is."""

    def own(outputs, targets, weights):
        raise TypeError("of the function's own")

    net, X = bp.mlp([1, 1], seed=0), np.ones((3, 1))
    message = r"^function: needs to take \(outputs, targets, sample_weight\) where there are weights, got <function "
    with pytest.raises(TypeError, match=message):
        net.fit(X, X, loss=lambda outputs, targets: (0.0, 0 * outputs), sample_weight=[1, 2, 3])
    with pytest.raises(TypeError, match=r"^of the function's own$"):
        net.fit(X, X, loss=own, sample_weight=[1, 2, 3])


def test_targets_have_rows():
    with pytest.raises(ValueError, match=r"y: needs one row for each of the 3 rows of X, got 1\.0"):
        mlp([2, 1]).fit(np.zeros((3, 2)), 1.0, loss=lambda outputs, targets: (0.0, 0 * outputs))


@each_backend
def test_what_comes_back_in_training(backend):
    problem, _ = some(SquaredError(), "tanh", weighted=False)
    problem = replace(problem, loss=Custom(lambda outputs, targets: (0.0, outputs[1:])))
    state = new_state(problem, SGD())
    run = start(backend, problem, SGD(), SETTINGS["7, in order"], state)
    with pytest.raises(ValueError, match=r"^function's gradient: needs the shape of the outputs, \(7, 3\), got "):
        run.run(1, INFINITE, np.empty(1))
    np.testing.assert_array_equal(state.parameters, problem.parameters)
    assert (state.step, state.cursor) == (0, 0)


@pytest.mark.parametrize(
    "value", [1, 1.0, True, np.float32(1), np.int64(1), np.array(1.0)], ids=lambda value: type(value).__name__
)
@pytest.mark.parametrize(
    "gradient",
    [
        np.ones((4, 2)),
        np.ones((4, 2), np.float32),
        np.ones((4, 2), int),
        np.ones((2, 4)).T,
        np.ones((8, 4))[::2, ::2],
        [[1.0, 1.0]] * 4,
    ],
    ids=range(6),
)
@each_dtype
def test_numbers_of_any_kind(dtype, value, gradient):
    returned = Custom(lambda outputs, targets: [value, gradient])(np.zeros((4, 2), dtype), None)
    assert returned[0] == 1.0
    assert type(returned[0]) is float
    assert returned[1].dtype == dtype
    assert returned[1].flags.c_contiguous
    assert returned[1].tolist() == [[1.0, 1.0]] * 4


def test_settings():
    """Two of the same function are equal; the names are those of the other losses."""
    assert Custom(squared_error) == Custom(squared_error) != Custom(cross_entropy)
    assert (Custom.name, Custom.reduction) == ("custom", "mean")
    with pytest.raises(AttributeError):
        Custom(squared_error).function = cross_entropy
