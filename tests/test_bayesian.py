"""Bayesian regularisation and Laplace's approximation: closed forms, the noise that is found, what intervals cover."""

import pickle

import backprop as bp
import numpy as np
import pytest
from backends import COMPILED, choice, each_backend, make_problem, module
from backprop.base.solving import SolverState
from backprop.layers import Dense
from backprop.learn.laplace import FlatError
from backprop.losses import SquaredError
from backprop.sklearn import MLPClassifier, MLPRegressor
from backprop.solvers import BayesianRegularization
from scipy.stats import norm
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import BayesianRidge


@pytest.fixture
def linear(rng):
    X = rng.normal(size=(80, 6))
    return X, X @ [1.0, -2.0, 0.5, 0.0, 0.0, 0.1] + 0.3 * rng.normal(size=80)


def ridge(X, y, sample_weight=None, **settings):
    """Scikit-learn's, without priors of the precisions."""
    flat = {"alpha_1": 0.0, "alpha_2": 0.0, "lambda_1": 0.0, "lambda_2": 0.0}
    model = BayesianRidge(fit_intercept=False, tol=1e-14, max_iter=1000, compute_score=True, **flat, **settings)
    return model.fit(X, y, sample_weight)


# --- closed forms --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weighted", [False, True])
def test_a_linear_network_is_bayesian_ridge(weighted, linear, rng, backend):
    """Weights that are whole numbers are rows that come so often."""
    X, y = linear
    weight = rng.integers(0, 4, len(X)) if weighted else None
    times = np.ones(len(X), int) if weight is None else weight
    theirs = ridge(np.repeat(X, times, axis=0), np.repeat(y, times))
    net = bp.Network(6, [bp.Dense(1, bias=False)], dtype="float64", seed=0, backend=backend)
    result = net.minimize(X, y, method="bayesian", sample_weight=weight, tolerance=1e-10)
    assert result.success
    # the gradient is within 1e-10, and the precisions follow from the parameters
    assert result.alpha == pytest.approx(theirs.lambda_, rel=1e-7)
    assert result.beta == pytest.approx(theirs.alpha_, rel=1e-7)
    np.testing.assert_allclose(result.x, theirs.coef_, atol=1e-8)

    posterior = bp.Laplace(net, X, y, sample_weight=weight)
    assert posterior.log_evidence == pytest.approx(theirs.scores_[-1], rel=1e-9)
    np.testing.assert_allclose(posterior.covariance, theirs.sigma_, rtol=1e-6, atol=1e-10)
    mean, std = posterior.predict(X[:5], return_std=True)
    expected = theirs.predict(X[:5], return_std=True)
    np.testing.assert_allclose(mean[:, 0], expected[0], atol=1e-8)
    np.testing.assert_allclose(std[:, 0], expected[1], rtol=1e-7)
    without = posterior.predict(X[:5], return_std=True, noise=False)[1]
    np.testing.assert_allclose(without**2 + 1 / posterior.beta, std**2, rtol=1e-12)


def test_few_rows_have_the_precisions_of_the_evidence_too(rng):
    """Where rows determine about as many parameters as they are, updates of the precisions go to and fro."""
    X = np.array([[2.0, 0.0]])  # one curvature: c / (c + r) r^2 = c S / P, in closed form
    net = bp.Network(2, [bp.Dense(1, bias=False, weight_init=[[0.5], [0.0]])], dtype="float64")
    posterior = bp.Laplace(net, X, [3.0])
    ratio = np.sqrt(4 * 4 / 0.25)
    assert posterior.alpha == pytest.approx(4 / (4 + ratio) / 0.25, rel=1e-9)
    assert posterior.beta == pytest.approx(ratio / (4 + ratio) / 4, rel=1e-9)
    for seed in range(40):
        X = rng.normal(size=(rng.integers(3, 8), 2))
        net = bp.Network(2, [bp.Dense(12, "tanh"), bp.Dense(1, bias=seed % 2 == 0)], dtype="float64", seed=seed)
        net.minimize(X, y := np.sin(X[:, :1]), method="bayesian", max_iter=20)
        posterior = bp.Laplace(net, X, y + 0.1 * rng.normal(size=y.shape))
        squares = ((net.parameters[:-1] if seed % 2 == 0 else net.parameters) ** 2).sum()
        assert posterior.alpha == pytest.approx(posterior.gamma / squares, rel=1e-4)


