"""Activations against mpmath: the reference's functions, and every backend through one-layer networks."""

from __future__ import annotations

from functools import cache

import mpmath as mp
import numpy as np
import pytest
from backends import distance, each_backend, each_compiled, each_dtype, module
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


# From PyTorch's documentation of SELU.
with mp.workdps(50):
    SELU_ALPHA = mp.mpf("1.6732632423543772848170429916717")
    SELU_SCALE = mp.mpf("1.0507009873554804934193349852946")

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
    "selu": lambda z, alpha: SELU_SCALE * (z if z > 0 else SELU_ALPHA * mp.expm1(z)),
    "mish": lambda z, alpha: z * mp.tanh(mp.log1p(mp.exp(z))),
    "softsign": lambda z, alpha: z / (1 + abs(z)),
    "relu6": lambda z, alpha: min(max(z, mp.mpf(0)), mp.mpf(6)),
    "hard_tanh": lambda z, alpha: min(max(z, mp.mpf(-1)), mp.mpf(1)),
    "hard_sigmoid": lambda z, alpha: min(max(z + 3, mp.mpf(0)), mp.mpf(6)) / 6,
    "hard_swish": lambda z, alpha: z * min(max(z + 3, mp.mpf(0)), mp.mpf(6)) / 6,
}
ELEMENTWISE = [name for name, activation in ACTIVATIONS.items() if activation.elementwise]
# Slopes for negative z: the default, and another one. 0.25 is exact in both dtypes.
CASES = [(name, alpha) for name in ELEMENTWISE for alpha in ([None, 0.25] if ACTIVATIONS[name].alpha else [None])]
each_case = pytest.mark.parametrize(("name", "alpha"), CASES)

_MAGNITUDES = [1e-30, 1e-8, 1e-3, 0.1, 0.5, 1, 1.7, 3, 5.5, 8, 12, 18, 20, 25, 36, 40, 60, 87, 100, 700, 1e4, 1e15]


def points(name, dtype, *more):
    """Scores from far below to far above 0, without 0 itself and other kinks."""
    sides = np.array([*(-m for m in reversed(_MAGNITUDES)), *_MAGNITUDES, *more, *(-m for m in more)])
    between = np.random.default_rng(0).normal(scale=3, size=100)
    z = np.concatenate([sides, between]).astype(dtype)
    return z[~np.isin(z, ACTIVATIONS[name].kinks)]


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
    z = points(name, dtype)
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
    z = points(name, dtype, float(np.finfo(dtype).max) ** 0.7)  # z**2 overflows there
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
    z = points(name, np.float64)
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
    z = points(name, dtype)
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
    z = points(name, dtype)
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
    [
        ("relu", None, 0.0),
        ("leaky_relu", 0.25, 0.25),
        ("elu", 0.25, 0.25),
        ("elu", None, 1.0),
        ("prelu", None, 0.25),
        ("selu", None, 1.7580993408473768599),
        ("softsign", None, 1.0),
        ("relu6", None, 0.0),
    ],
)
def test_kinks(backend, name, alpha, slope, zero, dtype):
    core = module(backend, dtype)
    z = np.array([zero], dtype)
    plan, parameters = one_layer(core, name, alpha, z)
    gradient = np.empty_like(parameters)
    data = Data(np.ones((1, 1), dtype), np.array([[-1]], dtype))
    assert core.loss_and_gradient(plan, AbsoluteError(), parameters, data, gradient) == 1
    assert gradient[1] == dtype(slope)


