"""Losses against mpmath, edges of their domains, and what weights and reductions do to them."""

from __future__ import annotations

from dataclasses import replace

import mpmath as mp
import numpy as np
import pytest
from backends import LOSS_VARIANTS, each_backend, each_dtype, label, layers, make_problem, module, outputs_of, train
from backprop.base.types import Data, TrainingSettings
from backprop.layers import Dense
from backprop.losses import (
    LOSSES,
    AbsoluteError,
    BinaryCrossEntropy,
    CrossEntropy,
    Focal,
    Gamma,
    Hinge,
    Huber,
    KullbackLeibler,
    LogCosh,
    Loss,
    Poisson,
    Quantile,
    SquaredError,
    SquaredHinge,
    Tweedie,
)
from backprop.optimizers import SGD


@pytest.fixture(autouse=True)
def digits():
    """log(1 - sigmoid(700)) needs 300 of them; differences with steps of 1e-30 leave plenty."""
    with mp.workdps(400):
        yield


def xlogy(x, y):
    return x * mp.log(y) if x != 0 else mp.mpf(0)


def huber(a, y, delta):
    return (a - y) ** 2 / 2 if abs(a - y) <= delta else delta * (abs(a - y) - delta / 2)


def tweedie_terms(a, y, above, below):
    """With p = 1 + above: the three terms of the deviance."""
    return a**below / below, y * a**-above / above, (y**below if y else y) / (above * below)


def tweedie(a, y, above, below):
    first, second, third = tweedie_terms(a, y, above, below)
    return first + second - third


def focal(a, y, gamma, alpha):
    p, weight = (a, alpha) if y == 1 else (1 - a, 1 - alpha)
    return -(1 if alpha < 0 else weight) * (1 - p) ** gamma * mp.log(p)


ORACLE = {
    "squared_error": lambda a, y: (a - y) ** 2,
    "absolute_error": lambda a, y: abs(a - y),
    "huber": huber,
    "quantile": lambda a, y, q: max(q * (y - a), (q - 1) * (y - a)),
    "log_cosh": lambda a, y: abs(a - y) + mp.log1p(mp.exp(-2 * abs(a - y))) - mp.log(2),
    "poisson": lambda a, y: a - y + xlogy(y, y / a if y else y),
    "gamma": lambda a, y: y / a - 1 - mp.log(y / a),
    "tweedie": tweedie,
    "binary_cross_entropy": lambda a, y: -(xlogy(y, a) + xlogy(1 - y, 1 - a)),
    "cross_entropy": lambda a, y, smoothing: -xlogy(y, a),  # the smoothing of a single output is in another test
    "kullback_leibler": lambda a, y: xlogy(y, y / a if y else y),
    "focal": focal,
    "hinge": lambda a, y: max(1 - y * a, mp.mpf(0)),
    "squared_hinge": lambda a, y: max(1 - y * a, mp.mpf(0)) ** 2,
}
OUTPUT = {"exp": mp.exp, "softplus": lambda z: mp.log1p(mp.exp(z)), "sigmoid": lambda z: 1 / (1 + mp.exp(-z))}

ELEMENTWISE = [loss for loss in LOSS_VARIANTS if loss.elementwise]


def derivative(f, x):
    h = mp.mpf("1e-30") * (abs(x) or 1)
    return (f(x + h) - f(x - h)) / (2 * h)


def outputs_and_targets(name):
    """Pairs (a, y) over the loss's domain, without its kinks."""
    rng = np.random.default_rng(3)
    if name in ("binary_cross_entropy", "cross_entropy", "kullback_leibler"):
        a = np.concatenate([rng.uniform(0, 1, 30), [0.5, 1e-10, 1e-50, 1 - 1e-10, 1e-3, 0.25]])
        y = np.concatenate([rng.uniform(0, 1, 30), [0, 1, 1, 0, 0, 1]])
    elif name == "focal":
        a = np.concatenate([rng.uniform(0, 1, 30), [0.5, 1e-10, 1e-50, 1 - 1e-10, 1e-3, 0.25]])
        y = rng.integers(2, size=36).astype(float)
    elif name in ("hinge", "squared_hinge"):
        a = np.concatenate([rng.normal(size=30), [0, 1e10, -1e10, 1e-10, 5, -1]])
        y = np.concatenate([rng.choice([-1, 1], 30), [1, 1, 1, -1, -1, 1]]).astype(float)
    elif name in ("gamma", "tweedie"):
        a = np.concatenate([rng.gamma(1, 2, 30), [0.5, 1e-10, 1e10, 7, 3]])
        y = np.concatenate([rng.gamma(1, 2, 30), [1e-3, 1, 0.1, 7 + 1e-8, 1e6]])
        if name == "tweedie":
            y[:8] = 0
    elif name == "poisson":
        a = np.concatenate([rng.gamma(1, 2, 30), [0.5, 1e-10, 1e-50, 1e10, 7, 3]])
        y = np.concatenate([rng.poisson(2.0, 30), [0, 1, 1, 0, 7 + 1e-8, 1e6]]).astype(float)
    else:
        a = np.concatenate([rng.normal(size=30), [0, 1e10, -1e10, 1e-10, 5]])
        y = np.concatenate([rng.normal(size=30), [1, 0, 1, 0, 5 - 1e-9]])
    return a, y


