"""Activations against mpmath: the reference's functions, and every backend through one-layer networks."""

from __future__ import annotations

from functools import cache

import mpmath as mp
import numpy as np
import pytest
from backends import distance, each_backend, each_dtype, module
from backprop import reference
from backprop.base.types import Data
from backprop.layers import Dense
from backprop.losses import AbsoluteError, SquaredError
from backprop.reference.activations import ACTIVATIONS


@pytest.fixture(autouse=True)
def digits():
    """Differences with steps of 1e-20 |z| leave 50 of them and more."""
    with mp.workdps(100):
        yield


# Independent definitions, in forms without cancellation.
ORACLE = {
    "identity": lambda z, alpha: z,
    "sigmoid": lambda z, alpha: 1 / (1 + mp.exp(-z)),
    "tanh": lambda z, alpha: mp.sinh(z) / mp.cosh(z),
    "relu": lambda z, alpha: max(z, mp.mpf(0)),
    "leaky_relu": lambda z, alpha: z if z > 0 else alpha * z,
    "prelu": lambda z, alpha: z if z > 0 else alpha * z,
    "elu": lambda z, alpha: z if z > 0 else alpha * mp.expm1(z),
    "gelu": lambda z, alpha: z / 2 * mp.erfc(-z / mp.sqrt(2)) if abs(z) < 1e30 else max(z, mp.mpf(0)),
    # (1 + tanh(u)) / 2 = exp(u) / (exp(u) + exp(-u))
    "gelu_tanh": lambda z, alpha: z / (1 + mp.exp(-2 * mp.sqrt(2 / mp.pi) * (z + mp.mpf("0.044715") * z**3))),
    "silu": lambda z, alpha: z / (1 + mp.exp(-z)),
    "softplus": lambda z, alpha: mp.log1p(mp.exp(z)),
    "exp": lambda z, alpha: mp.exp(z),
}
ELEMENTWISE = [name for name, activation in ACTIVATIONS.items() if activation.elementwise]
# Slopes for negative z: the default, and another one. 0.25 is exact in both dtypes.
CASES = [(name, alpha) for name in ELEMENTWISE for alpha in ([None, 0.25] if ACTIVATIONS[name].alpha else [None])]
each_case = pytest.mark.parametrize(("name", "alpha"), CASES)

_MAGNITUDES = [1e-30, 1e-8, 1e-3, 0.1, 0.5, 1, 1.7, 3, 5.5, 8, 12, 18, 20, 25, 36, 40, 60, 87, 100, 700, 1e4, 1e15]


def points(dtype, *more):
    """Scores from far below to far above 0, without 0 itself."""
    sides = np.array([*(-m for m in reversed(_MAGNITUDES)), *_MAGNITUDES, *more, *(-m for m in more)])
    between = np.random.default_rng(0).normal(scale=3, size=100)
    return np.concatenate([sides, between]).astype(dtype)


def the_alpha(name, alpha, dtype):
    """The parameter as the code has it: Python's float, rounded to the dtype of the scores."""
    alpha = ACTIVATIONS[name].alpha if alpha is None else alpha
    return 0.0 if alpha is None else float(dtype(alpha))


@cache
def value_and_slope(name, z, alpha):
    """The true value and derivative at z, by a central difference whose error is far below a double's."""
    z, alpha = mp.mpf(z), mp.mpf(alpha)
    h = abs(z) * mp.mpf("1e-20")
    f = ORACLE[name]
    return f(z, alpha), (f(z + h, alpha) - f(z - h, alpha)) / (2 * h)


def test_every_activation_has_an_oracle():
    assert set(ORACLE) == set(ELEMENTWISE)


@each_backend
@each_dtype
def test_backends_know_the_same_names_in_the_same_order(backend, dtype):
    assert tuple(ACTIVATIONS) == module(backend, dtype).ACTIVATIONS


