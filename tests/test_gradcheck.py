"""The check of gradients: passes what is right, finds what is wrong, and says where."""

import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from backends import LOSS_VARIANTS, each_backend, each_dtype, hidden_activations, label, make_problem, outputs_of
from backprop import Dense, Network, check_gradients, losses, mlp
from backprop.reference.activations import ACTIVATIONS


def network_of(problem, backend, dtype="float64"):
    net = Network(problem.n_inputs, problem.dense, dtype=dtype, backend=backend)
    net.parameters = problem.parameters
    return net


def plant(net, index, factor):
    """Make the backend return a gradient that is wrong in one number."""
    core = net._core

    def wrong(plan, loss, parameters, data, gradient):
        value = core.loss_and_gradient(plan, loss, parameters, data, gradient)
        if gradient is not None:
            gradient[index] *= factor
        return value

    net._core = SimpleNamespace(loss_and_gradient=wrong)


@each_backend
@pytest.mark.parametrize("hidden", hidden_activations())
@pytest.mark.parametrize("loss", LOSS_VARIANTS, ids=label)
def test_every_activation_with_every_loss(backend, hidden, loss):
    outputs = outputs_of(loss)
    if hidden != "tanh":  # with tanh every output that the loss accepts
        outputs = outputs[:1] if hidden not in outputs else (hidden,)
    for output in outputs:
        dense = [Dense(4, hidden), Dense(3, hidden, l1=0.01, l2=0.02), Dense(3, output)]
        problem = make_problem(3, dense, loss, 6, seed=1)
        if "exp" in (hidden, output):  # three of them on top of each other
            problem = replace(problem, parameters=problem.parameters * 0.3)
        for dtype, limit in (("float64", 1e-13), ("float32", 1e-5)):
            data = problem.cast(dtype).data
            verdict = check_gradients(
                network_of(problem, backend, dtype), data.X, data.targets, loss, data.sample_weight, bound=limit
            )
            assert verdict.passed, f"{output}\n{verdict}"
            assert not verdict.kinks
            assert sum(array.checked for array in verdict.arrays) == problem.parameters.size
            if backend != "reference" and dtype == "float32":
                break


@each_backend
@each_dtype
@pytest.mark.parametrize("method", ["complex_step", "central_difference"])
def test_a_planted_error_is_found(backend, dtype, method):
    net = mlp([3, 5, 4, 2], hidden="tanh", output="softmax", dtype=dtype, backend=backend, seed=0)
    X = np.random.default_rng(0).normal(size=(10, 3))
    y = np.arange(10) % 2
    assert check_gradients(net, X, y, method=method)
    at = net.weights[0].size + net.biases[0].size + np.ravel_multi_index((2, 1), (5, 4))  # weights[1][2, 1]
    plant(net, at, 1.01)
    verdict = check_gradients(net, X, y, method=method)
    assert not verdict
    assert not verdict.passed
    wrong = [array for array in verdict.arrays if not array.passed]
    assert [(array.name, array.worst) for array in wrong] == [("weights[1]", (2, 1))]
    assert wrong[0].gradient == pytest.approx(1.01 * wrong[0].expected, rel=1e-4)
    assert "FAILED" in str(verdict)
    assert "| weights[1] | 5 x 4 | 20 |" in verdict._repr_markdown_()


@pytest.mark.parametrize("factor", [1 + 1e-12, 0.0, -1.0, np.nan, np.inf])
def test_any_size_of_error_is_found(factor):
    net = mlp([3, 2, 1], hidden="sigmoid", dtype="float64", seed=0)
    plant(net, 0, factor)
    X = np.random.default_rng(0).normal(size=(10, 3))
    verdict = check_gradients(net, X, X.sum(axis=1))
    assert [array.name for array in verdict.arrays if not array.passed] == ["weights[0]"]