def test_every_loss_has_an_oracle_and_a_class():
    assert set(ORACLE) == set(LOSSES)


@each_backend
@each_dtype
def test_backends_know_the_same_names_in_the_same_order(backend, dtype):
    assert tuple(LOSSES) == module(backend, dtype).LOSSES


def own_parameters(loss, dtype=float):
    """The loss's own parameters as a backend of this dtype has them."""
    return [mp.mpf(float(dtype(value))) for value in loss.parameters]


def size_of_terms(loss, a, y, p):
    """As large as the largest of the terms whose sum the value is, which are rounded one by one."""
    return sum(tweedie_terms(a, y, *p)) if loss.name == "tweedie" else mp.mpf(0)


@pytest.mark.parametrize("loss", [loss for loss in LOSS_VARIANTS if not getattr(loss, "label_smoothing", 0)], ids=label)
def test_reference_value_and_gradient(loss):
    a, y = outputs_and_targets(loss.name)
    values, gradients = loss.value(a, y), loss.gradient(a, y)
    steps = loss.value(a + 1e-100j, y).imag / 1e-100
    f, p = ORACLE[loss.name], own_parameters(loss)
    for ai, yi, value, gradient, step in zip(a, y, values, gradients, steps, strict=True):
        ai, yi = mp.mpf(float(ai)), mp.mpf(float(yi))
        slope = derivative(lambda t, yi=yi: f(t, yi, *p), ai)
        # The terms of a loss are about as large as a and y, and their logarithms: 4 roundings of each.
        size = max(abs(ai), abs(yi), abs(f(ai, yi, *p)), size_of_terms(loss, ai, yi, p), mp.mpf(1))
        assert abs(value - f(ai, yi, *p)) <= 4 * 2.3e-16 * size
        # a - y, 1 - a and the like are exact or rounded once, quotients and products add a few roundings
        assert abs(gradient - slope) <= 8 * 2.3e-16 * max(abs(slope), 1)
        assert abs(step - slope) <= 8 * 2.3e-16 * max(abs(slope), 1)


# ---- through every backend, one output at a time: value and derivative with respect to the score ----


def score_problem(core, loss, output, z, y, dtype):
    """Value and gradient of a one-unit layer whose score is z."""
    plan = core.Plan(1, [Dense(1, output)])
    gradient = np.empty(2, dtype)
    data = Data(np.ones((1, 1), dtype), np.array([[y]], dtype))
    return core.loss_and_gradient(plan, loss, np.array([z, 0], dtype), data, gradient), gradient[1]


@each_backend
@each_dtype
@pytest.mark.parametrize("loss", [loss for loss in ELEMENTWISE if loss.outputs is None], ids=label)
def test_value_and_gradient_in_every_backend(backend, loss, dtype):
    core = module(backend, dtype)
    eps = float(np.finfo(dtype).eps)
    f, p = ORACLE[loss.name], own_parameters(loss, dtype)
    for ai, yi in zip(*outputs_and_targets(loss.name), strict=True):
        ai, yi = dtype(ai), dtype(yi)
        if ai == yi:
            continue  # a kink, in float32
        value, gradient = score_problem(core, loss, "identity", ai, yi, dtype)
        a, y = mp.mpf(float(ai)), mp.mpf(float(yi))
        slope = derivative(lambda t, y=y: f(t, y, *p), a)
        assert abs(value - f(a, y, *p)) <= 4 * eps * max(abs(a), abs(y), abs(f(a, y, *p)))
        assert abs(float(gradient) - slope) <= 4 * eps * max(abs(slope), 1)


