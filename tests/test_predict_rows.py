"""One row alone has the bits that it has among others; outputs can go into an array that is there."""

import backprop as bp
import numpy as np
import pytest
from backends import each_compiled, each_dtype
from backprop.reference.activations import ACTIVATIONS

WIDTHS = ([1, 1], [3, 16, 1], [7, 17, 33, 5], [28, 150, 40, 10], [100, 33, 300, 2], [5, 8, 15, 16], [40, 129, 161, 3])


def network(sizes, hidden, output, dtype, backend, **options):
    layers = [*(bp.Dense(units, hidden, **options) for units in sizes[1:-1]), bp.Dense(sizes[-1], output, **options)]
    net = bp.Network(sizes[0], layers, seed=1, dtype=dtype, backend=backend)
    net.parameters = np.random.default_rng(0).normal(0, 0.7, net.n_parameters)
    return net


@each_compiled
@each_dtype
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("sizes", WIDTHS, ids=str)
def test_one_row_has_the_bits_that_it_has_among_others(sizes, activation, dtype, backend, rng):
    net = network(sizes, activation, activation, dtype, backend)
    X = rng.normal(size=(37, sizes[0])).astype(dtype)
    together = net.predict(X)
    for k in (0, 5, 36):
        assert net.predict(X[k : k + 1]).tobytes() == together[k].tobytes()


@each_compiled
def test_one_row_of_layers_without_biases(backend, rng):
    net = network([9, 30, 20, 3], "tanh", "softmax", "float32", backend, bias=False)
    X = rng.normal(size=(20, 9)).astype("float32")
    assert net.predict(X[:1]).tobytes() == net.predict(X)[0].tobytes()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_one_row_that_is_not_finite(bad, backend):
    net = network([3, 20, 2], "relu", "identity", "float32", backend)
    with pytest.raises(ValueError, match="X: needs finite numbers"):
        net.predict([[0.0, bad, 1.0]])


@pytest.mark.parametrize("n_rows", [1, 2, 50])
def test_outputs_go_into_an_array(n_rows, dtype, backend, rng):
    net = network([4, 20, 2], "tanh", "softmax", dtype, backend)
    X = rng.normal(size=(n_rows, 4)).astype(dtype)
    out = np.full((n_rows, 2), 7, dtype)
    assert net.predict(X, out=out) is out
    assert out.tobytes() == net.predict(X).tobytes()


@pytest.mark.parametrize(
    ("out", "error", "message"),
    [
        ([[0.0, 0.0]], TypeError, r"out: needs an array, got \[\[0.0, 0.0\]\] \(list\)"),
        (np.zeros((1, 2)), ValueError, r"out: needs float32 of shape \(1, 2\), got float64 of shape \(1, 2\)"),
        (np.zeros((2, 2), "f4"), ValueError, r"out: needs float32 of shape \(1, 2\), got float32 of shape \(2, 2\)"),
        (np.zeros(2, "f4"), ValueError, r"out: needs float32 of shape \(1, 2\), got float32 of shape \(2,\)"),
        (np.zeros((1, 4), "f4")[:, ::2], ValueError, "out: needs a writable C-contiguous array"),
        (np.broadcast_to(np.float32(0), (1, 2)), ValueError, "out: needs a writable C-contiguous array"),
    ],
)
def test_outputs_that_cannot_go_there(out, error, message):
    net = bp.Network(3, [bp.Dense(2)], seed=0)
    with pytest.raises(error, match=message):
        net.predict(np.zeros((1, 3), "f4"), out=out)


def test_outputs_may_not_lie_in_the_inputs():
    net = bp.Network(2, [bp.Dense(2)], seed=0)
    X = np.zeros((5, 2), "f4")
    with pytest.raises(ValueError, match="out: needs an array apart from the inputs"):
        net.predict(X, out=X)
