"""L-BFGS and its kin: to the minima that are known, along scikit-learn's path, and what happens on the way."""

import pickle
import sys

import backprop as bp
import numpy as np
import pytest
from backprop.minimize import METHODS
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neural_network import MLPClassifier, MLPRegressor


@pytest.fixture
def data(rng):
    X = rng.normal(size=(60, 4))
    return X, X @ [1.0, -2.0, 0.5, 0.0] + 0.3 * rng.normal(size=60) + 1


# So that only the gradient tells when to stop.
EXACT = {"lbfgs": {"loss_tolerance": 0}, "lm": None, "L-BFGS-B": {"ftol": 0}, "BFGS": None, "CG": None}


@pytest.mark.parametrize("method", EXACT)
def test_least_squares(method, data, backend):
    X, y = data
    net = bp.Network(4, [bp.Dense(1)], dtype="float64", seed=0, backend=backend)
    result = net.minimize(X, y, method=method, tolerance=1e-9, options=EXACT[method])
    expected = np.linalg.lstsq(np.c_[X, np.ones(60)], y, rcond=None)[0]
    # The gradient is below 1e-9, and the Hessian is near 2 in every direction.
    np.testing.assert_allclose(net.parameters, expected, atol=1e-8)
    assert result.success
    assert result.status == 0
    assert result.fun == net.history.loss[-1] == net.loss(X, y)
    assert net.history.epochs == result.nit
    if method in ("lbfgs", "lm"):  # the library's own names, beside SciPy's
        assert (result.loss, result.iterations, result.evaluations) == (result.fun, result.nit, result.nfev)
    assert net.history.stop_reason == "tolerance"
    assert (np.diff(net.history.loss) <= 0).all()


@pytest.mark.parametrize("per_row", [False, True])
def test_penalties(per_row, data, backend):
    """Ridge minimises ``sum of squares + alpha |w|**2``."""
    X, y = data
    l2 = 0.5
    net = bp.Network(4, [bp.Dense(1, l2=l2)], dtype="float64", seed=0, backend=backend)
    net.minimize(X, y, penalty_per_row=per_row, tolerance=1e-10, options=EXACT["lbfgs"])
    ridge = Ridge(alpha=l2 / 2 if per_row else l2 / 2 * len(X), tol=1e-12).fit(X, y)
    np.testing.assert_allclose(net.weights[0].ravel(), ridge.coef_, atol=1e-8)
    np.testing.assert_allclose(net.biases[0], ridge.intercept_, atol=1e-8)


def test_weighted_logistic_regression(rng, backend):
    """Scikit-learn minimises ``C * weighted sum of losses + |w|**2 / 2``; per row means over the sum of the weights."""
    X, y, weight = rng.normal(size=(60, 3)), rng.integers(0, 3, 60), rng.uniform(0.1, 2, 60)
    net = bp.Network(3, [bp.Dense(3, "softmax", l2=0.5)], dtype="float64", seed=0, backend=backend)
    net.minimize(X, y, sample_weight=weight, penalty_per_row=True, tolerance=1e-9, options=EXACT["lbfgs"])
    model = LogisticRegression(C=2.0, tol=1e-9, max_iter=1000).fit(X, y, weight)
    np.testing.assert_allclose(net.predict(X), model.predict_proba(X), atol=1e-7)


def start(estimator, X, y):
    """After one iteration, from where both go on."""
    with pytest.warns(ConvergenceWarning):
        return estimator.set_params(max_iter=1).fit(X, y)