_SCORES = [-700, -100, -87, -40, -10, -1, -0.1, 0, 0.1, 1, 10, 40, 80]
_SCORE_CASES = {
    ("sigmoid", "binary_cross_entropy"): [(z, y) for z in [*_SCORES, 100, 700] for y in (0, 1, 0.25)],
    ("exp", "poisson"): [(z, y) for z in [-80, *_SCORES[3:]] for y in (0, 1, 3, 1000)],
    ("exp", "gamma"): [(z, y) for z in [-80, *_SCORES[3:]] for y in (1e-3, 1, 3, 1000)],
    ("exp", "tweedie"): [(z, y) for z in [-80, *_SCORES[3:]] for y in (0, 1, 3, 1000)],
    ("sigmoid", "focal"): [(z, y) for z in [*_SCORES, 100, 700] for y in (0, 1)],
}


@each_backend
@each_dtype
@pytest.mark.parametrize(("output", "name"), list(_SCORE_CASES))
def test_pairs_from_scores(backend, output, name, dtype):
    """Finite and exact for every score, however sure the network is."""
    core = module(backend, dtype)
    eps, p = float(np.finfo(dtype).eps), own_parameters(LOSSES[name](), dtype)
    for z, y in _SCORE_CASES[output, name]:
        value, gradient = score_problem(core, LOSSES[name](), output, z, y, dtype)
        zm, ym = mp.mpf(float(dtype(z))), mp.mpf(float(dtype(y)))

        def f(t, ym=ym):
            return ORACLE[name](OUTPUT[output](t), ym, *p)

        true, slope = f(zm), derivative(f, zm)
        # Terms: a or log(1 + exp(z)), y z, y log y; each rounded a few times, and exp's argument z is exact.
        size = max(
            abs(true),
            abs(ym * zm),
            ym * mp.log(ym + 1),
            size_of_terms(LOSSES[name](), OUTPUT[output](zm), ym, p),
            abs(zm) if name == "gamma" else 0,
            mp.mpf(1) if output == "sigmoid" or name in ("gamma", "tweedie") else OUTPUT[output](zm),
        )
        assert abs(value - true) <= 8 * eps * size, (z, y)
        assert abs(float(gradient) - slope) <= 8 * eps * max(abs(slope), ym, 1), (z, y)


@each_backend
@each_dtype
@pytest.mark.parametrize("loss", [Gamma(), Tweedie(), Tweedie(power=1.1), Tweedie(power=1.9)], ids=label)
def test_deviances_of_softplus(backend, loss, dtype):
    core = module(backend, dtype)
    eps, p = float(np.finfo(dtype).eps), own_parameters(loss, dtype)
    zeros = [] if loss.targets_above else [0]
    for z, y in [(z, y) for z in (-20, -3, -0.5, 0, 0.7, 5, 20) for y in (*zeros, 0.01, 1, 3, 50)]:
        value, gradient = score_problem(core, loss, "softplus", z, y, dtype)
        zm, ym = mp.mpf(float(dtype(z))), mp.mpf(float(dtype(y)))

        def f(t, ym=ym):
            return ORACLE[loss.name](OUTPUT["softplus"](t), ym, *p)

        # a has a relative error of a few eps, which powers and logarithms of it inherit
        size = max(abs(f(zm)), size_of_terms(loss, OUTPUT["softplus"](zm), ym, p), abs(zm), 5)
        assert abs(value - f(zm)) <= 16 * eps * size, (z, y)
        slope = derivative(f, zm)
        assert abs(float(gradient) - slope) <= 16 * eps * max(abs(slope), size), (z, y)