def test_the_evidence_is_the_integral_over_the_parameters(rng):
    """With an intercept, which has no prior: y is Gaussian, integrated over the intercept in closed form."""
    X, n = rng.normal(size=(12, 2)), 12
    y = X @ [1.0, -0.5] + 2 + 0.1 * rng.normal(size=n)
    net = bp.Network(2, [bp.Dense(1)], dtype="float64", seed=0)
    result = net.minimize(X, y, method="bayesian", tolerance=1e-11)
    posterior = bp.Laplace(net, X, y)
    C = X @ X.T / posterior.alpha + np.eye(n) / posterior.beta
    one, inverse = np.ones(n), np.linalg.inv(C)
    mean = one @ inverse @ y / (one @ inverse @ one)
    rest = y - mean
    log_density = -0.5 * (rest @ inverse @ rest + np.linalg.slogdet(C)[1] + n * np.log(2 * np.pi))
    expected = log_density + 0.5 * np.log(2 * np.pi / (one @ inverse @ one))
    assert posterior.log_evidence == pytest.approx(expected, rel=1e-9)
    assert posterior.gamma == pytest.approx(result.gamma, rel=1e-6)
    assert posterior.noise == pytest.approx(result.beta**-0.5, rel=1e-6)
    for alpha, beta in ((1.01, 1.0), (0.99, 1.0), (1.0, 1.01), (1.0, 0.99)):
        other = bp.Laplace(net, X, y, alpha=alpha * posterior.alpha, beta=beta * posterior.beta)
        assert other.log_evidence < posterior.log_evidence


def test_the_matrix_is_that_of_differences(rng):
    """Two outputs, a frozen layer, weights of rows: A from central differences of the outputs."""
    layers = [bp.Dense(3, "tanh"), bp.Dense(3, "tanh", trainable=False), bp.Dense(2)]
    net = bp.Network(2, layers, dtype="float64", seed=0)
    X, y, weight = rng.normal(size=(30, 2)), rng.normal(size=(30, 2)), rng.uniform(0.5, 2, 30)
    posterior = bp.Laplace(net, X, y, sample_weight=weight, alpha=0.7, beta=3.0)
    free = [*range(9), *range(21, 29)]
    J, other = np.empty((30, 2, len(free))), net.copy()
    for k, at in enumerate(free):
        for sign in (1, -1):
            other.parameters = net.parameters
            other.parameters[at] += sign * 1e-6
            J[:, :, k] = sign * other.predict(X) + (0 if sign == 1 else J[:, :, k])
    J /= 2e-6
    prior = np.r_[np.ones(15), 0, 0]
    A = 3 * np.einsum("b,bop,boq->pq", weight, J, J) + 0.7 * np.diag(prior)
    # central differences with a step of 1e-6 have about ten digits
    np.testing.assert_allclose(posterior.factor @ posterior.factor.T, A, rtol=1e-6, atol=1e-6)
    mean, std = posterior.predict(X, return_std=True)
    np.testing.assert_allclose(mean, net.predict(X), rtol=1e-9)  # NumPy's sums, and the core's
    np.testing.assert_allclose(std**2, np.einsum("bop,pq,boq->bo", J, np.linalg.inv(A), J) + 1 / 3, rtol=1e-6)


# --- the noise that was put in -------------------------------------------------------------------------------------


def wave(rng, n):
    X = rng.uniform(-1, 1, (n, 1))
    return X, np.sin(4 * X)


def friedman(rng, n):
    X = rng.uniform(0, 1, (n, 5))
    y = 10 * np.sin(np.pi * X[:, 0] * X[:, 1]) + 20 * (X[:, 2] - 0.5) ** 2 + 10 * X[:, 3] + 5 * X[:, 4]
    return 2 * X - 1, (y[:, np.newaxis] - 14.4) / 5