@pytest.mark.parametrize("activation", ["logistic", "tanh", "relu"])
@pytest.mark.parametrize("task", ["regression", "binary", "classes", "labels"])
@pytest.mark.parametrize("method", ["lbfgs", "L-BFGS-B"])
def test_along_scikit_learn_s_path(activation, task, method, rng, backend):
    X, weight = rng.normal(size=(50, 4)), rng.uniform(0.5, 1.5, 50)
    y = {
        "regression": X[:, 0] * X[:, 1],
        "binary": (X[:, 0] > 0).astype(int),
        "classes": np.arange(50) % 3,
        "labels": (X[:, :2] > 0).astype(int),
    }[task]
    kind, loss, n_outputs = {
        "regression": (MLPRegressor, bp.losses.SquaredError(scale=0.5), 1),
        "binary": (MLPClassifier, "auto", 1),
        "classes": (MLPClassifier, "auto", 3),
        "labels": (MLPClassifier, bp.losses.BinaryCrossEntropy(scale=2), 2),  # a sum over the labels there
    }[task]
    settings = {"hidden_layer_sizes": (6,), "activation": activation, "solver": "lbfgs", "alpha": 0.1}
    estimator = start(kind(**settings, random_state=0, tol=1e-4), X, y)
    source = bp.from_sklearn(estimator)
    layers = [bp.Dense(layer.units, layer.activation, l2=0.1) for layer in source.layers]
    net = bp.Network(4, layers, dtype="float64", backend=backend)
    net.parameters = source.parameters
    assert net.n_outputs == n_outputs

    estimator.set_params(warm_start=True, max_iter=20)
    with pytest.warns(ConvergenceWarning):
        estimator.fit(X, y, weight)
    result = net.minimize(
        X, y, loss=loss, sample_weight=weight, penalty_per_row=True, max_iter=20, tolerance=1e-4,
        method=method,
    )  # fmt: skip
    assert result.nit == estimator.n_iter_ == 20
    # The two add up in different orders: 1e-16 in each step, and quasi-Newton steps multiply what they start with.
    assert result.fun == pytest.approx(estimator.loss_, rel=1e-9)
    for W, expected in zip(net.weights, estimator.coefs_, strict=True):
        np.testing.assert_allclose(W, expected, rtol=1e-7, atol=1e-7)
    assert net.history.stop_reason == "epochs"


def test_frozen_parameters_stay(data, backend, dtype):
    X, y = data
    dense = [bp.Dense(3, "tanh", trainable=False), bp.Dense(2, "tanh", bias_trainable=False), bp.Dense(1)]
    net = bp.Network(4, dense, dtype=dtype, seed=0, backend=backend)
    before = net.copy()
    result = net.minimize(X, y, max_iter=5)
    assert result.x.shape == (6 + 3,)
    np.testing.assert_array_equal(net.weights[0], before.weights[0])
    np.testing.assert_array_equal(net.biases[0], before.biases[0])
    np.testing.assert_array_equal(net.biases[1], before.biases[1])
    assert (net.weights[1] != before.weights[1]).all()
    assert net.loss(X, y) < before.loss(X, y)


def test_float32_networks_get_the_minimum_of_float64(data, backend):
    X, y = np.float32(data[0]), np.float32(data[1])
    nets = [bp.mlp([4, 5, 1], hidden="tanh", dtype=dtype, seed=0, backend=backend) for dtype in ("float32", "float64")]
    nets[1].parameters = nets[0].parameters
    for net in nets:
        net.minimize(X, y, max_iter=20)
    np.testing.assert_array_equal(nets[0].history.loss, nets[1].history.loss)
    np.testing.assert_array_equal(nets[0].parameters, nets[1].parameters.astype(np.float32))


@pytest.mark.parametrize("method", METHODS)
def test_callback(method, data, backend):
    X, y = data
    net = bp.mlp([4, 5, 1], hidden="tanh", dtype="float64", seed=0, backend=backend)
    seen = []

    def callback(iteration, loss):
        seen.append((iteration, loss, net.loss(X, y)))
        np.testing.assert_allclose(((net.predict(X)[:, 0] - y) ** 2).mean(), loss, rtol=1e-12)
        return iteration == 4

    net.minimize(X, y, method=method, callback=callback)
    assert [iteration for iteration, _, _ in seen] == [1, 2, 3, 4]
    assert [loss for _, loss, _ in seen] == [loss for _, _, loss in seen] == net.history.loss.tolist()
    assert net.history.stop_reason == "stopped"


def test_one_training_at_a_time(data, backend):
    X, y = data
    net = bp.mlp([4, 5, 1], seed=0, backend=backend)
    for train in (net.fit, net.minimize, net.train_on_batch, net.partial_fit):
        with pytest.raises(RuntimeError, match="the network is being trained: this call comes in a callback"):
            net.minimize(X, y, callback=lambda iteration, loss, train=train: train(X, y))
    net.minimize(X, y, max_iter=1)


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_what_interrupts_leaves_the_last_iteration(error, data, backend):
    X, y = data
    net = bp.mlp([4, 5, 1], hidden="tanh", dtype="float64", seed=0, backend=backend)

    def callback(iteration, loss):
        if iteration == 3:
            raise error

    with pytest.raises(error):
        net.minimize(X, y, callback=callback)
    assert net.history.epochs == 3
    assert net.history.stop_reason == "interrupted"
    assert net.loss(X, y) == net.history.loss[-1]