@each_backend
@each_dtype
@pytest.mark.parametrize(
    "loss", [Focal(gamma=0.0), Focal(gamma=5.0, alpha=0.9), Focal(gamma=0.5, alpha=0.0)], ids=label
)
def test_focal_settings(backend, loss, dtype):
    core = module(backend, dtype)
    eps, p = float(np.finfo(dtype).eps), own_parameters(loss, dtype)
    for z, y in [(z, y) for z in (-40, -3, -0.1, 0, 2, 15, 40) for y in (0, 1)]:
        value, gradient = score_problem(core, loss, "sigmoid", z, y, dtype)
        zm = mp.mpf(float(dtype(z)))

        def f(t, y=y):
            return ORACLE["focal"](OUTPUT["sigmoid"](t), y, *p)

        # no digit is lost, but (1 - p)^gamma is an exponential of up to gamma |z|
        bound = 8 * eps * (1 + loss.gamma * abs(z))
        assert abs(value - f(zm)) <= bound * f(zm) + np.finfo(dtype).tiny, (z, y)
        slope = derivative(f, zm)
        assert abs(float(gradient) - slope) <= bound * abs(slope) + np.finfo(dtype).tiny, (z, y)


@each_backend
@each_dtype
def test_log_cosh_of_small_and_large_errors(backend, dtype):
    core, finfo = module(backend, dtype), np.finfo(dtype)
    for error in (1e-12, 1e-3, 0.1, 0.999, 1.0, 1.001, 3.0, 50.0, 1e30):
        for sign in (1, -1):
            value, gradient = score_problem(core, LogCosh(), "identity", sign * error, 0, dtype)
            e = mp.mpf(float(dtype(error)))
            true = ORACLE["log_cosh"](e, mp.mpf(0)) if error > 1e-2 else e**2 / 2 - e**4 / 12 + e**6 / 45
            # of a number that log(2) is taken from, up to 1 ulp of 1.13; else relative
            assert abs(value - true) <= 8 * float(finfo.eps) * true + (2e-40 if dtype is np.float32 else 0)
            assert abs(float(gradient) - sign * mp.tanh(e)) <= 4 * float(finfo.eps) * mp.tanh(e)


@each_backend
@each_dtype
@pytest.mark.parametrize("output", Poisson.outputs)
def test_poisson_outputs(backend, output, dtype):
    core = module(backend, dtype)
    eps = float(np.finfo(dtype).eps)
    for z, y in [(z, y) for z in (-20, -3, -0.5, 0, 0.7, 5, 20) for y in (0, 1, 3, 50)]:
        value, gradient = score_problem(core, Poisson(), output, z, y, dtype)
        zm, ym = mp.mpf(float(dtype(z))), mp.mpf(float(dtype(y)))

        def f(t, ym=ym):
            return ORACLE["poisson"](OUTPUT[output](t), ym)

        # a - y and y log(y / a): a has a relative error of a few eps, which log turns into an absolute one
        size = OUTPUT[output](zm) + ym * (1 + mp.log(ym + 1) + abs(zm))
        assert abs(value - f(zm)) <= 8 * eps * size, (z, y)
        assert abs(float(gradient) - derivative(f, zm)) <= 8 * eps * (1 + ym + OUTPUT[output](zm)), (z, y)


_SOFTMAX_SCORES = [
    [0, 0, 0],
    [1, 2, 3],
    [700, 0, -700],
    [-700, -700, 10],
    [1e4, -1e4, 0],
    [0.1, -0.3, 50],
    [60, 61, 62],
]


@each_backend
@each_dtype
@pytest.mark.parametrize("loss", [CrossEntropy(), CrossEntropy(label_smoothing=0.25), KullbackLeibler()], ids=label)
@pytest.mark.parametrize("rows", [None, [0.2, 0.3, 0.5], [0, 1, 0], [0.25, 0.25, 0.4995]], ids=str)
def test_cross_entropy_from_scores(backend, rows, loss, dtype):
    """With labels and with class probabilities, which validation lets be off 1 by up to 1e-3."""
    core = module(backend, dtype)
    plan = core.Plan(1, [Dense(3, "softmax")])
    eps = float(np.finfo(dtype).eps)
    for scores in _SOFTMAX_SCORES:
        for own in range(3 if rows is None else 1):
            targets = np.array([own]) if rows is None else np.array([rows], dtype)
            parameters = np.array([*scores, 0, 0, 0], dtype)
            gradient = np.empty(6, dtype)
            data = Data(np.ones((1, 1), dtype), targets)
            value = core.loss_and_gradient(plan, loss, parameters, data, gradient)
            y = [mp.mpf(int(own == o)) for o in range(3)] if rows is None else [mp.mpf(float(t)) for t in targets[0]]
            entropy = sum(xlogy(yo, yo) for yo in y) if loss.name == "kullback_leibler" else 0
            if loss.name == "cross_entropy":
                y = [(1 - mp.mpf(loss.label_smoothing)) * yo + mp.mpf(loss.label_smoothing) / 3 for yo in y]
            z = [mp.mpf(float(s)) for s in parameters[:3]]
            top = max(z)
            e = [mp.exp(x - top) for x in z]
            log_sum = top + mp.log(sum(e))
            true = sum(yo * (log_sum - zo) for yo, zo in zip(y, z, strict=True)) + entropy
            size = max(1, *(abs(log_sum) + abs(x) for x in z))  # log_sum - z_o: rounded beside its terms
            assert abs(value - true) <= 4 * eps * size, scores
            for o in range(3):
                slope = e[o] / sum(e) * sum(y) - y[o]
                # softmax is exact to a few eps, see test_softmax
                assert abs(float(gradient[3 + o]) - slope) <= 8 * eps, scores