def arm(rng, n):
    angles = rng.uniform(-1, 1, (n, 3))
    sums = np.cumsum(np.pi / 3 * angles, axis=1)
    return angles, np.stack([np.cos(sums).mean(axis=1), np.sin(sums).mean(axis=1)], axis=1)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("function", "sizes", "rows", "noise"),
    [(wave, [1, 10, 1], 400, 0.2), (friedman, [5, 12, 1], 600, 0.3), (arm, [3, 12, 2], 400, 0.1)],
)
def test_the_noise_is_found_and_intervals_cover_what_they_say(function, sizes, rows, noise, seed):
    """The noise within 10 %, which is 2.8 standard deviations of its estimate from 400 targets; 90 % intervals."""
    rng = np.random.default_rng(seed)
    X, y = function(rng, rows)
    X_new, y_new = function(rng, 2000)
    net = bp.mlp(sizes, hidden="tanh", dtype="float64", seed=seed)
    result = net.minimize(X, y + noise * rng.normal(size=y.shape), method="bayesian", max_iter=300)
    assert result.success
    assert result.beta**-0.5 == pytest.approx(noise, rel=0.1)
    assert 0 < result.gamma < net.n_parameters
    posterior = bp.Laplace(net, X, y, alpha=result.alpha, beta=result.beta)
    mean, std = posterior.predict(X_new, return_std=True)
    inside = np.abs(y_new + noise * rng.normal(size=y_new.shape) - mean) < norm.ppf(0.95) * std
    assert 0.85 <= inside.mean() <= 0.95


@pytest.mark.parametrize("noise", [1e-2, 1e-4])
def test_little_noise_is_found(noise, backend):
    """The gradient is small before the errors are those of the noise; 10 % are 2.5 standard errors of 300 rows."""
    rng = np.random.default_rng(0)
    X, y = wave(rng, 300)
    net = bp.mlp([1, 10, 1], hidden="tanh", dtype="float64", seed=0, backend=backend)
    result = net.minimize(X, y + noise * rng.normal(size=y.shape), method="bayesian", max_iter=1000)
    assert result.success
    assert result.beta**-0.5 / noise == pytest.approx(1, rel=0.1)


@pytest.mark.parametrize("scale", [0.1, 0.01, 1e-3])
def test_small_targets_do_not_end_it_before_the_noise_is_found(scale, backend):
    """The gradient is small from the start there; the noise within 10 %, as above."""
    rng = np.random.default_rng(0)
    X, y = wave(rng, 300)
    y = scale * (y + 0.2 * rng.normal(size=y.shape))
    net = bp.mlp([1, 8, 1], hidden="tanh", dtype="float64", seed=0, backend=backend)
    result = net.minimize(X, y, method="bayesian", max_iter=1000)
    assert result.beta**-0.5 / scale == pytest.approx(0.2, rel=0.1)
    model = MLPRegressor(hidden_layer_sizes=8, activation="tanh", solver="bayesian", random_state=0, max_iter=1000)
    model.fit(X, y[:, 0])
    assert model.posterior_.noise / scale == pytest.approx(0.2, rel=0.1)


def test_more_hidden_units_do_not_learn_the_noise():
    rng = np.random.default_rng(1)
    X, y = wave(rng, 60)
    noisy = y + 0.2 * rng.normal(size=y.shape)
    X_new, y_new = wave(rng, 500)
    errors = {}
    for method in ("lm", "bayesian"):
        net = bp.mlp([1, 20, 1], hidden="tanh", dtype="float64", seed=0)
        net.minimize(X, noisy, method=method, max_iter=200)
        errors[method] = np.sqrt(((net.predict(X_new) - y_new) ** 2).mean())
    assert errors["bayesian"] < 0.1 < errors["lm"]


# --- the same everywhere -------------------------------------------------------------------------------------------

DENSE = [Dense(4, "tanh"), Dense(3, "tanh", trainable=False), Dense(6, "tanh", bias_trainable=False), Dense(2)]