def test_before_and_after_fit(data, backend):
    """The history goes on; an optimizer's memory of other parameters does not."""
    X, y = data
    net = bp.mlp([4, 5, 1], dtype="float64", seed=0, backend=backend)
    net.fit(X, y, epochs=3, batch_size=None)
    net.minimize(X, y, max_iter=4)
    fresh = bp.mlp([4, 5, 1], dtype="float64", seed=0, backend=backend)
    fresh.parameters = net.parameters
    for each in (net, fresh):
        each.fit(X, y, epochs=2, batch_size=None)
    np.testing.assert_array_equal(net.parameters, fresh.parameters)
    assert net.history.epochs == 3 + 4 + 2
    np.testing.assert_array_equal(net.history.loss[-2:], fresh.history.loss)


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"method": "SLSQP"}, ValueError, "method: needs one of 'lbfgs', 'lm', 'bayesian', 'L-BFGS-B', .* got 'SLSQP'"),
        ({"max_iter": 0}, ValueError, "max_iter: needs an integer >= 1"),
        ({"tolerance": -1.0}, ValueError, "tolerance: needs a number >= 0"),
        ({"tolerance": None}, TypeError, "tolerance: needs a number >= 0 or 'auto', got None"),
        ({"penalty_per_row": 1}, TypeError, "penalty_per_row: needs True or False"),
        ({"callback": 3}, TypeError, "callback: needs a function of iteration and loss, got 3"),
        ({"options": {"ftol": 0}}, ValueError, "options: needs one of 'loss_tolerance', 'max_evaluations', 'history'"),
        ({"options": {"history": 0}}, ValueError, "history: needs an integer >= 1"),
        ({"progress": 1}, TypeError, "progress: needs True or False"),
        ({"options": 3}, TypeError, "options: needs a mapping from names to values, got 3"),
        ({"loss": "cross_entropy"}, ValueError, "loss: cross_entropy needs a last layer"),
    ],
)
def test_wrong_arguments(settings, error, message, data):
    net = bp.mlp([4, 1], seed=0)
    before = net.parameters.copy()
    with pytest.raises(error, match=message):
        net.minimize(*data, **settings)
    np.testing.assert_array_equal(net.parameters, before)
    assert net.history.epochs == 0


def test_what_a_minimizer_cannot_do(data, backend):
    for setting in ("dropout", "max_norm"):
        net = bp.Network(4, [bp.Dense(3, **{setting: 0.5}), bp.Dense(1)], backend=backend)
        with pytest.raises(ValueError, match=rf"layers\[0\]: needs {setting}=.* for minimize, .* got 0.5"):
            net.minimize(*data)
    with pytest.raises(ValueError, match="layers: needs at least one that is trainable"):
        bp.Network(4, [bp.Dense(1, trainable=False)], backend=backend).minimize(*data)
    net = bp.Network(4, [bp.Dense(1, "exp", weight_init=1e3)], dtype="float64", backend=backend)
    with pytest.raises(ValueError, match="parameters: needs a start where the loss is finite, got a loss of"):
        net.minimize(np.abs(data[0]), data[1], loss="squared_error")
    net = bp.Network(4, [bp.Dense(1)], dtype="float64", backend=backend)
    for method in ("lbfgs", "lm", "L-BFGS-B"):
        with pytest.raises(ValueError, match="got a loss of inf: bring inputs and targets to a scale of about 1"):
            net.minimize(data[0], 1e200 * data[1], method=method)


@pytest.mark.parametrize(
    ("layer", "settings", "message"),
    [
        (
            bp.Dense(1),
            {"loss": "absolute_error"},
            "loss: needs one of 'squared_error', 'huber', 'log_cosh'",
        ),
        (
            bp.Dense(2),
            {"sample_weight": np.arange(1.0, 121.0).reshape(60, 2)},
            "sample_weight: needs a weight",
        ),
        (bp.Dense(1, l1=0.1), {}, r"layers\[1\]: needs l1=0 for method='lm'"),
        (bp.Dense(900), {}, "layers: needs at most 5000 trainable parameters for method='lm'.* got 6330"),
    ],
)
def test_what_levenberg_marquardt_cannot_do(layer, settings, message, data):
    X, y = data
    net = bp.Network(4, [bp.Dense(6, "tanh"), layer], dtype="float64", seed=0)
    y = np.repeat(y[:, np.newaxis], layer.units, axis=1)
    with pytest.raises(ValueError, match=message):
        net.minimize(X, y, method="lm", **settings)