def test_pairs_from_scores_are_their_compositions():
    """Where neither loses anything, both ways of computing a pair agree."""
    from backprop.reference.activations import ACTIVATIONS

    rng = np.random.default_rng(5)
    z = rng.normal(size=(20, 3))
    for name, loss in ((name, cls()) for name, cls in LOSSES.items() if cls.scores_of is not None):
        y = {
            "poisson": rng.poisson(1.0, z.shape),
            "gamma": rng.gamma(1.0, 1.0, z.shape),
            "tweedie": rng.gamma(1.0, 1.0, z.shape) * rng.integers(2, size=z.shape),
            "focal": rng.integers(2, size=z.shape),
            "cross_entropy": rng.dirichlet(np.ones(3), 20),
            "kullback_leibler": rng.dirichlet(np.ones(3), 20),
        }.get(name, rng.uniform(size=z.shape))
        y = np.asarray(y, float)
        activation = ACTIVATIONS[loss.scores_of]
        a = activation.value(z, 0.0)
        # sums of a few numbers of about 1 to 10, each exact to an eps; y / a is up to some hundred
        rtol = 1e-15 if name == "gamma" else 0
        np.testing.assert_allclose(loss.value_from_scores(z, y), loss.value(a, y), rtol=rtol, atol=1e-14)
        composed = activation.backward(z, a, loss.gradient(a, y), 0.0)
        np.testing.assert_allclose(loss.gradient_from_scores(z, a, y), composed, rtol=rtol, atol=1e-14)


@each_backend
@each_dtype
@pytest.mark.parametrize("loss", [AbsoluteError(), Quantile(quantile=0.8)], ids=label)
def test_gradient_at_the_kink_is_zero(backend, loss, dtype):
    assert score_problem(module(backend, dtype), loss, "identity", 0.5, 0.5, dtype) == (0, 0)


@each_backend
@each_dtype
@pytest.mark.parametrize("loss", [Hinge(), SquaredHinge()], ids=label)
def test_hinges_at_and_beyond_the_margin(backend, loss, dtype):
    core = module(backend, dtype)
    for y in (1, -1):
        assert score_problem(core, loss, "identity", y, y, dtype) == (0, 0)
        assert score_problem(core, loss, "identity", 3 * y, y, dtype) == (0, 0)
        assert score_problem(core, loss, "identity", 0, y, dtype) == (
            1,
            -y * (2 if loss.name == "squared_hinge" else 1),
        )
        assert np.isnan(score_problem(core, loss, "identity", np.nan, y, dtype)[0])


@each_backend
@each_dtype
@pytest.mark.parametrize("loss", LOSS_VARIANTS, ids=label)
def test_nan_stays_nan(backend, loss, dtype):
    core = module(backend, dtype)
    plan, y = core.Plan(1, [Dense(2, outputs_of(loss)[0])]), np.ones((1, 2), dtype)
    data = Data(np.ones((1, 1), dtype), y if loss.elementwise else y / 2)
    assert np.isnan(core.loss_and_gradient(plan, loss, np.array([0, np.nan, 0, 0], dtype), data, None))