@each_backend
@each_dtype
@pytest.mark.parametrize(
    ("name", "z", "value", "slope"),
    # the derivative that PyTorch has there
    [
        ("relu6", 6, 6, 0),
        ("hard_tanh", -1, -1, 0),
        ("hard_tanh", 1, 1, 0),
        ("hard_sigmoid", -3, 0, 0),
        ("hard_sigmoid", 3, 1, 0),
        ("hard_swish", -3, 0, 0),
        ("hard_swish", 3, 3, 1),
    ],
)
def test_kinks_beside_0(backend, name, z, value, slope, dtype):
    core = module(backend, dtype)
    assert value_and_derivative(core, name, np.array([z], dtype)) == ([value], [slope])
    assert z in ACTIVATIONS[name].kinks
    torch_name = {"hard_tanh": "hardtanh", "hard_sigmoid": "hardsigmoid", "hard_swish": "hardswish"}.get(name, name)
    torch = pytest.importorskip("torch")
    x = torch.tensor(float(z), requires_grad=True)
    getattr(torch.nn.functional, torch_name)(x).backward()
    assert x.grad.item() == slope


def value_and_derivative(core, name, z):
    """At each score, by a backend."""
    plan, parameters = one_layer(core, name, None, z)
    out, gradient = np.empty((1, z.size), z.dtype), np.empty_like(parameters)
    assert core.forward(plan, parameters, np.ones((1, 1), z.dtype), out)
    data = Data(np.ones((1, 1), z.dtype), np.full((1, z.size), -1e30, z.dtype))
    core.loss_and_gradient(plan, AbsoluteError(reduction="sum"), parameters, data, gradient)
    return out[0].tolist(), gradient[z.size :].tolist()


# At -100, -4, -1, 0.5, 2 and 7, as PyTorch 2.13 gives them in float64.
STORED_AT = [-100.0, -4.0, -1.0, 0.5, 2.0, 7.0]
STORED = {
    "selu": [
        [
            -1.7580993408473766,
            -1.7258986281898945,
            -1.1113307378125625,
            0.5253504936777402,
            2.101401974710961,
            7.354906911488364,
        ],
        [
            6.540263121344393e-44,
            0.03220071265748214,
            0.646768603034814,
            1.0507009873554805,
            1.0507009873554805,
            1.0507009873554805,
        ],
    ],
    "mish": [
        [
            -3.7200759760208363e-42,
            -0.07259174079202535,
            -0.30340146137410895,
            0.3752452113048951,
            1.9439589595339946,
            6.999988379809741,
        ],
        [
            -3.682875216260627e-42,
            -0.05377320979348033,
            0.059216755877395014,
            0.8864243753577272,
            1.0693179342794896,
            1.000021559160889,
        ],
    ],
    "softsign": [
        [-0.9900990099009901, -0.8, -0.5, 0.3333333333333333, 0.6666666666666666, 0.875],
        [9.80296049406925e-05, 0.04000000000000001, 0.25, 0.4444444444444444, 0.1111111111111111, 0.015625],
    ],
    "relu6": [
        [0.0, 0.0, 0.0, 0.5, 2.0, 6.0],
        [0.0, 0.0, 0.0, 1.0, 1.0, 0.0],
    ],
    "hard_tanh": [
        [-1.0, -1.0, -1.0, 0.5, 1.0, 1.0],
        [0.0, 0.0, 0.0, 1.0, 0.0, 0.0],
    ],
    "hard_sigmoid": [
        [0.0, 0.0, 0.3333333333333333, 0.5833333333333334, 0.8333333333333334, 1.0],
        [0.0, 0.0, 0.16666666666666666, 0.16666666666666666, 0.16666666666666666, 0.0],
    ],
    "hard_swish": [
        [-0.0, -0.0, -0.3333333333333333, 0.2916666666666667, 1.6666666666666667, 7.0],
        [0.0, 0.0, 0.16666666666666669, 0.6666666666666666, 1.1666666666666665, 1.0],
    ],
}


@each_backend
@each_dtype
@pytest.mark.parametrize("name", STORED)
def test_stored_values(backend, name, dtype):
    core = module(backend, dtype)
    actual = value_and_derivative(core, name, np.array(STORED_AT, dtype))
    # a few roundings of numbers of about 1 to 7
    np.testing.assert_allclose(actual, STORED[name], rtol=8 * np.finfo(dtype).eps, atol=2 * np.finfo(dtype).eps)