def minimise(backend, problem, solver, iterations, seconds=float("inf"), n_threads=1):
    core, losses = module(backend, problem.data.X.dtype), []
    state = SolverState(problem.parameters.astype(np.float64))
    plan = core.Plan(problem.n_inputs, problem.dense)
    run = core.Solving(plan, problem.loss, solver, problem.data, state, n_threads, True)
    while state.iteration < iterations:
        first, found = state.iteration, np.full(iterations - state.iteration, np.nan)
        assert run.run(iterations, seconds, found) in ("time", "iterations")
        losses += found[: state.iteration - first].tolist()
    return state, losses


@each_backend
@pytest.mark.parametrize("scaling", ["identity", "marquardt"])
@pytest.mark.parametrize("rows", [40, 600])
def test_every_backend_goes_the_same_way(rows, scaling, backend):
    """Also with frozen parameters, weights of rows and two outputs."""
    problem = make_problem(3, DENSE, SquaredError(scale=0.5), rows)
    solver = BayesianRegularization(scaling=scaling)
    expected, losses = minimise(choice.REFERENCE, problem, solver, 8)
    state, found = minimise(backend, problem, solver, 8)
    # rounding errors of the matrix, times its condition
    np.testing.assert_allclose(found, losses, rtol=1e-8)
    for name in ("alpha", "beta", "gamma", "slope", "damping"):
        np.testing.assert_allclose(getattr(state, name), getattr(expected, name), rtol=1e-5)
    assert state.evaluations == expected.evaluations


def test_the_same_bits_on_avx2_and_avx_512_in_pieces_and_with_threads():
    problem = make_problem(3, [Dense(30, "tanh"), Dense(9, "tanh"), Dense(2)], SquaredError(), 700)
    points = set()
    for backend in (each for each in COMPILED if each != "baseline"):
        for settings in ({}, {"seconds": 0.0}, {"n_threads": 2}, {"n_threads": 3, "seconds": 0.0}):
            points.add(minimise(backend, problem, BayesianRegularization(), 6, **settings)[0].point.tobytes())
    assert len(points) <= 1


# --- what is recorded, and what cannot be --------------------------------------------------------------------------


def test_the_history_has_the_precisions(rng, backend):
    X, y = wave(rng, 50)
    net = bp.mlp([1, 5, 1], hidden="tanh", dtype="float64", seed=0, backend=backend)
    result = net.minimize(X, y + 0.1 * rng.normal(size=y.shape), method="bayesian", max_iter=10)
    assert set(net.history) == {"loss", "alpha", "beta", "gamma"}
    for name in ("alpha", "beta", "gamma"):
        assert net.history[name][-1] == getattr(result, name)
    assert result.fun == net.history.loss[-1]
    assert net.minimize(X, y, method="lm", max_iter=1).alpha is None


def test_clean_ends(rng, backend):
    """Targets without noise, targets that are all 0, more parameters than rows, equal columns."""
    X = np.repeat(rng.normal(size=(8, 1)), 2, axis=1)
    for y in (np.sin(X[:, :1]), np.zeros((8, 1)), 1e6 * rng.normal(size=(8, 1)), rng.normal(size=(8, 1))):
        net = bp.mlp([2, 9, 1], hidden="tanh", dtype="float64", seed=0, backend=backend)
        result = net.minimize(X, y, method="bayesian", max_iter=60)
        assert np.isfinite(net.parameters).all()
        assert np.isfinite([result.alpha, result.beta, result.gamma, result.fun]).all()