# Values of single rows, summed up over two outputs, and gradients with respect to the scores: from PyTorch 2.13 where
# it has the loss, else from its autograd of the formula. The scores are 0.3 and -1.2.
STORED = [
    (LogCosh(), "identity", [1.0, -2.0], 0.5180237896868992, [-0.6043677771171634, 0.6640367702678489]),
    (Gamma(), "exp", [1.5, 0.5], 0.15896786484263142, [-0.11122733102257687, -0.6600584613682736]),
    (Tweedie(power=1.2), "exp", [1.5, 0.0], 0.4861498771113132, [-0.14139765005496815, 0.38289288597511206]),
    (Hinge(), "identity", [1.0, 1.0], 2.9000000000000004, [-1.0, -1.0]),
    (SquaredHinge(), "identity", [-1.0, -1.0], 1.6900000000000002, [2.6, 0.0]),
    (Focal(alpha=0.25), "sigmoid", [1.0, 0.0], 0.03567847802372949, [-0.048102109828820544, 0.0255641953110588]),
    (KullbackLeibler(), "softmax", [0.25, 0.75], 0.7640781333639444, [0.5675744761936437, -0.5675744761936437]),
    (CrossEntropy(label_smoothing=0.1), "softmax", 1, 1.6264132779827525, [0.7675744761936436, -0.7675744761936437]),
    (
        CrossEntropy(label_smoothing=0.1),
        "softmax",
        [0.25, 0.75],
        1.2889132779827526,
        [0.5425744761936436, -0.5425744761936437],
    ),
]


@each_backend
@each_dtype
@pytest.mark.parametrize(
    ("loss", "output", "y", "value", "slopes"), STORED, ids=lambda v: label(v) if isinstance(v, Loss) else ""
)
def test_stored_values(backend, loss, output, y, value, slopes, dtype):
    core = module(backend, dtype)
    gradient = np.empty(4, dtype)
    y = np.array([y], dtype) if isinstance(y, list) else np.array([y])
    data = Data(np.ones((1, 1), dtype), y)
    plan, parameters = core.Plan(1, [Dense(2, output)]), np.array([0.3, -1.2, 0, 0], dtype)
    actual = core.loss_and_gradient(plan, replace(loss, reduction="sum"), parameters, data, gradient)
    # about ten roundings of numbers of about 1 to 3; 0.3 and -1.2 are rounded in float32
    tolerance = 16 * float(np.finfo(dtype).eps)
    assert actual == pytest.approx(value, abs=tolerance)
    np.testing.assert_allclose(gradient[2:], slopes, rtol=0, atol=tolerance)


def test_conventions_of_scikit_learn():
    """Half of its deviances; its hinge loss; and the values that it gave when this was written."""
    a, y = np.array([0.5, 1.5, 3.0]), np.array([1.0, 0.25, 2.0])
    sign = np.array([1.0, -1.0, 1.0])
    cases = [
        (Gamma().value(a, y).mean(), "mean_gamma_deviance", (y, a), {}, 0.5, 0.4458035767032025),
        (Tweedie().value(a, y).mean(), "mean_tweedie_deviance", (y, a), {"power": 1.5}, 0.5, 0.40567572092340104),
        (Hinge().value(a, sign).mean(), "hinge_loss", (sign, a), {}, 1.0, 1.0),
    ]
    for actual, name, arguments, settings, factor, expected in cases:
        assert actual == pytest.approx(expected, rel=1e-14), name
        metrics = pytest.importorskip("sklearn.metrics")
        assert factor * getattr(metrics, name)(*arguments, **settings) == pytest.approx(expected, rel=1e-14), name


@each_backend
@each_dtype
def test_huber_is_continuous_at_delta(backend, dtype):
    core = module(backend, dtype)
    for sign in (1, -1):
        assert score_problem(core, Huber(delta=0.5), "identity", sign * 0.5, 0, dtype) == (0.125, sign * 0.5)
        assert score_problem(core, Huber(delta=0.5), "identity", sign * 1.0, 0, dtype) == (0.375, sign * 0.5)


# ---- scale, weights, reductions ----


def row_by_row(core, problem, loss):
    """Loss and gradient of each row on its own, unweighted and summed over the outputs."""
    X, targets, _ = problem.data
    plan = core.Plan(problem.n_inputs, problem.dense)
    pairs = []
    for row in range(len(X)):
        gradient = np.empty_like(problem.parameters)
        data = Data(X[row : row + 1], targets[row : row + 1])
        single = replace(loss, reduction="sum", scale=1.0)
        pairs.append((core.loss_and_gradient(plan, single, problem.parameters, data, gradient), gradient))
    return np.array([value for value, _ in pairs]), np.array([gradient for _, gradient in pairs])