@pytest.mark.parametrize("name", STORED)
def test_stored_values_are_those_of_pytorch(name):
    torch = pytest.importorskip("torch")
    function = getattr(
        torch.nn.functional,
        {"hard_tanh": "hardtanh", "hard_swish": "hardswish"}.get(name, name.replace("hard_sigmoid", "hardsigmoid")),
    )
    z = torch.tensor(STORED_AT, dtype=torch.float64, requires_grad=True)
    function(z).sum().backward()
    # PyTorch's hardsigmoid has 1/6 in float32, whatever the dtype
    np.testing.assert_allclose(z.grad, STORED[name][1], rtol=4e-8 if name == "hard_sigmoid" else 1e-14, atol=1e-15)
    np.testing.assert_allclose(function(z).detach(), STORED[name][0], rtol=1e-14, atol=1e-15)


# In units in the last place: a rounding is half of one, exp has 1.1 and expm1 2.0.
ULP = {"selu": 3, "mish": 6, "softsign": 1.5, "relu6": 0, "hard_tanh": 0, "hard_sigmoid": 1.5, "hard_swish": 3}
SLOPE_ULP = {"softsign": 3, "relu6": 0, "hard_tanh": 0, "hard_sigmoid": 0.5, "hard_swish": 2}


@each_compiled
@each_dtype
@pytest.mark.parametrize("name", ULP)
def test_error_in_units_of_the_last_place(backend, name, dtype):
    """No digit is lost anywhere, up to scores of 1e30, and beside the kinks."""
    core, finfo = module(backend, dtype), np.finfo(dtype)
    sides = np.array([np.nextafter(dtype(k), dtype(way)) for k in ACTIVATIONS[name].kinks for way in (-9, 9)], dtype)
    z = np.concatenate([points(name, dtype, 1e30), sides[np.abs(sides) >= finfo.tiny]])
    values, slopes = value_and_derivative(core, name, z)
    expected, expected_slopes = oracle(name, None, z)
    for x, actual, true, ulp in [
        *zip(z, values, expected, [ULP[name]] * z.size, strict=True),
        *(zip(z, slopes, expected_slopes, [SLOPE_ULP[name]] * z.size, strict=True) if name in SLOPE_ULP else ()),
    ]:
        if abs(true) < finfo.tiny:
            assert abs(actual) <= finfo.tiny
            continue
        unit = mp.mpf(float(np.spacing(dtype(abs(float(true))))))
        assert abs(mp.mpf(actual) - true) <= ulp * unit + mp.mpf("1e-25") * abs(true), (x, actual, float(true))


def test_kink_distance_changes_its_sign_at_each_kink():
    relu6 = ACTIVATIONS["relu6"]
    z = np.array([[-1.0, 2.0], [5.0, 7.0]])
    np.testing.assert_array_equal(relu6.kink_distance(z), [[-1, 2], [1, -1]])


def test_what_is_not_smooth_is_marked():
    """Smooth means: the derivative is the same from both sides, and so is the second derivative."""
    h = 1e-6
    places = sorted({kink for activation in ACTIVATIONS.values() for kink in activation.kinks})
    assert places == [-3, -1, 0, 1, 3, 6]
    for name in ELEMENTWISE:
        activation = ACTIVATIONS[name]
        for place in places:
            z = place + np.array([-2 * h, -h, h, 2 * h])
            far, left, right, further = activation.derivative(z, activation.value(z, 0.5), 0.5)
            # a smooth function's derivative changes by 2 h f'' between the two, up to 2 h e^6; a kink's by 1/6
            smooth = abs(right - left) < 1000 * h and abs((further - right) - (left - far)) < 0.1 * h
            assert smooth == (place not in activation.kinks), (name, place)


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