@each_backend
@each_dtype
def test_near_a_minimum_rounding_is_not_an_error(backend, dtype):
    """There the gradient is what is left of terms that cancel: its relative error can be anything."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(30, 4))
    solution, *_ = np.linalg.lstsq(np.c_[X, np.ones(30)], y := rng.normal(size=30), rcond=None)
    net = Network(4, [Dense(1)], dtype=dtype, backend=backend)
    net.weights[0], net.biases[0] = solution[:4, None], solution[4:]
    verdict = check_gradients(net, X, y)
    assert verdict.passed
    assert verdict.error > {"float32": 1e-5, "float64": 1e-13}[np.dtype(dtype).name]
    plant(net, 2, -1e6)
    assert not check_gradients(net, X, y)


@each_backend
@each_dtype
@pytest.mark.parametrize("method", ["complex_step", "central_difference"])
def test_rows_on_a_kink_are_left_out(backend, dtype, method):
    net = Network(2, [Dense(3, "relu"), Dense(1)], dtype=dtype, backend=backend, seed=0)
    X = np.array([[1.0, 2.0], [0.0, 0.0], [-1.0, 0.5], [0.0, 0.0]])
    verdict = check_gradients(net, X, X[:, 0], method=method)
    assert verdict.kinks == (1, 3)
    assert verdict.passed
    assert "2 of 4 rows left out because they sit on a kink: 1, 3" in str(verdict)
    with pytest.raises(ValueError, match="X: needs a row away from the kinks"):
        check_gradients(net, np.zeros((3, 2)), np.ones(3))


@each_backend
@pytest.mark.parametrize("loss", ["absolute_error", "quantile", losses.Huber(delta=0.5)])
def test_kinks_of_losses(backend, loss):
    net = Network(1, [Dense(1, weight_init=1.0)], dtype="float64", backend=backend)
    y = [1.0, 1.5, 4.0]  # the first on the kink of two losses, the second on that of the third
    verdict = check_gradients(net, [[1.0], [2.0], [3.0]], y, loss)
    assert verdict.kinks == ((1,) if isinstance(loss, losses.Huber) else (0,))
    assert verdict.passed


def test_a_central_difference_that_would_cross_a_kink():
    net = Network(1, [Dense(1, "relu", weight_init=1.0)], dtype="float64")
    X, y = [[1.0], [1e-7]], [2.0, 2.0]
    assert check_gradients(net, X, y).kinks == ()
    verdict = check_gradients(net, X, y, method="central_difference")
    assert (verdict.kinks, verdict.passed) == ((1,), True)


@each_backend
def test_weights_on_the_kink_of_l1(backend):
    net = Network(2, [Dense(2, l1=0.1, weight_init=[[0.0, 1.0], [2.0, 0.0]])], dtype="float64", backend=backend)
    verdict = check_gradients(net, [[1.0, 2.0]], [[1.0, 3.0]], "squared_error")
    assert [array.checked for array in verdict.arrays] == [2, 2]
    assert verdict.passed


@each_backend
def test_what_is_not_trainable_must_have_gradient_zero(backend):
    dense = [Dense(3, "tanh", bias_trainable=False), Dense(2, trainable=False), Dense(1)]
    net = Network(2, dense, dtype="float64", backend=backend, seed=0)
    X, y = np.random.default_rng(0).normal(size=(5, 2)), np.ones(5)
    verdict = check_gradients(net, X, y)
    assert verdict.passed
    assert [array.error for array in verdict.arrays][1:4] == [0, 0, 0]
    core = net._core

    def wrong(plan, loss, parameters, data, gradient):
        value = core.loss_and_gradient(plan, loss, parameters, data, gradient)
        gradient[7] = 1e-9  # biases[0][1]
        return value

    net._core = SimpleNamespace(loss_and_gradient=wrong)
    assert [array.name for array in check_gradients(net, X, y).arrays if not array.passed] == ["biases[0]"]


def test_some_entries():
    net = mlp([20, 30, 10], output="softmax", dtype="float64", seed=0)
    X = np.random.default_rng(0).normal(size=(50, 20))
    verdict = check_gradients(net, X, np.arange(50) % 10, entries=12)
    assert [array.checked for array in verdict.arrays] == [12, 12, 12, 10]
    assert verdict.passed


@each_dtype
def test_the_network_and_the_data_stay_as_they_were(dtype):
    net = mlp([2, 3, 1], dtype=dtype, seed=0)
    X, y = np.random.default_rng(0).normal(size=(5, 2)).astype(dtype), np.ones(5, dtype)
    X.setflags(write=False)
    y.setflags(write=False)
    before = net.parameters.copy()
    check_gradients(net, X, y)
    check_gradients(net, X, y, method="central_difference")
    np.testing.assert_array_equal(net.parameters, before)
    assert net.history.epochs == 0


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"method": "guess"}, ValueError, "method: needs one of"),
        ({"bound": 0}, ValueError, "bound: needs a number > 0"),
        ({"entries": 0}, ValueError, "entries: needs an integer >= 1"),
        ({"loss": "epsilon_insensitive"}, ValueError, "loss: needs one of"),
        ({"X": [1.0]}, ValueError, "X: needs a 2-D array"),
    ],
)
def test_errors(settings, error, message):
    arguments = {"X": [[1.0, 2.0]], "y": [1.0], **settings}
    with pytest.raises(error, match=message):
        check_gradients(mlp([2, 1]), **arguments)


def test_every_activation_is_in_the_test():
    assert {*hidden_activations(), "softmax"} == set(ACTIVATIONS)
    assert sys.modules["backprop.gradcheck"]


@each_backend
@each_dtype
def test_dropout_and_max_norm_do_not_enter(backend, dtype):
    dense = [Dense(5, "tanh", dropout=0.5, max_norm=0.1), Dense(2, "softmax", max_norm=0.1)]
    net = Network(3, dense, dtype=dtype, backend=backend, seed=0)
    verdict = check_gradients(net, np.random.default_rng(0).normal(size=(10, 3)), np.arange(10) % 2)
    assert verdict.passed
    assert all(array.checked == np.prod(array.shape) for array in verdict.arrays)


@each_backend
@each_dtype
def test_losses_of_one_s_own_are_checked_by_differences(backend, dtype):
    def half(outputs, targets, factor=1.0):
        error = outputs - targets
        return 0.5 * np.mean(error**2), factor * error / error.size

    net = mlp([3, 5, 2], hidden="tanh", l2=0.1, dtype=dtype, backend=backend, seed=0)
    X = np.random.default_rng(0).normal(size=(10, 3))
    assert check_gradients(net, X, X[:, :2], half, method="central_difference")
    wrong = check_gradients(net, X, X[:, :2], lambda *rows: half(*rows, factor=1.001), method="central_difference")
    assert not any(array.passed for array in wrong.arrays)
    with pytest.raises(ValueError, match="method: needs 'central_difference' for a loss of your own"):
        check_gradients(net, X, X[:, :2], half)


def test_gradients_whose_squares_overflow(backend):
    net = Network(2, [Dense(3, "tanh"), Dense(1)], dtype="float64", seed=1, backend=backend)
    check = check_gradients(net, np.ones((2, 2)), np.full(2, 6e153))
    assert 0 <= check.error < 1e-12