@each_backend
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("loss", LOSS_VARIANTS, ids=label)
def test_reductions(backend, loss, reduction, weighted):
    """The formula of docs/design.md, put together from single rows."""
    loss = replace(loss, reduction=reduction, scale=0.7)
    dense = [Dense(4, "tanh"), Dense(3, outputs_of(loss)[0])]
    problem = make_problem(2, dense, loss, 21, weighted=weighted)
    values, gradients = row_by_row(module(backend, float), problem, loss)
    weight = np.ones(21) if problem.data.sample_weight is None else problem.data.sample_weight
    denominator = 1.0
    if reduction == "mean":
        denominator = weight.sum() * (3 if loss.elementwise else 1)
    value, gradient = problem.loss_and_gradient(backend)
    # sums of 21 terms in another order: about 21 roundings at most
    assert value == pytest.approx(0.7 * (weight * values).sum() / denominator, rel=1e-14)
    expected = 0.7 * (weight[:, None] * gradients).sum(axis=0) / denominator
    np.testing.assert_allclose(gradient, expected, rtol=0, atol=1e-14 * np.abs(gradients).sum(axis=0).max())


@each_backend
@each_dtype
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("loss", LOSS_VARIANTS, ids=label)
def test_no_weight_no_loss(backend, loss, reduction, dtype):
    loss = replace(loss, reduction=reduction)
    dense = [Dense(3, "tanh", l2=0.5), Dense(3, outputs_of(loss)[0])]
    problem = make_problem(2, dense, loss, 9).cast(dtype)
    problem.data = problem.data._replace(sample_weight=np.zeros(9, dtype))
    value, gradient = problem.loss_and_gradient(backend)
    W = problem.parameters[:6]
    assert value == pytest.approx(0.25 * float((W.astype(float) ** 2).sum()), rel=8 * float(np.finfo(dtype).eps))
    np.testing.assert_allclose(gradient[:6], 0.5 * W, rtol=2 * np.finfo(dtype).eps)
    assert not gradient[6:].any()


@each_backend
def test_rows_without_weight_do_not_count(backend):
    dense = [Dense(3, "tanh"), Dense(2)]
    problem = make_problem(2, dense, SquaredError(), 12)
    keep = np.arange(12) % 3 > 0
    weight = np.where(keep, problem.data.sample_weight, 0)
    X, targets, _ = problem.data
    some = replace(problem, data=Data(X, targets, weight))
    fewer = replace(problem, data=Data(X[keep], targets[keep], weight[keep]))
    value, gradient = some.loss_and_gradient(backend)
    expected, expected_gradient = fewer.loss_and_gradient(backend)
    assert value == pytest.approx(expected, rel=1e-15 * 12)  # the same sums, cut differently
    np.testing.assert_allclose(gradient, expected_gradient, rtol=0, atol=1e-14)


@each_backend
def test_penalties(backend):
    """On weights, not on biases; unscaled, the same for both reductions; those of frozen layers count in the value."""
    dense = [Dense(4, "tanh", l1=0.1), Dense(3, l2=0.3, trainable=False), Dense(2, l1=0.2, l2=0.05)]
    plain = [replace(layer, l1=0.0, l2=0.0) for layer in dense]
    for loss in (SquaredError(scale=0.5), SquaredError(scale=2, reduction="sum")):
        problem = make_problem(3, dense, loss, 10)
        value, gradient = problem.loss_and_gradient(backend)
        data_value, data_gradient = replace(problem, dense=plain).loss_and_gradient(backend)
        penalty, penalty_gradient, start = 0.0, np.zeros_like(gradient), 0
        for n, layer in layers(3, dense):
            part = slice(start, start + n * layer.units)
            for i in range(part.start, part.stop):
                w = float(problem.parameters[i])
                penalty += layer.l1 * abs(w) + layer.l2 / 2 * w * w
                if layer.trainable:
                    penalty_gradient[i] = layer.l1 * (1 if w > 0 else -1) + layer.l2 * w
            start = part.stop + layer.units
        assert value - data_value == pytest.approx(penalty, rel=1e-14)  # a sum of 26 numbers
        np.testing.assert_allclose(gradient - data_gradient, penalty_gradient, rtol=0, atol=1e-14)