def test_without_scipy(data, monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.optimize", None)
    net = bp.mlp([4, 1], seed=0)
    with pytest.raises(ImportError, match=r"minimize: needs SciPy for this method; .* pip install 'bpcore\[scipy\]'"):
        net.minimize(*data, method="BFGS")
    assert net.minimize(*data).success


@pytest.mark.parametrize("method", [bp.solvers.LBFGS(history=3, tolerance=1e-7), bp.solvers.LevenbergMarquardt()])
def test_a_method_may_be_an_object(method, data, backend):
    X, y = data
    nets = [bp.mlp([4, 3, 1], hidden="tanh", dtype="float64", seed=0, backend=backend) for _ in range(2)]
    options = {"history": 3} if method.name == "lbfgs" else None
    named = nets[0].minimize(X, y, method=method.name, tolerance=method.tolerance, options=options, max_iter=20)
    given = nets[1].minimize(X, y, method=method, max_iter=20)
    assert (given.loss, given.evaluations, given.reason) == (named.loss, named.evaluations, named.reason)
    np.testing.assert_array_equal(nets[0].parameters, nets[1].parameters)
    fleet = bp.Fleet.of([bp.mlp([4, 3, 1], hidden="tanh", dtype="float64", seed=0, backend=backend)])
    assert fleet.minimize(X, y, method=method, max_iter=20)[0].loss == named.loss


def test_an_object_has_its_own_settings(data):
    X, y = data
    net = bp.Network(4, [bp.Dense(1)], dtype="float64", seed=0)
    for wrong in ({"options": {"history": 5}}, {"tolerance": 1e-3}, {"tolerance": 1e-5}):
        with pytest.raises(ValueError, match=f"{next(iter(wrong))}: needs a method by its name, LBFGS has its own"):
            net.minimize(X, y, method=bp.solvers.LBFGS(tolerance=1e-9), **wrong)
    net.minimize(X, y, method=bp.solvers.LBFGS(tolerance=1e-9), tolerance=1e-9, max_iter=1)
    with pytest.raises(TypeError, match=r"method: needs an object, got the class LBFGS; write LBFGS\(\)"):
        net.minimize(X, y, method=bp.solvers.LBFGS)


# --- the scale of the targets -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "share"), [("lbfgs", 0.02), ("lm", 1e-4)])
@pytest.mark.parametrize("scale", [1e-2, 1e-4])
def test_small_targets_end_no_fit_too_early(method, share, scale):
    x = np.linspace(-1, 1, 100)[:, np.newaxis]
    y = scale * np.sin(4 * x) * np.exp(x)
    net = bp.mlp([1, 8, 1], hidden="tanh", dtype="float64", seed=0)
    result = net.minimize(x, y, method=method, max_iter=500)
    assert result.loss < share * y.var()


def test_automatic_tolerances_follow_the_largest_output_and_given_ones_stay():
    x = np.linspace(-1, 1, 20)[:, np.newaxis]
    y = np.hstack([1e-2 * np.sin(3 * x), 1e-3 * np.cos(3 * x), 1e-9 * x])
    unit = y.std(axis=0)[0]

    def solver(targets=y, loss="squared_error", **settings):
        net = bp.mlp([1, 3, targets.shape[1]], hidden="tanh", dtype="float64", seed=0)
        net.minimize(x, targets, loss=loss, max_iter=1, **settings)
        return net._solved.solver

    usual = bp.solvers.LBFGS()
    assert solver().tolerance == pytest.approx(1e-5 * unit)
    assert solver().loss_tolerance == pytest.approx(usual.loss_tolerance * unit**2)
    assert solver(loss="huber", method="lm").tolerance == pytest.approx(1e-5 * unit)
    half = solver(options={"loss_tolerance": 1e-3})
    assert half.tolerance == pytest.approx(1e-5 * unit)
    assert half.loss_tolerance == 1e-3
    assert solver(tolerance=1e-4, options={"loss_tolerance": 1e-3}) == bp.solvers.LBFGS(
        tolerance=1e-4, loss_tolerance=1e-3
    )
    assert solver(method=usual) == usual
    assert solver(1000 * y[:, :1]) == usual
    assert solver(loss="absolute_error") == usual
    assert solver(y[:, :2], method="bayesian") == bp.solvers.BayesianRegularization()


@pytest.mark.parametrize("hidden", [(), (8,)])
@pytest.mark.parametrize("scale", [1.0, 1e20, 1e100, 1e150])
def test_targets_that_are_too_large_are_named(scale, hidden):
    x = np.linspace(-1, 1, 100)[:, np.newaxis]
    net = bp.mlp([1, *hidden, 1], hidden="tanh", dtype="float64", seed=0)
    result = net.minimize(x, scale * np.sin(4 * x), max_iter=500)
    assert ("bring targets and loss to a scale of about 1" in result.message) == (scale > 1)


def test_a_gradient_that_is_no_number_is_named():
    ends = {"x": np.zeros(1), "loss": 1.0, "iterations": 3, "evaluations": 9, "reason": "stuck"}
    assert "the gradient is still nan" in bp.solvers.Solution(slope=np.nan, **ends).message


def test_a_solution_is_printed_in_a_line():
    ends = {"x": np.zeros(3_000), "loss": 0.125, "slope": 1e-6, "iterations": 3, "evaluations": 9, "reason": "gradient"}
    line = "Solution(loss=0.125, slope=1e-06, iterations=3, evaluations=9, reason='gradient', x of 3,000 parameters)"
    assert repr(bp.solvers.Solution(**ends)) == line
    assert "reason='gradient', alpha=2, beta=0.5, gamma=7.25, x of" in repr(
        bp.solvers.Solution(**ends, alpha=2.0, beta=0.5, gamma=7.25)
    )


def test_a_sum_over_many_rows_has_a_larger_gradient():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(20_000, 3))
    for loss in (bp.losses.SquaredError(reduction="sum"), bp.losses.SquaredError(scale=20_000.0)):
        net = bp.mlp([3, 8, 1], hidden="tanh", dtype="float64", seed=0)
        result = net.minimize(X, np.sin(X[:, 0]) + 0.3 * rng.normal(size=len(X)), loss=loss, max_iter=300)
        assert result.ordinary_slope == 20_000
        assert "bring targets" not in result.message


