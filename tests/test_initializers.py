import math

import backprop as bp
import numpy as np
import pytest
from backprop import initializers
from backprop.initializers import BIAS_INITIALIZERS, INITIALIZERS, Given

FAN_IN, FAN_OUT = 300, 200
# The variance that each paper asks for, and whether the draws are uniform.
VARIANCES = {
    "glorot_uniform": (2 / (FAN_IN + FAN_OUT), True),
    "glorot_normal": (2 / (FAN_IN + FAN_OUT), False),
    "he_uniform": (2 / FAN_IN, True),
    "he_normal": (2 / FAN_IN, False),
    "lecun_uniform": (1 / FAN_IN, True),
    "lecun_normal": (1 / FAN_IN, False),
}


def weights(init, dtype="float64", seed=0, shape=(FAN_IN, FAN_OUT), activation="identity"):
    layer = bp.Dense(shape[1], activation, weight_init=init)
    return bp.Network(shape[0], [layer], dtype=dtype, seed=seed, backend="reference").weights[0]


def test_every_initializer_has_its_variance_tested():
    assert {*VARIANCES, "zeros", "ones"} == set(INITIALIZERS)


@pytest.mark.parametrize("name", VARIANCES)
def test_distribution(name):
    variance, uniform = VARIANCES[name]
    W = weights(name)
    # 60,000 draws: the sample variance is within 3 % of the true one with much to spare.
    assert W.var() == pytest.approx(variance, rel=0.03)
    assert abs(W.mean()) < 5 * math.sqrt(variance / W.size)
    limit = math.sqrt(3 * variance)
    if uniform:
        assert 0.999 * limit < np.abs(W).max() <= limit
    else:
        assert np.abs(W).max() > 1.1 * limit
        assert np.mean(np.abs(W) < math.sqrt(variance)) == pytest.approx(0.6827, abs=0.01)


@pytest.mark.parametrize("name", VARIANCES)
def test_both_dtypes_see_the_same_draws(name):
    np.testing.assert_array_equal(weights(name, "float32"), weights(name, "float64").astype(np.float32))


def test_seeds():
    np.testing.assert_array_equal(weights("auto", seed=3), weights("auto", seed=3))
    assert (weights("auto", seed=3) != weights("auto", seed=4)).all()
    fresh = bp.Network(3, [bp.Dense(2)], backend="reference")
    np.testing.assert_array_equal(fresh.weights[0], weights("auto", "float32", fresh.seed, (3, 2)))


def test_auto():
    he = {"relu", "leaky_relu", "prelu", "relu6", "elu", "gelu", "gelu_tanh", "silu", "mish", "hard_swish"}
    for name in bp.ACTIVATIONS:
        expected = "he_uniform" if name in he else "lecun_normal" if name == "selu" else "glorot_uniform"
        np.testing.assert_array_equal(weights("auto", activation=name), weights(expected))


def test_numbers_and_arrays(dtype):
    values = np.arange(6.0).reshape(2, 3)
    layers = [
        bp.Dense(3, weight_init=values, bias_init=[1, 2, 3]),
        bp.Dense(2, weight_init=0.5, bias_init="ones"),
        bp.Dense(1, weight_init="ones", bias_init=np.float32(-1)),
        bp.Dense(1, weight_init="zeros", bias=False),
    ]
    net = bp.Network(2, layers, dtype=dtype, backend="reference")
    np.testing.assert_array_equal(net.parameters, [*range(6), 1, 2, 3, *[0.5] * 6, 1, 1, 1, 1, -1, 0])
    assert net.biases[3] is None


def test_biases_start_at_zero():
    net = bp.mlp([3, 4, 2], backend="reference")
    assert not any(b.any() for b in net.biases)
    assert set(BIAS_INITIALIZERS) == {"zeros", "ones"}


def test_a_given_array_keeps_a_layer_comparable():
    values = np.ones((2, 3))
    layer, same, other = (bp.Dense(3, weight_init=v) for v in (values, values.tolist(), 2 * values))
    assert layer == same
    assert hash(layer) == hash(same)
    assert layer != other
    assert layer != bp.Dense(3)
    assert repr(layer) == "Dense(3, 'identity', weight_init=<given array of shape (2, 3)>)"
    values[...] = 7
    assert layer == same, "the layer has its own copy"
    with pytest.raises(ValueError, match="read-only"):
        layer.weight_init.values[0, 0] = 1


def test_given():
    given = Given([0.0, 1.0])
    assert given == Given(given.values)
    assert hash(given) == hash(Given([-0.0, 1.0]))
    assert given != [0.0, 1.0]
    np.testing.assert_array_equal(np.asarray(given), [0.0, 1.0])
    assert np.asarray(given, np.float32).dtype == np.float32
    assert bp.Dense(2, bias_init=given).bias_init is given


@pytest.mark.parametrize("name", INITIALIZERS)
def test_functions_can_be_called(name, rng):
    W = getattr(initializers, name)(rng, 4, 5)
    assert W.shape == (4, 5)
    assert W.dtype == np.float64