def test_rows_that_leave_no_noise_to_find_say_so(rng, backend):
    X, y = rng.normal(size=(20, 2)), rng.normal(size=(20, 1))

    def network(*layers):
        return bp.Network(2, [*layers], dtype="float64", seed=0, backend=backend)

    one = network(bp.Dense(3, "tanh"), bp.Dense(1))
    for rows, weight, got in ((1, None, "1"), (20, np.full(20, 0.025), "0.5"), (20, np.full(20, 1e-300), "2e-299")):
        with pytest.raises(ValueError, match=f"X: needs more than one sample for method='bayesian'.*; got {got}$"):
            one.minimize(X[:rows], y[:rows], method="bayesian", sample_weight=weight)
    flat = network(bp.Dense(1, bias=False))
    assert flat.minimize(X[:1], y[:1], method="bayesian").reason == "gradient"  # a prior of all parameters
    exact = network(bp.Dense(1, weight_init=0.0)).minimize(X, np.zeros_like(y), method="bayesian")
    assert (exact.reason, exact.success, exact.nit) == ("no noise", False, 0)
    assert "alpha and beta mean nothing" in exact.message
    with pytest.warns(ConvergenceWarning, match="it ended by 'no noise'. More samples may help, or fewer units"):
        MLPRegressor(hidden_layer_sizes=(), solver="bayesian", max_iter=500).fit(X[:3], X[:3, 0] * 0)


def test_units_without_influence_are_no_obstacle(rng, backend):
    """All of them are dead: the noise is the spread of the targets, of which a bias takes one."""
    X, y = rng.normal(size=(30, 2)), rng.normal(size=(30, 1))
    layers = [bp.Dense(3, "relu", bias_init=-100.0), bp.Dense(1)]
    net = bp.Network(2, layers, dtype="float64", seed=0, backend=backend)
    result = net.minimize(X, y, method="bayesian")
    assert result.success
    assert result.beta**-0.5 == pytest.approx(y.std(ddof=1), rel=1e-4)
    assert 0 < result.alpha < np.inf


def test_numbers_that_underflow_raise_nothing(rng, backend):
    """The squares of such errors are 0."""
    X = rng.normal(size=(30, 2))
    net = bp.Network(2, [bp.Dense(1)], dtype="float64", seed=0, backend=backend)
    result = net.minimize(X, 1e-170 * rng.normal(size=30), method="bayesian", tolerance=0)
    assert np.isfinite([result.alpha, result.beta, result.gamma, result.fun]).all()
    assert np.abs(net.predict(X)).max() < 1e-100


@pytest.mark.parametrize(
    ("layer", "settings", "message"),
    [
        (bp.Dense(1), {"loss": "huber"}, "loss: needs 'squared_error' for method='bayesian', got 'huber'"),
        (bp.Dense(1, l2=0.1), {}, r"layers\[1\]: needs l2=0 for method='bayesian', which finds the penalty itself"),
        (bp.Dense(1, l2=0.1), {"penalty_per_row": True}, r"layers\[1\]: needs l2=0 .* got 0.1$"),
        (bp.Dense(2, "softmax"), {}, r"layers\[1\]: needs outputs with normal errors for method='bayesian'"),
        (bp.Dense(1, l1=0.1), {}, r"layers\[1\]: needs l1=0 for method='bayesian'"),
        (bp.Dense(1), {"sample_weight": np.zeros(30)}, "sample_weight: needs at least one weight > 0"),
        (bp.Dense(1500), {}, "layers: needs at most 5000 trainable parameters for method='bayesian'"),
    ],
)
def test_what_it_cannot_do(layer, settings, message, rng):
    net = bp.Network(2, [bp.Dense(3, "tanh"), layer], dtype="float64", seed=0)
    settings = {"loss": "squared_error", **settings}
    with pytest.raises(ValueError, match=message):
        net.minimize(rng.normal(size=(30, 2)), rng.normal(size=(30, layer.units)), method="bayesian", **settings)


