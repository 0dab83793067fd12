"""Working with a network: what its layers give, gradients of anything, evaluation, copies, steps by hand."""

import copy
import pickle

import backprop as bp
import numpy as np
import pytest

EPS = {"float32": 1e-6, "float64": 2e-15}


@pytest.fixture
def net(backend, dtype):
    layers = [bp.Dense(5, "tanh"), bp.Dense(4, "relu", bias=False), bp.Dense(3, "softmax", l2=0.1)]
    return bp.Network(4, layers, dtype=dtype, seed=0, backend=backend)


# --- outputs of the layers -----------------------------------------------------------------------------------------


def test_activations(net, rng):
    X = rng.normal(size=(7, 4)).astype(net.dtype)
    outputs = net.activations(X)
    assert [a.shape for a in outputs] == [(7, 5), (7, 4), (7, 3)]
    assert all(a.dtype == net.dtype for a in outputs)
    hidden = np.tanh(X @ net.weights[0] + net.biases[0])
    expected = [hidden, np.maximum(hidden @ net.weights[1], 0)]
    for a, b in zip(outputs, expected, strict=False):
        np.testing.assert_allclose(a, b, rtol=EPS[net.dtype.name], atol=EPS[net.dtype.name])
    np.testing.assert_array_equal(outputs[-1], net.predict(X))


def test_activations_drop_nothing_and_check_X(backend, rng):
    layers = [bp.Dense(5, "tanh", dropout=0.5), bp.Dense(1)]
    net = bp.Network(4, layers, seed=0, backend=backend)
    assert (net.activations(rng.normal(size=(50, 4)))[0] != 0).all()
    with pytest.raises(ValueError, match="X: needs 4 columns"):
        net.activations(np.ones((2, 3)))
    with pytest.raises(ValueError, match="X: needs finite numbers"):
        net.activations(np.full((2, 4), np.nan))


def test_activations_that_overflow(backend, dtype):
    layers = [bp.Dense(2, "exp", weight_init=1e4), bp.Dense(2, "identity", weight_init=[[1.0, 1.0], [1.0, -1.0]])]
    net = bp.Network(1, layers, dtype=dtype, backend=backend)
    first, second = net.activations([[1.0], [-1.0]])
    np.testing.assert_array_equal(first, [[np.inf, np.inf], [0, 0]])
    np.testing.assert_array_equal(second, net.predict([[1.0], [-1.0]]))
    np.testing.assert_array_equal(second, [[np.inf, np.nan], [0, 0]])


# --- evaluation ----------------------------------------------------------------------------------------------------


def test_evaluate(net, rng):
    X, y, weight = rng.normal(size=(20, 4)), np.arange(20) % 3, rng.uniform(size=20)

    def sure(outputs, targets):
        return outputs.max()

    assert net.evaluate(X, y) == {"loss": net.loss(X, y)}
    values = net.evaluate(X, y, metrics=["accuracy", sure], sample_weight=weight)
    predicted = net.predict(X)
    assert list(values) == ["loss", "accuracy", "sure"]
    assert values["loss"] == net.loss(X, y, sample_weight=weight)
    assert values["accuracy"] == pytest.approx(np.average(predicted.argmax(axis=1) == y, weights=weight))
    assert values["sure"] == predicted.max()
    with pytest.raises(ValueError, match=r"metrics\[0\]: needs one of 'accuracy', .*, got 'nothing'"):
        net.evaluate(X, y, metrics=["nothing"])
    with pytest.raises(ValueError, match="metrics: r2 needs real targets"):
        net.evaluate(X, y, metrics="r2")


# --- copies and tables ---------------------------------------------------------------------------------------------


def test_copy_shares_nothing(net, rng):
    X, y = rng.normal(size=(20, 4)), np.arange(20) % 3
    net.fit(X, y, epochs=3, batch_size=8)
    twin = net.copy()
    assert (twin.layers, twin.seed, twin.backend, twin.dtype) == (net.layers, net.seed, net.backend, net.dtype)
    for each in (net, twin):
        each.fit(X, y, epochs=2, batch_size=8)
    np.testing.assert_array_equal(twin.parameters, net.parameters)
    np.testing.assert_array_equal(twin.history.loss, net.history.loss)
    twin.parameters[:] = 0
    assert net.parameters.any()


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])
def test_copies_have_the_whole_state(duplicate, net, rng):
    X, y = rng.normal(size=(20, 4)), np.arange(20) % 3
    net.fit(X, y, epochs=3, batch_size=8)
    net._state.best_parameters = net.parameters + 1
    net._state.best_loss, net._state.best_epoch, net._state.stale_epochs = 0.5, 2, 1
    twin = duplicate(net)
    for name in ("step", "epoch", "cursor", "best_loss", "best_epoch", "stale_epochs"):
        assert getattr(twin._state, name) == getattr(net._state, name)
    for name in ("parameters", "slots", "permutation", "best_parameters"):
        one, other = getattr(twin._state, name), getattr(net._state, name)
        np.testing.assert_array_equal(one, other)
        assert one.dtype == other.dtype
        assert not np.shares_memory(one, other)
    assert twin._state.parameters is twin.parameters
    assert twin._state.bit_generator.state == net._state.bit_generator.state


def test_tables():
    net = bp.Network(400, [bp.Dense(30, "relu", trainable=False), bp.Dense(2, "softmax", dropout=0.0)], seed=0)
    lines = net.summary().splitlines()
    assert lines[0].split() == ["layer", "shape", "parameters"]
    assert lines[1].endswith("400 -> 30      12,030")
    assert lines[-2].split() == ["total", "400", "->", "2", "12,092"]
    assert lines[-1].split() == ["trainable", "62"]
    html = net._repr_html_()
    assert html.startswith("<table>")
    assert html.endswith("</table>")
    assert '400 -&gt; 30</td><td style="text-align: right">12,030</td>' in html
    assert "float32, seed 0" in html
    assert "not trained" in html
    net.fit(np.ones((2, 400)), [0, 1], epochs=1)
    assert "trained for 1 epoch<" in net._repr_html_()
