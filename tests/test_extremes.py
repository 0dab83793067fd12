"""Numbers at the ends of their range: where a plainer formula loses its digits or its meaning."""

from __future__ import annotations

import mpmath as mp
import numpy as np
import pytest
from backends import each_backend, each_dtype, module
from backprop import losses, optimizers
from backprop.base.state import TrainingState
from backprop.base.types import Data, TrainingSettings
from backprop.layers import Dense


def one_step(core, dtype, dense, data, loss, optimizer, **settings):
    """Parameters, all 0 before, after one full-batch step."""
    plan = core.Plan(data.X.shape[1], dense)
    parameters = np.zeros(plan.n_parameters, dtype)
    state = TrainingState(parameters, optimizer.new_slots(parameters.size, dtype), np.random.PCG64(0))
    rates = np.array([optimizer.learning_rate])
    core.Training(plan, loss, optimizer, TrainingSettings(**settings), data, state, rates).run(1, 1e9, np.empty(1))
    return parameters


@each_backend
@each_dtype
@pytest.mark.parametrize("as_labels", [True, False])
@pytest.mark.parametrize("scores", [(50.0, 38.0), (1000.0, 990.0), (-200.0, -190.0)])
def test_cross_entropy_of_a_sure_network(backend, dtype, as_labels, scores):
    """The loss is tiny beside the scores; it must not be a difference of numbers of their size."""
    core = module(backend, dtype)
    plan = core.Plan(1, [Dense(2, "softmax", bias=False)])
    best = int(np.argmax(scores))
    y = np.array([best]) if as_labels else np.eye(2, dtype=dtype)[[best]]
    data = Data(np.ones((1, 1), dtype), y)
    value = core.loss_and_gradient(plan, losses.CrossEntropy(), np.array(scores, dtype), data, None)
    with mp.workdps(50):
        expected = mp.log1p(mp.exp(-abs(mp.mpf(scores[0]) - mp.mpf(scores[1]))))
    # log(1 + t) from a rounded 1 + t is off by half an eps, which is absolute: eps itself is what the sum can tell
    assert abs(value - float(expected)) <= np.finfo(dtype).eps


@each_backend
def test_sample_weights_at_the_end_of_float32(backend):
    """Weight and denominator meet in double: their quotient is 1/20, though neither has a reciprocal in range."""
    X, y = np.ones((20, 1), np.float32), np.ones((20, 1), np.float32)
    weighted, plain = (
        one_step(
            module(backend, np.float32), np.float32, [Dense(1)], Data(X, y, weight), losses.SquaredError(),
            optimizers.SGD(learning_rate=0.1),
        )
        for weight in (np.full(20, 1e38, np.float32), None)
    )  # fmt: skip
    assert (plain != 0).all()
    # 20 roundings of the weighted sum at most, of about half an eps each
    np.testing.assert_allclose(weighted, plain, rtol=10 * np.finfo(np.float32).eps)


@each_backend
@each_dtype
def test_a_sample_weight_whose_double_is_infinite(backend, dtype):
    """The gradient of a small error is far from the end of the range all the same."""
    core, weight, error = module(backend, dtype), np.finfo(dtype).max, 2.0**-10
    data = Data(np.ones((1, 1), dtype), np.full((1, 1), error, dtype), np.full(1, weight, dtype))
    plan, gradient = core.Plan(1, [Dense(1, bias=False)]), np.empty(1, dtype)
    core.loss_and_gradient(plan, losses.SquaredError(reduction="sum"), np.zeros(1, dtype), data, gradient)
    assert gradient[0] == -2 * error * weight


@each_backend
@each_dtype
@pytest.mark.parametrize("penalty", ["l1", "l2"])
def test_large_weights_with_one_penalty(backend, dtype, penalty):
    """Weights may be so large that their squares are infinite: that is no matter where only their size counts."""
    core, weight = module(backend, dtype), np.sqrt(np.finfo(dtype).max) * (4 if penalty == "l1" else 0.25)
    plan = core.Plan(1, [Dense(1, bias=False, **{penalty: 0.5})])
    data = Data(np.zeros((1, 1), dtype), np.zeros((1, 1), dtype))
    value = core.loss_and_gradient(plan, losses.SquaredError(), np.array([weight], dtype), data, None)
    assert value == pytest.approx(0.5 * weight if penalty == "l1" else 0.25 * weight**2)


@each_backend
def test_a_clip_value_below_float32_still_clips(backend):
    X, y = np.ones((4, 1), np.float32), np.ones((4, 1), np.float32)
    sgd = optimizers.SGD(learning_rate=0.1)
    core = module(backend, np.float32)
    parameters = one_step(core, np.float32, [Dense(1)], Data(X, y), losses.SquaredError(), sgd, clip_value=1e-50)
    np.testing.assert_array_equal(parameters, 0)


@each_backend
@each_dtype
def test_gelu_tanh_in_its_left_tail(backend, dtype):
    """z (1 + tanh u) / 2 loses every digit there, z sigmoid(2 u) none."""
    core = module(backend, dtype)
    plan = core.Plan(1, [Dense(1, "gelu_tanh", bias=False)])
    z = dtype(-4.5)
    out = np.empty((1, 1), dtype)
    assert core.forward(plan, np.array([z], dtype), np.ones((1, 1), dtype), out)
    with mp.workdps(50):
        x = mp.mpf(float(z))
        u = mp.sqrt(2 / mp.pi) * (x + mp.mpf("0.044715") * x**3)
        expected = float(x / (1 + mp.exp(-2 * u)))
    # u is about -6.8, so its own rounding of about 4 eps is multiplied by 2 |u|: some 60 eps
    assert abs(out[0, 0] - expected) <= 60 * np.finfo(dtype).eps * abs(expected)