def test_wrong_arguments_of_laplace(rng):
    X, y = rng.normal(size=(5, 2)), rng.normal(size=5)
    net = bp.mlp([2, 8, 1], hidden="tanh", dtype="float64", seed=0)
    for settings, message in (
        ({"alpha": 1.0}, "alpha, beta: need to come together, got 1.0 and None"),
        ({"alpha": 0.0, "beta": 1.0}, "alpha: needs a number > 0"),
        ({"alpha": 1.0, "beta": np.inf}, "beta: needs a"),
    ):
        with pytest.raises(ValueError, match=message):
            bp.Laplace(net, X, y, **settings)
    with pytest.raises(ValueError, match="network: needs outputs with normal errors"):
        bp.Laplace(bp.mlp([2, 3], output="softmax", seed=0), np.zeros((4, 2)), [0, 1, 2, 0])
    with pytest.raises(ValueError, match="y: needs more targets than they determine parameters"):
        bp.Laplace(net, X, net.predict(X))
    with pytest.raises(ValueError, match="network: needs 1 to 5000 trainable parameters, got 0"):
        bp.Laplace(bp.Network(2, [bp.Dense(1, trainable=False)]), X, y)
    with pytest.raises(ValueError, match="X: needs"):
        bp.Laplace(net, X, y, alpha=1.0, beta=1.0).predict([[1.0]])
    assert "log_evidence" in repr(bp.Laplace(net, X, y, alpha=1.0, beta=1.0))


def test_laplace_keeps_its_own_network(rng):
    """Training goes on, the posterior does not."""
    X, y = wave(rng, 40)
    net = bp.mlp([1, 4, 1], hidden="tanh", seed=0)
    posterior = bp.Laplace(net, X, y, alpha=1.0, beta=10.0)
    before = posterior.predict(X)
    net.fit(X, y, epochs=2)
    np.testing.assert_array_equal(posterior.predict(X), before)


# --- the estimator -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scaled", [False, True])
def test_the_estimator_says_how_sure_it_is(scaled, rng):
    X, y = wave(rng, 300)
    y = 50 * (y[:, 0] + 0.2 * rng.normal(size=300)) + 300 if scaled else y[:, 0] + 0.2 * rng.normal(size=300)
    model = MLPRegressor(
        hidden_layer_sizes=10, activation="tanh", solver="bayesian", scale_targets=scaled, random_state=0, max_iter=500
    ).fit(X, y)
    mean, std = model.predict(X[:9], return_std=True)
    assert mean.shape == std.shape == (9,)
    np.testing.assert_array_equal(mean, model.predict(X[:9]))
    assert std.mean() == pytest.approx(10 if scaled else 0.2, rel=0.15)
    unit = model.target_scale_[0] if scaled else 1
    inner = model.posterior_.predict(X[:9])[:, 0]
    np.testing.assert_allclose(mean, inner * unit + (model.target_mean_[0] if scaled else 0), rtol=1e-9)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model)).predict(X[:9], return_std=True)[1], std)
    assert clone(model).solver == "bayesian"


@pytest.mark.parametrize("y", [[2.0, 2.0, 2.0], [0.0, 0.0, 0.0]])
def test_samples_without_noise_are_fitted_too(y):
    model = MLPRegressor(hidden_layer_sizes=50, activation="tanh", solver="bayesian", random_state=0, max_iter=100)
    X = [[0.0, 0.3], [0.5, -1.0], [1.0, 0.2]]
    with pytest.warns(ConvergenceWarning, match="'no noise'. More samples may help"):
        model.fit(X, y)
    np.testing.assert_allclose(model.predict(X), y, atol=1e-3)


def test_where_rounding_decides_about_the_noise_there_is_no_posterior(monkeypatch):
    """Whether the matrix of such samples is positive definite is a matter of rounding, so this one says it is not."""

    def flat(*_, **__):
        raise FlatError("network: needs parameters about which the loss is curved")

    monkeypatch.setattr("backprop.sklearn.regressor.Laplace", flat)
    model = MLPRegressor(hidden_layer_sizes=3, activation="tanh", solver="bayesian", random_state=0, max_iter=100)
    X = [[0.0, 0.3], [0.5, -1.0], [1.0, 0.2]]
    with pytest.warns(ConvergenceWarning, match="'no noise'. More samples may help"):
        model.fit(X, [2.0, 2.0, 2.0])
    np.testing.assert_allclose(model.predict(X), 2, atol=1e-3)
    assert model.posterior_ is None
    with pytest.raises(ValueError, match="return_std: needs to be fitted to samples that leave some noise"):
        model.predict(X, return_std=True)


