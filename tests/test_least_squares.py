"""Levenberg-Marquardt beside SciPy's: the same minimum in as many iterations, for rows and networks of every kind."""

import pickle

import backprop as bp
import numpy as np
import pytest
from backends import each_backend, each_dtype
from scipy.optimize import least_squares

BOTH = ("identity", "marquardt")
# each with a seed of which both methods come to one minimum, and not only near one
KINDS = {
    "noise": 40, "scaled": 41, "redundant": 42, "constant": 43, "few rows": 44, "weights": 45, "l2": 46, "frozen": 47,
    "outputs": 48, "softplus": 29,
}  # fmt: skip


def problem(kind, backend):
    """Rows of a network with other parameters, and noise; a network to fit them, not far from these."""
    rng = np.random.default_rng(KINDS[kind])
    X, weight, l2 = rng.normal(size=(8 if kind == "few rows" else 120, 3)), None, 1e-3 if kind == "l2" else 0
    hidden = "gelu" if kind == "outputs" else "tanh"
    if kind == "redundant":
        X = np.column_stack([X, X[:, 0], np.zeros(len(X))])
    layers = [
        bp.Dense(4, hidden, l2=l2, trainable=kind != "frozen"),
        bp.Dense(2 if kind == "outputs" else 1, "softplus" if kind == "softplus" else "identity", l2=l2),
    ]
    net = bp.Network(X.shape[1], layers, dtype="float64", seed=1, backend=backend)
    net.weights[0][...] *= 2
    y = net.predict(X) + 0.1 * rng.normal(size=(len(X), net.n_outputs))
    if kind == "constant":
        y[...] = 0.7
    if kind == "weights":
        weight = rng.exponential(size=len(X)) * (rng.random(len(X)) < 0.9)
    if kind == "scaled":
        X, net.weights[0][...] = X * [1e-4, 1, 300], net.weights[0] / np.array([[1e-4], [1], [300]])
    first = 1 if kind == "frozen" else 0
    for array in [*net.weights[first:], *net.biases[first:]]:
        array *= 1 + 0.2 * rng.normal(size=array.shape)
    return net, X, y, weight, l2


def by_scipy(net, X, y, weight, l2, iterations):
    """The lowest of the losses at which SciPy computes a Jacobian, so many of them after the first."""
    net, weight, losses = net.copy(), np.ones(len(X)) if weight is None else weight, []
    free = np.abs(net.parameter_jacobian(X)).max(axis=(0, 1)) > 0
    roots = np.sqrt(2 * weight / (weight.sum() * net.n_outputs))[:, np.newaxis]
    arrays = zip(net.weights, net.biases, strict=True)
    penalised = np.concatenate([np.append(np.full(W.size, l2), np.zeros(b.size)) for W, b in arrays])
    start = net.parameters.copy()

    def residuals(p):
        start[free] = p
        net.parameters = start
        return np.concatenate([(roots * (net.predict(X) - y)).ravel(), np.sqrt(penalised[free]) * p])

    def jacobian(p):
        losses.append(0.5 * (residuals(p) ** 2).sum())
        J = roots[:, :, np.newaxis] * net.parameter_jacobian(X)
        return np.concatenate([J.reshape(-1, len(start))[:, free], np.diag(np.sqrt(penalised[free]))])

    found = least_squares(residuals, start[free], jacobian, method="lm", xtol=1e-15, ftol=1e-15, gtol=1e-15)
    return min([*losses, found.cost][: iterations + 1])


@each_backend
@pytest.mark.parametrize("scaling", BOTH)
@pytest.mark.parametrize("kind", KINDS)
def test_the_minimum_is_that_of_minpack(kind, scaling, backend):
    net, X, y, weight, l2 = problem(kind, backend)
    theirs = by_scipy(net, X, y, weight, l2, 100)
    net.minimize(X, y, method="lm", sample_weight=weight, tolerance=0, max_iter=100, options={"scaling": scaling})
    assert net.history.loss[-1] <= theirs * (1 + 1e-6) + 1e-20


@each_backend
@pytest.mark.parametrize("loss", [bp.losses.Huber(delta=0.1), bp.losses.LogCosh()], ids=lambda loss: loss.name)
def test_robust_losses_come_to_the_minimum_of_l_bfgs_b(loss, backend):
    net, X, y, _, _ = problem("noise", backend)
    theirs = net.copy().minimize(X, y, loss=loss, method="L-BFGS-B", tolerance=1e-9, max_iter=5000, options={"ftol": 0})
    assert net.minimize(X, y, loss=loss, method="lm", tolerance=0, max_iter=100).loss <= theirs.fun * (1 + 1e-6)