def oracle(name, alpha, z):
    """Values and derivatives at all z, as mpmath's numbers."""
    alpha = the_alpha(name, alpha, z.dtype.type)
    pairs = [value_and_slope(name, float(x), alpha) for x in z]
    return [value for value, _ in pairs], [slope for _, slope in pairs]


def assert_close(actual, expected, tolerances, z):
    """Each |actual - expected| <= its tolerance; beyond the largest number of the dtype only infinity will do."""
    largest, smallest = np.finfo(z.dtype).max, np.finfo(z.dtype).tiny
    for x, a, e, tolerance in zip(z, actual, expected, tolerances, strict=True):
        if abs(e) > largest:
            assert np.isinf(a), f"at {x!r}: {a!r} instead of infinity"
        else:
            # what is below the smallest normal number may be flushed to 0
            error = abs(mp.mpf(float(a)) - e)
            assert error <= tolerance + smallest, f"at {x!r}: {a!r} instead of {float(e)!r}, {float(error / tolerance)}"


@each_dtype
@each_case
def test_reference_value(name, alpha, dtype):
    z = points(dtype)
    with np.errstate(all="ignore"):
        actual = ACTIVATIONS[name].value(z, the_alpha(name, alpha, dtype))
    expected, slopes = oracle(name, alpha, z)
    assert actual.dtype == dtype
    # About 8 roundings on the way, each of which the function amplifies by at most its condition number |z f' / f|.
    eps = float(np.finfo(dtype).eps)
    tolerances = [8 * eps * (abs(f) + abs(mp.mpf(float(x)) * s)) for x, f, s in zip(z, expected, slopes, strict=True)]
    assert_close(actual, expected, tolerances, z)


@each_dtype
@each_case
def test_reference_derivative(name, alpha, dtype):
    z = points(dtype, float(np.finfo(dtype).max) ** 0.7)  # z**2 overflows there
    alpha_value = the_alpha(name, alpha, dtype)
    with np.errstate(all="ignore"):
        actual = ACTIVATIONS[name].derivative(z, ACTIVATIONS[name].value(z, alpha_value), alpha_value)
    _, expected = oracle(name, alpha, z)
    assert actual.dtype == dtype
    # Formulas like a (1 - a) cancel: the error is small beside 1, not beside a derivative that goes to 0.
    eps = float(np.finfo(dtype).eps)
    assert_close(actual, expected, [8 * eps * max(1, abs(s)) for s in expected], z)


@each_case
def test_reference_complex_step(name, alpha):
    """The gradient tests differentiate whole networks this way, so each value must take it."""
    z = points(np.float64)
    alpha_value = the_alpha(name, alpha, np.float64)
    with np.errstate(all="ignore"):
        actual = ACTIVATIONS[name].value(z + 1e-100j, alpha_value).imag / 1e-100
    _, expected = oracle(name, alpha, z)
    keep = np.abs(z) <= 700  # products of infinity and 0 beyond
    eps = float(np.finfo(float).eps)
    assert_close(
        actual[keep], np.array(expected)[keep], [8 * eps * max(1, abs(s)) for s in np.array(expected)[keep]], z[keep]
    )


def one_layer(core, name, alpha, z):
    """A layer whose units have just these scores when the input is 1: its plan and parameters."""
    layer = Dense(z.size, name, alpha=alpha)
    slopes = [np.full_like(z, layer.alpha)] if layer.function.slopes else []
    return core.Plan(1, [layer]), np.concatenate([z, np.zeros_like(z), *slopes])


@each_backend
@each_dtype
@each_case
def test_value_in_every_backend(backend, name, alpha, dtype):
    core = module(backend, dtype)
    z = points(dtype)
    plan, parameters = one_layer(core, name, alpha, z)
    out = np.empty((1, z.size), dtype)
    assert core.forward(plan, parameters, np.ones((1, 1), dtype), out)
    expected, _ = oracle(name, alpha, z)
    # 8 roundings beside the larger of |z| and |f|: where f goes to 0, as gelu does, a core may let digits cancel.
    eps = float(np.finfo(dtype).eps)
    assert_close(out[0], expected, [8 * eps * max(abs(float(x)), abs(f)) for x, f in zip(z, expected, strict=True)], z)