def test_what_the_estimator_refuses(rng):
    X, y = wave(rng, 30)
    y = y[:, 0]
    with pytest.raises(ValueError, match="return_std: needs to be fitted with solver='bayesian'"):
        MLPRegressor(hidden_layer_sizes=3, solver="lbfgs", max_iter=9999).fit(X, y).predict(X, return_std=True)
    with pytest.raises(ValueError, match="loss: needs 'squared_error' for solver='bayesian'"):
        MLPRegressor("huber", solver="bayesian").fit(X, y)
    with pytest.raises(ValueError, match="solver: needs one of"):
        MLPClassifier(solver="bayesian").fit(X, y > 0)
    assert not hasattr(MLPRegressor(solver="bayesian"), "partial_fit")


def test_laplace_needs_a_network():
    X, y = [[0.0], [1.0]], [0.0, 1.0]
    with pytest.raises(TypeError, match="network: needs a Network, got"):
        bp.Laplace(np.array(X), y, bp.mlp([1, 1]))
    with pytest.raises(TypeError, match=r"network: .*; a member of a fleet is one: fleet\[k\]"):
        bp.Laplace(bp.Fleet(1, [bp.Dense(1)], size=2), X, y)


@pytest.mark.parametrize(
    ("value", "message"), [(np.nan, "needs finite parameters"), (1e200, "needs parameters, outputs and errors whose")]
)
def test_laplace_needs_numbers_that_have_squares(value, message):
    net = bp.Network(1, [Dense(2, "tanh"), Dense(1)], dtype="float64", seed=0)
    net.parameters[0] = value
    with pytest.raises(ValueError, match=f"^network: {message}"):
        bp.Laplace(net, [[0.0], [1.0]], [0.0, 1.0], alpha=1.0, beta=1.0)


def test_the_effective_number_of_parameters_is_never_below_0():
    net = bp.Network(1, [Dense(3, "tanh"), Dense(1)], dtype="float64", seed=0)
    X = np.linspace(-1, 1, 9)[:, np.newaxis]
    assert all(bp.Laplace(net, X, X, alpha=10.0**k, beta=1.0).gamma >= 0 for k in range(0, 301, 20))


@pytest.mark.parametrize("seed", range(12))
def test_rounding_is_no_effective_number_of_parameters(seed, backend):
    """Two rows far away, which determine next to nothing: what rounding leaves of it would decide the penalty."""
    rng = np.random.default_rng(seed)
    X, y = rng.normal(size=(2, 2)), 100 * rng.normal(size=2)
    net = bp.Network(2, [Dense(7, "softsign"), Dense(1, "tanh"), Dense(1)], dtype="float64", seed=seed, backend=backend)
    found = net.minimize(X, y, method="bayesian", max_iter=8, tolerance=0)
    assert found.gamma == 0 or found.gamma > 1e-12
    assert np.isfinite([found.alpha, found.beta, found.loss]).all()


def test_precisions_beyond_all_measure_are_refused(rng):
    X, y = rng.normal(size=(20, 2)), rng.normal(size=20)
    net = bp.mlp([2, 4, 1], hidden="tanh", dtype="float64", seed=0)
    with np.errstate(all="raise"), pytest.raises(ValueError, match="is not positive definite"):
        bp.Laplace(net, X, y, alpha=1e-320, beta=1e-320)
    with np.errstate(all="raise"):
        posterior = bp.Laplace(net, X, y, alpha=1e-300, beta=1e300)
    assert np.isfinite(posterior.covariance).all()


def test_outputs_that_are_infinite_raise_no_warning(rng):
    X, y = rng.normal(size=(20, 2)), rng.normal(size=20)
    net = bp.Network(2, [bp.Dense(3, "exp"), bp.Dense(1)], dtype="float64", seed=0)
    posterior = bp.Laplace(net, X, y, alpha=1.0, beta=100.0)
    mean, std = posterior.predict(1e3 * X, return_std=True)
    np.testing.assert_array_equal(np.isfinite(mean), np.isfinite(net.predict(1e3 * X)))
    assert not np.isfinite(std[~np.isfinite(mean)]).any()
