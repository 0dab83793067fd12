"""Gradient descent on plain functions."""

import math

import numpy as np
import pytest
from backprop import SGD, Dense, Network, descend


def parabola(x):
    return (x - 3) ** 2 + 1


def rosenbrock(p):
    return (1 - p[0]) ** 2 + 100 * (p[1] - p[0] ** 2) ** 2


def test_each_step_is_the_rule():
    result = descend(parabola, 0.0, lambda x: 2 * (x - 3), learning_rate=0.1, steps=5)
    x, points = 0.0, [0.0]
    for _ in range(5):
        x -= 0.1 * (2 * (x - 3))
        points.append(x)
    np.testing.assert_array_equal(result.path, np.array(points)[:, None])
    np.testing.assert_array_equal(result.values, parabola(np.array(points)))
    np.testing.assert_array_equal(result.gradients, 2 * (np.array(points) - 3)[:, None])
    assert (result.method, result.reason, result.converged, result.diverged) == ("given", "steps", False, False)
    assert (result.x, result.value, result.steps) == (points[-1], parabola(points[-1]), 5)
    assert np.ndim(result.x) == 0


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_a_neuron_without_bias_goes_the_same_way(momentum):
    """The loss of one linear unit as a function of its weights: `Network.fit` and `descend` are the same descent."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(20, 3)), rng.normal(size=20)
    net = Network(3, [Dense(1, bias=False, weight_init=0.5)], dtype="float64")
    sgd = SGD(learning_rate=0.05, momentum=momentum)
    result = descend(
        lambda w: ((X @ w - y) ** 2).mean(), [0.5] * 3, learning_rate=0.05, momentum=momentum, steps=30, tolerance=0
    )
    history = net.fit(X, y, loss="squared_error", optimizer=sgd, epochs=30, batch_size=None)
    np.testing.assert_allclose(net.weights[0].ravel(), result.x, rtol=1e-13)
    np.testing.assert_allclose(history.loss, result.values[:-1], rtol=1e-13)


def test_converges_on_rosenbrock():
    result = descend(rosenbrock, [-1.2, 1.0], learning_rate=5e-4, momentum=0.98, steps=20_000, tolerance=1e-10)
    assert result.converged
    np.testing.assert_allclose(result.x, 1, atol=1e-9)
    assert result.path.shape == (result.steps + 1, 2)


@pytest.mark.parametrize(
    ("f", "method"),
    [
        (lambda x: np.exp(x) - x, "complex step"),
        (lambda x: x**4 / 4 + x, "complex step"),
        (lambda x: math.cosh(x), "central difference"),  # takes no complex numbers
        (lambda x: float(x) ** 2, "central difference"),  # loses the imaginary part
        (lambda x: abs(x) + x * x, "central difference"),  # takes them for points of the plane
        (lambda x: x * x if x < 2 else 4 * x - 4, "complex step"),
        (lambda x: np.real(x) ** 2, "central difference"),
        (lambda x: np.array([x * x]), "complex step"),
    ],
)
def test_where_the_gradient_is_from(f, method):
    result = descend(f, 1.3, learning_rate=0.01, steps=1)
    h = 1e-6
    expected = (float(np.squeeze(f(1.3 + h))) - float(np.squeeze(f(1.3 - h)))) / (2 * h)
    assert result.method == method
    np.testing.assert_allclose(result.gradients[0], expected, rtol=1e-8)


@pytest.mark.parametrize("unit", [1e-60, 1e-8, 1e-3, 1e6])
@pytest.mark.parametrize("solver", ["gradient descent", "lbfgs", "lm"])
def test_complex_numbers_as_points_of_the_plane_are_noticed_in_any_unit(unit, solver):
    def distance(x):
        return unit * abs(x - 3) ** 2

    f = (lambda x: [distance(x)]) if solver == "lm" else distance
    result = descend(f, 0.0, solver=solver, learning_rate=0.1 / unit, tolerance=0, steps=100)
    assert result.method == "central difference"
    assert result.x == pytest.approx(3, abs=1e-3)
    exact = descend(lambda x: f(x) if solver == "lm" else unit * (x - 3) ** 2, 0.0, steps=1, solver=solver)
    assert exact.method == ("central difference" if solver == "lm" else "complex step")


@pytest.mark.parametrize(
    ("f", "x0"), [(rosenbrock, [1.0, 1.0]), (lambda x: x**3, 0.0), (lambda x: 1e6 * (np.cosh(x) - 1), 0.0)]
)
def test_a_complex_step_is_taken_where_the_gradient_is_0(f, x0):
    """There differences have nothing but errors."""
    assert descend(f, x0, steps=1).method == "complex step"


def test_a_complex_step_is_exact():
    result = descend(lambda p: np.exp(p[0]) * np.sin(p[1]), [1.0, 2.0], learning_rate=0.01, steps=1)
    expected = [np.exp(1) * np.sin(2), np.exp(1) * np.cos(2)]
    np.testing.assert_allclose(result.gradients[0], expected, rtol=4e-16)


def test_a_branch_that_takes_no_complex_numbers_is_met_on_the_way():
    def f(x):
        return math.cosh(x) if x.real < 1 else np.cosh(x)

    result = descend(f, 1.5, learning_rate=0.2, steps=200, tolerance=1e-6)
    assert result.converged
    assert abs(result.x) < 1e-6


@pytest.mark.parametrize("f", [lambda x: x * x, lambda x: abs(x) ** 1.5, lambda x: float(x) ** 4])
def test_divergence_is_reported(f):
    result = descend(f, 1.0, learning_rate=10.0, steps=3000)
    assert result.diverged
    assert not result.converged
    assert "diverged" in repr(result)


def test_a_walk_that_leads_up_is_divergence_too():
    result = descend(lambda x: x * x, 1.0, learning_rate=1.01, steps=20)
    assert (result.reason, result.diverged) == ("rising", True)
    result = descend(lambda x: x * x, 1.0, learning_rate=1.0, steps=20)  # to and fro between 1 and -1
    assert (result.reason, result.diverged, result.converged) == ("steps", False, False)


def test_pythons_overflow_is_divergence():
    result = descend(lambda x: math.exp(float(x) ** 2), 1.0, learning_rate=10.0)
    assert (result.reason, result.value) == ("not finite", math.inf)
    result = descend(lambda x: 0.25 * x**4, 1.0, lambda x: float(x) ** 3, learning_rate=1e60, steps=10)
    assert (result.reason, result.diverged) == ("not finite", True)
    assert np.isfinite(result.path[:-1]).all()


def test_a_minimum_to_start_with():
    result = descend(lambda x: x * x, 0.0)
    assert (result.steps, result.converged, result.x) == (0, True, 0.0)


def test_the_function_cannot_change_the_path():
    def f(p):
        value = (p**2).sum()
        p[...] = 7
        return value

    result = descend(f, [1.0, 2.0], lambda p: 2 * p, steps=3)
    np.testing.assert_allclose(result.path, 0.8 ** np.arange(4)[:, None] * [1.0, 2.0])


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"f": 3}, TypeError, "f: needs a function"),
        ({"f": lambda x: "a"}, TypeError, "f: needs to return one real number"),
        ({"f": lambda x: [x, x]}, TypeError, "f: needs to return one real number"),
        ({"f": lambda x: math.nan}, ValueError, "x0: needs a point at which f is finite"),
        ({"x0": [[1.0]]}, ValueError, r"x0: .*shape \(1, 1\)"),
        ({"x0": []}, ValueError, "x0: "),
        ({"x0": math.nan}, ValueError, "x0: needs finite numbers"),
        ({"gradient": 2}, TypeError, "gradient: needs a function or None"),
        ({"gradient": lambda x: [1.0, 2.0]}, ValueError, "gradient: needs to return real numbers of shape"),
        ({"gradient": lambda x: math.nan}, ValueError, "x0: needs a point at which the gradient of f is finite"),
        ({"learning_rate": 0}, ValueError, "learning_rate: needs a number > 0"),
        ({"steps": 0}, ValueError, "steps: needs an integer >= 1"),
        ({"tolerance": -1}, ValueError, "tolerance: "),
        ({"momentum": 1}, ValueError, "momentum: "),
    ],
)
def test_errors(settings, error, message):
    arguments = {"f": lambda x: x * x, "x0": 1.0, **settings}
    with pytest.raises(error, match=message):
        descend(arguments.pop("f"), arguments.pop("x0"), **arguments)


# --- L-BFGS and Levenberg-Marquardt --------------------------------------------------------------------------------


def residuals(p):
    return np.array([1 - p[0], 10 * (p[1] - p[0] ** 2)])


def jacobian(p):
    return np.array([[-1.0, 0.0], [-20 * p[0], 10.0]])


@pytest.mark.parametrize(
    ("f", "gradient", "solver", "method"),
    [
        (rosenbrock, None, "lbfgs", "complex step"),
        (rosenbrock, lambda p: 2 * jacobian(p).T @ residuals(p), "lbfgs", "given"),
        (lambda p: float(rosenbrock(p)), None, "lbfgs", "central difference"),
        (residuals, None, "lm", "complex step"),
        (residuals, jacobian, "lm", "given"),
        (lambda p: [float(each) for each in residuals(p)], None, "lm", "central difference"),
    ],
)
def test_minimizers_walk_down_any_function(f, gradient, solver, method):
    result = descend(f, [-1.2, 1.0], gradient, solver=solver, tolerance=1e-6)
    assert result.converged
    assert (result.reason, result.method) == ("tolerance", method)
    np.testing.assert_allclose(result.x, 1, atol=1e-6)
    assert result.path.shape == result.gradients.shape == (result.steps + 1, 2)
    np.testing.assert_allclose(result.values, [rosenbrock(p) for p in result.path], rtol=1e-12, atol=1e-15)
    assert (np.diff(result.values) < 0).all()
    assert result.function(np.array([0.0, 2.0])) == pytest.approx(401.0)


@pytest.mark.parametrize("unit", [1e-200, 1e-160, 1e-50, 1e160, 1e200, 1e300])
def test_lbfgs_knows_no_unit_of_the_function(unit):
    def gradient(p):
        return unit * (2 * jacobian(p).T @ residuals(p))

    result = descend(lambda p: unit * rosenbrock(p), [-1.2, 1.0], gradient, solver="lbfgs", tolerance=1e-10 * unit)
    assert result.converged
    np.testing.assert_allclose(result.x, 1, rtol=1e-9)


def test_the_path_of_lbfgs_is_that_of_scipy():
    minimize = pytest.importorskip("scipy.optimize").minimize
    ours = descend(rosenbrock, [-1.2, 1.0], lambda p: 2 * jacobian(p).T @ residuals(p), solver="lbfgs", steps=8)
    theirs = minimize(
        lambda p: (rosenbrock(p), 2 * jacobian(p).T @ residuals(p)), [-1.2, 1.0], jac=True, method="L-BFGS-B",
        options={"maxiter": 8},
    )  # fmt: skip
    # the two add up in different orders, and quasi-Newton steps multiply what they start with
    np.testing.assert_allclose(ours.x, theirs.x, rtol=1e-8)


def test_one_variable_and_a_wall():
    assert descend(lambda x: (x - 3) ** 2, 0.0, solver="lbfgs").x == pytest.approx(3)
    assert descend(lambda x: [x - 3, 0.1 * x], 0.0, solver="lm").x == pytest.approx(3 / 1.01)
    walled = descend(lambda p: -p[0] if p[0] < 2 else np.inf, [0.0], lambda p: [-1.0], solver="lbfgs", steps=50)
    assert walled.x[0] < 2
    assert not walled.converged
    assert walled.reason in ("stuck", "steps")
    assert walled.explanation


@pytest.mark.parametrize(
    ("arguments", "settings", "error", "message"),
    [
        (
            (rosenbrock, [1.0, 1.0]),
            {"solver": "newton"},
            ValueError,
            "solver: needs one of 'gradient descent', 'lbfgs'",
        ),
        ((residuals, [1.0, 2.0]), {"solver": "lbfgs"}, TypeError, "f: needs to return one real number"),
        ((lambda p: "no", [1.0]), {"solver": "lm"}, TypeError, "f: needs to return real numbers"),
        ((residuals, [1.0, 2.0], 3), {"solver": "lm"}, TypeError, "gradient: needs a function or None"),
        (
            (residuals, [1.0, 2.0], lambda p: [1.0] * 3),
            {"solver": "lm"},
            ValueError,
            "gradient: needs to return the Jac",
        ),
        ((lambda p: p / 0.0, [0.0]), {"solver": "lm"}, ValueError, "x0: needs a point at which f is finite"),
    ],
)
def test_wrong_arguments_of_minimizers(arguments, settings, error, message):
    with np.errstate(all="ignore"), pytest.raises(error, match=message):
        descend(*arguments, **settings)


@pytest.mark.parametrize(
    ("f", "gradient", "message"),
    [
        (
            lambda p: p,
            lambda p: np.ones((3, 2)),
            "gradient: needs a row of the Jacobian for each of the 2 residuals, got 3",
        ),
        (
            lambda p: np.ones(int(10 * abs(p[0])) + 1) * abs(p[1]),
            None,
            "f: needs to return as many residuals everywhere",
        ),
    ],
    ids=["jacobian", "residuals"],
)
def test_residuals_and_their_jacobian_belong_together(f, gradient, message):
    with pytest.raises(ValueError, match=message):
        descend(f, [1.0, 2.0], gradient, solver="lm")


def test_residuals_may_overflow_in_python_s_own_numbers():
    walk = descend(lambda x: [math.exp(x) - 5, 1e-3 * x], -20.0, solver="lm")
    assert abs(walk.x - math.log(5)) < 1e-6


def test_minimizers_are_not_told_of_a_learning_rate():
    result = descend(lambda x: x, 3.0, lambda x: 1.0 if x > 2.9 else np.nan, solver="lm")
    assert result.reason == "not finite"
    assert result.explanation == "a value or a gradient is not finite"
    assert "learning_rate" in descend(lambda x: x**2, 1.0, learning_rate=1e200).explanation


def test_a_number_that_is_not_finite_has_no_index():
    with pytest.raises(ValueError, match=r"x0: needs finite numbers, got nan$"):
        descend(lambda x: x**2, np.nan)