@each_backend
@each_dtype
@each_case
def test_derivative_in_every_backend(backend, name, alpha, dtype):
    """All outputs are far above their targets, so that the absolute error's gradient for a bias is the derivative."""
    core = module(backend, dtype)
    z = points(dtype)
    plan, parameters = one_layer(core, name, alpha, z)
    data = Data(np.ones((1, 1), dtype), np.full((1, z.size), -1e30, dtype))
    gradient = np.empty_like(parameters)
    core.loss_and_gradient(plan, AbsoluteError(reduction="sum"), parameters, data, gradient)
    _, expected = oracle(name, alpha, z)
    # As in test_reference_derivative. But gelu_tanh may be computed as (1 + t + z u' (1 - t**2)) / 2 with t = tanh(u):
    # there an error of eps in t comes out up to 30 times as large, for that is what z u' is where t becomes 1.
    eps = (40 if name == "gelu_tanh" else 8) * float(np.finfo(dtype).eps)
    assert_close(gradient[z.size : 2 * z.size], expected, [eps * max(1, abs(s)) for s in expected], z)


@each_backend
@each_dtype
@pytest.mark.parametrize("zero", [0.0, -0.0])
@pytest.mark.parametrize(
    ("name", "alpha", "slope"),
    # at a kink the derivative is the one from the left, as in PyTorch
    [("relu", None, 0.0), ("leaky_relu", 0.25, 0.25), ("elu", 0.25, 0.25), ("elu", None, 1.0), ("prelu", None, 0.25)],
)
def test_kinks(backend, name, alpha, slope, zero, dtype):
    core = module(backend, dtype)
    z = np.array([zero], dtype)
    plan, parameters = one_layer(core, name, alpha, z)
    gradient = np.empty_like(parameters)
    data = Data(np.ones((1, 1), dtype), np.array([[-1]], dtype))
    assert core.loss_and_gradient(plan, AbsoluteError(), parameters, data, gradient) == 1
    assert gradient[1] == slope


def test_what_is_not_smooth_is_marked():
    """Smooth means: value and derivative are the same from both sides of 0, and so is the second derivative."""
    h = 1e-6
    for name in ELEMENTWISE:
        activation = ACTIVATIONS[name]
        z = np.array([-h, h])
        slopes = activation.derivative(z, activation.value(z, 0.5), 0.5)
        # a smooth function's derivative changes by 2 h f'' over the distance, a kink's by a finite amount
        assert (abs(slopes[1] - slopes[0]) < 10 * h) == activation.smooth, name


@each_backend
@each_dtype
@pytest.mark.parametrize("name", list(ACTIVATIONS))
def test_nan_stays_nan(backend, name, dtype):
    """A network that has diverged must not look healthy."""
    core = module(backend, dtype)
    plan = core.Plan(2, [Dense(2, name)])
    parameters = np.array([1, 1, 1, 1, np.nan, np.nan, 0.25, 0.25], dtype)[: plan.n_parameters]
    out = np.zeros((3, 2), dtype)
    assert core.forward(plan, parameters, np.ones((3, 2), dtype), out)
    assert np.isnan(out).all()


# ---- prelu ----