@each_backend
@pytest.mark.parametrize("seed", [75, 90, 92, 120, 132])
def test_saturated_units_are_not_thrown_far_away(seed, backend):
    """The diagonal of a unit that becomes saturated vanishes; what scales its damping does not."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(40, 3))
    y = np.sin(X @ [1, 2, -1.0])[:, np.newaxis] + 0.1 * rng.normal(size=(40, 1))
    net = bp.mlp([3, 5, 1], hidden="tanh", dtype="float64", seed=seed, backend=backend)
    net.minimize(X, y, method="lm", tolerance=0, max_iter=20, options={"scaling": "marquardt"})
    assert np.abs(net.parameters).max() < 1e4


@each_backend
@each_dtype
@pytest.mark.parametrize("powers", [(3, 3), (-3, 0), (5, -4)])
def test_the_steps_do_not_depend_on_the_unit_of_an_input(powers, dtype, backend, rng):
    """Inputs times 4**k, weights divided by it, damping times 16**k: every number is the same times a power of two."""
    X, unit = rng.normal(size=(30, 2)), 4.0 ** np.array(powers)
    y = np.sin(X[:, :1]) + X[:, 1:] ** 2
    plain = bp.mlp([2, 4, 1], hidden="tanh", dtype=dtype, seed=0, backend=backend)
    other = plain.copy()
    other.weights[0][...] = plain.weights[0] / unit[:, np.newaxis]
    plain.minimize(X, y, method="lm", max_iter=12, tolerance=0)
    other.minimize(X * unit, y, method="lm", max_iter=12, tolerance=0)
    np.testing.assert_array_equal(plain.history.loss, other.history.loss)
    np.testing.assert_array_equal(plain.weights[0], other.weights[0] * unit[:, np.newaxis])


@each_backend
@pytest.mark.parametrize("method", ["lm", "bayesian"])
@pytest.mark.parametrize("scaling", BOTH)
def test_a_run_goes_on_with_its_scale(scaling, method, backend, rng, tmp_path):
    X = rng.normal(size=(2, 40, 3)) * [1, 100, 1e-3]
    y = np.sin(X[:, :, :1]) + 0.1 * rng.normal(size=(2, 40, 1))
    settings = {"method": method, "tolerance": 0, "options": {"scaling": scaling}}
    layers = [bp.Dense(5, "tanh"), bp.Dense(1)]
    whole, fleet = (bp.Fleet(3, layers, size=2, dtype="float64", seed=0, backend=backend) for _ in range(2))
    whole.minimize(X, y, max_iter=12, **settings)
    alone = fleet[1].copy()
    for net, rows in ((fleet, (X, y)), (alone, (X[1], y[1]))):
        net.minimize(*rows, max_iter=5, **settings)
        net.save_checkpoint(tmp_path / "run")
        for again in (bp.resume(tmp_path / "run", backend=backend), pickle.loads(pickle.dumps(net))):
            again.minimize(*rows, max_iter=12, resume=True, **settings)
            np.testing.assert_array_equal(again.parameters, whole.parameters if net is fleet else whole[1].parameters)


@pytest.mark.parametrize("value", [-1.0, np.nan, np.inf])
@pytest.mark.parametrize("size", [0, 2])
def test_a_scale_that_cannot_be_is_seen(size, value, rng, tmp_path):
    layers, settings = [bp.Dense(3, "tanh"), bp.Dense(1)], {"method": "lm", "options": {"scaling": "marquardt"}}
    net = bp.Fleet(2, layers, size=size, seed=0) if size else bp.Network(2, layers, seed=0)
    net.minimize(rng.normal(size=(9, 2)), rng.normal(size=9), max_iter=2, **settings)
    state = net._solved[1].state if size else net._solved.state
    state.scale[3] = value
    net.save_checkpoint(tmp_path / "run")
    with pytest.raises(ValueError, match=r"needs? finite numbers, (the last|and a scale) >= 0"):
        bp.resume(tmp_path / "run")


@pytest.mark.parametrize(
    ("scale", "expected"), [(0.6, None), (1.9, None), (0.4, [1 / 16, 1]), (2.1, [16, 1]), (1e200, [16.0**60, 16.0**50])]
)
def test_inputs_of_a_scale_of_about_one_are_damped_as_all_else(scale, expected, rng):
    """The second one is a column of zeros."""
    net = bp.mlp([2, 3, 1], hidden="tanh", output="tanh", dtype="float64", seed=0)
    net.minimize(rng.choice([-scale, scale], (9, 2)) * [1, 0], rng.normal(size=9), method="lm", max_iter=1)
    known = [] if expected is None else [*np.repeat(expected, 3), *np.ones(7)]
    assert net._solved.state.scale.tolist() == known


@pytest.mark.parametrize("zeros", [0, 1])
@pytest.mark.parametrize("scale", [1e-6, 1e-20])
def test_a_column_of_zeros_changes_no_other(scale, zeros, rng):
    net = bp.mlp([1 + zeros, 3, 1], hidden="tanh", dtype="float64", seed=0)
    X = np.column_stack([rng.choice([-scale, scale], 9), *np.zeros((zeros, 9))])
    net.minimize(X, rng.normal(size=9), method="lm", max_iter=1)
    known = 16.0 ** np.rint(np.log2(scale**2) / 4)
    assert net._solved.state.scale.tolist() == [known] * 3 + [1.0] * (3 * zeros + 7)


@each_backend
@pytest.mark.parametrize("scale", [1e-4, 1e-8])
def test_the_penalty_of_a_small_input_does_not_damp_all_others(scale, backend, rng):
    """In the unit of that input it is large: the first steps would be too short to tell from the end."""
    X = rng.normal(size=(60, 2))
    y = np.sin(X[:, :1])
    net = bp.Network(2, [bp.Dense(4, "tanh", l2=1.0), bp.Dense(1)], dtype="float64", seed=0, backend=backend)
    other = net.copy()
    other.minimize(X * [1, 0], y, method="lm", options={"loss_tolerance": 1e-9})
    net.minimize(X * [1, scale], y, method="lm", options={"loss_tolerance": 1e-9})
    assert net.history.loss[3] < 1.01 * other.history.loss[3]