@pytest.mark.parametrize("method", ["lbfgs", "lm", "bayesian"])
@pytest.mark.parametrize("exponent", [-2, -20, -700])
def test_automatic_tolerances_follow_the_scale_of_the_loss(method, exponent, rng):
    """It ends where a loss without one does."""
    x = np.linspace(-1, 1, 60)[:, np.newaxis]
    y = 0.3 * np.sin(3 * x) + 0.05 * rng.normal(size=x.shape)
    nets = [bp.mlp([1, 3, 1], hidden="tanh", dtype="float64", seed=0) for _ in range(2)]
    usual = nets[0].minimize(x, y, method=method, max_iter=500)
    scaled = nets[1].minimize(x, y, method=method, max_iter=500, loss=bp.losses.SquaredError(scale=2.0**exponent))
    assert usual.success
    assert (scaled.reason, scaled.iterations) == (usual.reason, usual.iterations)
    np.testing.assert_array_equal(scaled.x, usual.x)
    large = bp.losses.SquaredError(scale=1e3)  # never looser than those that are documented
    nets[1].minimize(x, y, method=method, max_iter=1, loss=large)
    assert nets[1]._solved.solver == nets[0]._solved.solver


def test_automatic_tolerances_follow_the_scale_of_every_loss():
    x, y = np.linspace(-1, 1, 20)[:, np.newaxis], np.arange(20) % 2
    net = bp.mlp([1, 3, 1], output="sigmoid", dtype="float64", seed=0)
    usual = bp.solvers.LBFGS()
    net.minimize(x, y, loss=bp.losses.BinaryCrossEntropy(scale=1e-3), max_iter=1)
    assert net._solved.solver.tolerance == pytest.approx(1e-3 * usual.tolerance)
    assert net._solved.solver.loss_tolerance == pytest.approx(1e-3 * usual.loss_tolerance)
    net.minimize(x, y, loss=bp.losses.BinaryCrossEntropy(scale=1e-3), max_iter=1, tolerance=1e-4)
    assert net._solved.solver.tolerance == 1e-4
    net.minimize(x, y, loss=lambda a, y: (0.0, np.zeros_like(a)), max_iter=1)
    assert net._solved.solver == usual