@each_backend
@each_dtype
@pytest.mark.parametrize("n_rows", [1, 2, 7, 33, 300])
def test_gradient_of_the_slopes(backend, n_rows, dtype, rng):
    """With respect to a slope it is the sum over rows of min(z, 0) times that with respect to the output."""
    core = module(backend, dtype)
    plan = core.Plan(3, [Dense(9, "prelu"), Dense(2, "prelu")])
    parameters = rng.normal(size=plan.n_parameters).astype(dtype)
    X, y = rng.normal(size=(n_rows, 3)).astype(dtype), rng.normal(size=(n_rows, 2)).astype(dtype)
    gradient = np.empty_like(parameters)
    core.loss_and_gradient(plan, SquaredError(reduction="sum"), parameters, Data(X, y), gradient)

    W, b, slopes, V, c, last = (part.astype(float) for part in np.split(parameters, [27, 36, 45, 63, 65]))
    Z = X @ W.reshape(3, 9) + b
    A = np.where(Z > 0, Z, slopes * Z)
    Z_out = A @ V.reshape(9, 2) + c
    G_out = 2 * (np.where(Z_out > 0, Z_out, last * Z_out) - y)
    G = (G_out * np.where(Z_out > 0, 1, last)) @ V.reshape(9, 2).T
    bound = 1e-13 if dtype is np.float64 else 3e-5  # some hundred roundings in a row
    assert distance(gradient[36:45], (G * np.minimum(Z, 0)).sum(axis=0)) < bound
    assert distance(gradient[65:], (G_out * np.minimum(Z_out, 0)).sum(axis=0)) < bound


# ---- softmax ----


def softmax_rows(dtype):
    rng = np.random.default_rng(1)
    rows = rng.normal(scale=3, size=(20, 4))
    edges = [[0, 0, 0, 0], [1e4, 0, -1e4, 3], [-1e4, -1e4, -1e4, -1e4 - 1], [80, -80, 79, 0], [1e-30, 0, 0, 1e-30]]
    return np.vstack([rows, edges]).astype(dtype)


def true_softmax(row):
    e = [mp.exp(mp.mpf(float(z))) for z in row]
    return [x / sum(e) for x in e]


@each_backend
@each_dtype
def test_softmax(backend, dtype):
    core = module(backend, dtype)
    z = softmax_rows(dtype)
    out = np.empty_like(z)
    parameters = np.concatenate([np.eye(4, dtype=dtype).ravel(), np.zeros(4, dtype)])
    assert core.forward(core.Plan(4, [Dense(4, "softmax")]), parameters, z, out)
    expected = np.array([[float(a) for a in true_softmax(row)] for row in z])
    # z - max(z) is rounded, and exp makes that a relative error of |z - max| eps / 2 in a number <= exp(-|z - max|): at
    # most eps / 5 of absolute error; a few more from the sum and the quotient.
    assert np.abs(out - expected).max() <= 4 * np.finfo(dtype).eps
    assert np.abs(out.sum(axis=1, dtype=float) - 1).max() <= 4 * np.finfo(dtype).eps


def test_softmax_jacobian_by_complex_step():
    z = softmax_rows(np.float64)
    softmax = ACTIVATIONS["softmax"]
    a = softmax.value(z, 0.0)
    jacobian = softmax.derivative(z, a, 0.0)
    for j in range(z.shape[1]):
        step = np.zeros(z.shape, complex)
        step[:, j] = 1e-100j
        column = softmax.value(z + step, 0.0).imag / 1e-100
        # entries are at most 1/4 and take about 4 roundings
        np.testing.assert_allclose(jacobian[:, :, j], column, rtol=0, atol=1e-15)


def test_softmax_backward_is_the_product_with_the_jacobian():
    z = softmax_rows(np.float64)
    softmax = ACTIVATIONS["softmax"]
    a = softmax.value(z, 0.0)
    gradient = np.random.default_rng(2).normal(size=z.shape)
    expected = np.einsum("bi,bij->bj", gradient, softmax.derivative(z, a, 0.0))
    # sums of 4 products of numbers of about 1
    np.testing.assert_allclose(softmax.backward(z, a, gradient, 0.0), expected, rtol=0, atol=2e-15)


def test_reference_registry_is_what_it_exports():
    assert tuple(ACTIVATIONS) == reference.ACTIVATIONS