@each_backend
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_loss_of_an_epoch(backend, reduction, weighted):
    """With a learning rate too small to change anything, an epoch of mini-batches has the loss of all rows at once."""
    loss = SquaredError(reduction=reduction, scale=0.5)
    problem = make_problem(2, [Dense(4, "tanh", l2=0.1), Dense(2, l1=0.2)], loss, 23, weighted=weighted)
    if weighted:
        problem.data.sample_weight[:5] = 0  # the first batch has no weight at all
    settings = TrainingSettings(batch_size=5, shuffle=False)
    _, losses, reason = train(backend, problem, SGD(learning_rate=1e-300), settings, 2)
    value, _ = problem.loss_and_gradient(backend)
    assert reason == "epochs"
    assert losses == pytest.approx([value, value], rel=1e-14)  # the same sums, cut differently


# ---- settings ----


@pytest.mark.parametrize(
    "make",
    [
        lambda: SquaredError(scale=0),
        lambda: SquaredError(scale=-1),
        lambda: SquaredError(reduction="median"),
        lambda: Huber(delta=0),
        lambda: Huber(delta=1, scale=float("nan")),
        lambda: Quantile(quantile=0),
        lambda: Quantile(quantile=1),
        lambda: Tweedie(power=1),
        lambda: Tweedie(power=2),
        lambda: Focal(gamma=-1),
        lambda: Focal(alpha=1.5),
        lambda: CrossEntropy(label_smoothing=1.5),
        lambda: CrossEntropy(label_smoothing=-0.1),
    ],
)
def test_settings_out_of_range(make):
    with pytest.raises(
        ValueError, match=r"^(scale|reduction|delta|quantile|power|gamma|alpha|label_smoothing): needs .* got "
    ):
        make()


@pytest.mark.parametrize("make", [lambda: Huber(delta="1"), lambda: Quantile(quantile=True)])
def test_settings_of_the_wrong_type(make):
    with pytest.raises(TypeError, match=r"^(delta|quantile): needs .* got "):
        make()


def test_losses_that_need_certain_outputs():
    assert Poisson.outputs == ("exp", "softplus")
    assert BinaryCrossEntropy.outputs == ("sigmoid",)
    assert CrossEntropy.outputs == KullbackLeibler.outputs == ("softmax",)
    assert Gamma.outputs == Tweedie.outputs == ("exp", "softplus")
    assert Focal.outputs == ("sigmoid",)
    assert LogCosh.outputs is Hinge.outputs is SquaredHinge.outputs is None


# ---- the far ends ----


@each_backend
@each_dtype
@pytest.mark.parametrize("power", [1.1, 1.5, 1.9])
@pytest.mark.parametrize("z", [-60, -100, -200, -700, -1500])
def test_tweedie_of_nothing_at_low_scores(backend, z, power, dtype):
    """Where the target is 0 the loss goes to 0 with the score; the other power of exp(z) may be infinite."""
    value, gradient = score_problem(module(backend, dtype), Tweedie(power=power), "exp", z, 0, dtype)
    expected = mp.exp((2 - mp.mpf(power)) * z)
    bound = 1e-5 if dtype is np.float32 else 1e-12  # some roundings of the exponent, up to 1,500 times as large
    smallest = float(np.finfo(dtype).tiny)  # less may be flushed to 0
    assert abs(float(gradient) - expected) <= bound * expected + smallest
    assert abs(float(value) - expected / (2 - mp.mpf(power))) <= bound * expected + smallest / (2 - power)


@each_backend
@each_dtype
@pytest.mark.parametrize("name", ["poisson", "gamma", "tweedie"])
@pytest.mark.parametrize("y", [0.5, 5, 1e4])
def test_a_softplus_that_is_rounded_to_zero(backend, name, y, dtype):
    """Neither value nor gradient is NaN, and training can go on from there."""
    for z in (-80, -88, -95, -120, -700, -740, -800):
        value, gradient = score_problem(module(backend, dtype), LOSSES[name](), "softplus", z, y, dtype)
        assert value > 0
        assert not np.isnan(value)
        assert np.isfinite(gradient)


@each_backend
@each_dtype
@pytest.mark.parametrize("loss", [loss for loss in ELEMENTWISE if loss.outputs is None], ids=label)
def test_nan_reaches_the_gradient(backend, loss, dtype):
    y = 1 if loss.target_values is not None else 0.5
    value, gradient = score_problem(module(backend, dtype), loss, "identity", np.nan, y, dtype)
    assert np.isnan(value)
    assert np.isnan(gradient)