@pytest.mark.parametrize("y", [[1.7e308, -1.7e308], [1.7e308, 1.7e308], [5e-324, -5e-324], [0.0, 5e-324]])
def test_automatic_tolerances_of_targets_near_the_limits(y):
    net = bp.mlp([1, 2, 1], hidden="tanh", dtype="float64", seed=0)
    if max(y) > 1:
        with pytest.raises(ValueError, match="needs a start where the loss is finite"):
            net.minimize([[0.0], [1.0]], y)
    else:
        assert net.minimize([[0.0], [1.0]], y, max_iter=500).loss < 1e-9


def test_the_error_for_a_bad_start_comes_back_from_another_process():
    net = bp.mlp([1, 1], dtype="float64", seed=0)
    with pytest.raises(ValueError, match="needs a start where the loss is finite") as info:
        net.minimize([[0.0], [1.0]], [1e300, -1e300])
    again = pickle.loads(pickle.dumps(info.value))
    assert (type(again), str(again)) == (type(info.value), str(info.value))
    assert again.solution.loss == info.value.solution.loss


def test_a_run_goes_on_with_the_automatic_tolerances_that_it_began_with():
    x = np.linspace(-1, 1, 20)[:, np.newaxis]
    net = bp.mlp([1, 3, 1], hidden="tanh", dtype="float64", seed=0)
    net.minimize(x, 1e-3 * x, max_iter=2)
    began = net._solved.solver
    net.minimize(x, 1e-2 * x, max_iter=4, resume=True)
    assert net._solved.solver == began
    with pytest.raises(ValueError, match="resume: needs the method and the options"):
        net.minimize(x, 1e-3 * x, max_iter=6, resume=True, tolerance=1e-4)


def test_classes_made_from_a_method_are_that_method(data, tmp_path):
    class Mine(bp.solvers.LBFGS):
        pass

    X, y = data
    net = bp.mlp([4, 3, 1], hidden="tanh", dtype="float64", seed=0)
    net.minimize(X, y, method=Mine(history=4), max_iter=3)
    net.save_checkpoint(tmp_path / "run.safetensors")
    net = bp.resume(tmp_path / "run.safetensors")
    assert net.minimize(X, y, method=Mine(history=4), max_iter=5, resume=True).iterations == 5
    with pytest.raises(TypeError, match=r"^method: needs one of LBFGS, LevenbergMarquardt, Bayes.*, got Solver\("):
        net.minimize(X, y, method=bp.solvers.Solver())


def test_only_what_is_boundless_is_left_out_of_a_representation():
    assert repr(bp.solvers.LevenbergMarquardt()) == (
        "LevenbergMarquardt(tolerance=1e-05, loss_tolerance=0.0, damping=0.1, scaling='identity')"
    )
    assert "max_evaluations=7, " in repr(bp.solvers.BayesianRegularization(max_evaluations=7))
    assert eval(repr(bp.solvers.LBFGS(history=3)), vars(bp.solvers)) == bp.solvers.LBFGS(history=3)


def test_a_start_whose_gradient_alone_is_not_finite_is_refused_as_such(data):
    X, y = data
    net = bp.mlp([4, 3, 1], hidden="tanh", dtype="float64", seed=0)
    with pytest.raises(ValueError, match="parameters: needs a start where the gradient is finite, got a slope of nan"):
        net.minimize(X, y, method="bayesian", sample_weight=np.full(len(X), 1e300))


def test_automatic_tolerances_follow_no_output_that_hardly_counts(backend):
    """One a ten-millionth as large would keep the loss from ever hardly falling any more."""
    X = np.linspace(-1, 1, 50)[:, np.newaxis]
    y = np.concatenate([np.sin(3 * X), 1e-7 * np.random.default_rng(0).normal(size=X.shape)], axis=1)
    for method in ("lbfgs", "lm"):
        net = bp.mlp([1, 8, 2], hidden="tanh", dtype="float64", seed=0, backend=backend)
        assert net.minimize(X, y, method=method, max_iter=4000).success, method


@pytest.mark.parametrize("method", ["lbfgs", "lm", "bayesian"])
def test_no_parameter_grows_beyond_the_dtype_of_the_network(method, backend):
    X, y = np.arange(1, 5.0)[:, np.newaxis] * 1e-30, np.arange(1, 5) * 1e9  # asks for a weight of 1e39
    net = bp.Network(1, [bp.Dense(1, bias=False)], seed=0, backend=backend)
    first = net.loss(X, y)
    with np.errstate(all="raise"):
        result = net.minimize(X, y, method=method, tolerance=0)
    assert np.isfinite(net.parameters).all()
    np.testing.assert_array_equal(net.parameters, result.x.astype(np.float32))
    assert result.loss <= first * (1 + 1e-6)
    assert np.isfinite(net.loss(X, y))


@pytest.mark.parametrize("method", ["lbfgs", "L-BFGS-B", "BFGS"])
def test_a_loss_without_a_lower_bound_leaves_finite_parameters(method, data, backend):
    X, y = data
    net = bp.mlp([4, 4, 1], hidden="tanh", seed=0, backend=backend)

    def falling(outputs, targets):
        return float(outputs.sum()), np.ones_like(outputs)

    options = {"loss_tolerance": 0} if method == "lbfgs" else None
    with np.errstate(over="raise"):
        net.minimize(X, y, loss=falling, method=method, max_iter=3000, options=options)
    assert np.isfinite(net.parameters).all()
    assert (np.diff(net.history.loss) <= 0).all()


@pytest.mark.parametrize("seed", [3, 12])
def test_elements_of_all_sizes_are_no_singular_matrix(seed, backend):
    net = bp.mlp([1, 3, 2], hidden="silu", output="softsign", dtype="float64", seed=seed, backend=backend)
    options = {"scaling": "marquardt"}
    result = net.minimize([[0.3]], [[2.0, -3.0]], method="lm", tolerance=0, options=options)  # out of reach
    assert np.isfinite(result.x).all()
    assert result.loss == net.loss([[0.3]], [[2.0, -3.0]])


def test_a_start_whose_penalty_alone_is_not_finite_is_refused_as_such(data, backend):
    X, y = data
    net = bp.mlp([4, 3, 1], hidden="tanh", dtype="float64", seed=0, backend=backend)
    net.weights[0][...] = 1e200
    match = r"parameters: needs a start where the penalty is finite, got parameters up to 1e\+200"
    with pytest.raises(ValueError, match=match):
        net.minimize(X, y, method="bayesian")


def test_what_a_method_of_scipy_does_not_take_is_named(data):
    X, y = data
    with pytest.raises(ValueError, match="log: needs method='lbfgs', 'lm' or 'bayesian', got method='BFGS'"):
        bp.mlp([4, 1], seed=0).minimize(X, y, method="BFGS", log=print)


@pytest.mark.parametrize("method", ["lbfgs", "lm", "bayesian"])
def test_a_start_that_is_refused_leaves_the_network_as_it_was(method, data, backend):
    X, y = data
    nets = [bp.mlp([4, 3, 1], hidden="tanh", dtype="float64", seed=0, backend=backend) for _ in range(2)]
    for net in nets:
        net.fit(X, y, optimizer=bp.Adam(), epochs=3)
    with pytest.raises(ValueError, match="needs a start where the loss is finite"):
        nets[0].minimize(X, 1e200 * y, method=method)
    assert nets[0].history.stop_reason == "epochs"
    for net in nets:
        net.fit(X, y, optimizer=bp.Adam(), epochs=3)  # the moments go on
        net.minimize(X, y, method=method, max_iter=3, tolerance=0)
    with pytest.raises(ValueError, match="needs a start where the loss is finite"):
        nets[0].minimize(X, 1e200 * y, method=method)
    for net in nets:
        result = net.minimize(X, y, method=method, max_iter=6, tolerance=0, resume=True)
        assert result.iterations == 6
    np.testing.assert_array_equal(nets[0].parameters, nets[1].parameters)
    np.testing.assert_array_equal(nets[0].history.loss, nets[1].history.loss)


def test_a_gradient_that_falls_through_the_range_of_doubles_at_once(backend):
    """From above 2**640 to below 2**-640, which no common unit holds."""
    for scale, target in ((2.0**330, 2.0**-990), (2.0**340, 3 * 2.0**-1000), (2.0**360, 2.0**-1010)):
        net = bp.Network(1, [bp.Dense(1, bias=False)], dtype="float64", backend=backend)
        net.weights[0][...] = 1
        with np.errstate(all="ignore"):
            found = net.minimize(
                [[scale]], [[target]], loss="squared_error", tolerance=0, options={"loss_tolerance": 0}
            )
        assert net.weights[0].item() == 0
        assert found.slope == 2 * scale * target > 0
        assert (found.reason, found.iterations, found.evaluations) == ("stuck", 1, 22)
