"""Batches of one row: networks of all small widths, and the sign of what is zero."""

import backprop as bp
import numpy as np
import pytest
from backends import each_compiled, each_dtype

WIDTHS = [(1, 1), (1, 1, 1), (5, 1, 1), (1, 4, 2), (3, 1), (2, 3, 1), (9, 16, 3), (17, 31, 8, 5), (4, 33, 65, 1)]


@each_dtype
@each_compiled
@pytest.mark.parametrize("decay", [0.0, 0.01])
@pytest.mark.parametrize("widths", WIDTHS, ids=str)
def test_rows_one_by_one_are_gradients_one_by_one(backend, dtype, widths, decay, rng):
    """A fit in batches of one row against steps that NumPy makes along the gradient of each row."""
    X = rng.normal(size=(20, widths[0])).astype(dtype)
    y = rng.random((20, widths[-1])).astype(dtype)
    net = bp.mlp(list(widths), hidden="tanh", output="identity", seed=0, dtype=dtype, backend=backend) if (
        len(widths) > 2
    ) else bp.Network(widths[0], [bp.Dense(widths[1])], seed=0, dtype=dtype, backend=backend)  # fmt: skip
    by_hand = net.copy()
    losses = []
    for row in range(len(X)):
        loss, gradient = by_hand.loss_and_gradients(X[row : row + 1], y[row : row + 1], loss="squared_error")
        losses.append(loss)
        for w, b, (of_w, of_b) in zip(by_hand.weights, by_hand.biases, gradient, strict=True):
            w -= dtype(0.05) * (of_w + dtype(decay) * w)
            b -= dtype(0.05) * (of_b + dtype(decay) * b)
    optimizer = bp.SGD(learning_rate=0.05, weight_decay=decay)
    history = net.fit(X, y, epochs=1, batch_size=1, loss="squared_error", optimizer=optimizer, shuffle=False)
    rtol = 1e-4 if dtype == np.float32 else 1e-11
    np.testing.assert_allclose(net.parameters, by_hand.parameters, rtol=rtol, atol=rtol / 10)
    np.testing.assert_allclose(history.loss[-1], np.mean(losses), rtol=rtol)


@each_dtype
@each_compiled
@pytest.mark.parametrize("batch_size", [None, 1, 32])
@pytest.mark.parametrize("widths", WIDTHS, ids=str)
def test_data_of_one_row(backend, dtype, widths, batch_size, rng):
    """Its epochs against steps that NumPy makes, and beside members of a fleet that have more rows."""
    X = rng.normal(size=(3, widths[0])).astype(dtype)
    y = rng.random((3, widths[-1])).astype(dtype)
    layers = [*(bp.Dense(width, "tanh") for width in widths[1:-1]), bp.Dense(widths[-1])]
    settings = {"epochs": 6, "batch_size": batch_size, "loss": "squared_error", "optimizer": bp.SGD(0.05)}
    net = bp.Network(widths[0], layers, seed=0, dtype=dtype, backend=backend)
    by_hand = net.copy()
    for _ in range(6):
        _, gradient = by_hand.loss_and_gradients(X[:1], y[:1], loss="squared_error")
        by_hand.parameters -= dtype(0.05) * np.concatenate([array.ravel() for pair in gradient for array in pair])
    net.fit(X[:1], y[:1], **settings)
    rtol = 1e-4 if dtype == np.float32 else 1e-11
    np.testing.assert_allclose(net.parameters, by_hand.parameters, rtol=rtol, atol=rtol / 10)
    fleet = bp.Fleet(widths[0], layers, size=40, seed=[0] * 40, dtype=dtype, backend=backend)
    counts = [1 + k % 3 for k in range(40)]
    fleet.fit([X[:n] for n in counts], [y[:n] for n in counts], **settings)
    np.testing.assert_array_equal(fleet[0].parameters, net.parameters)
    np.testing.assert_array_equal(fleet[39].parameters, net.parameters)


@each_compiled
@pytest.mark.parametrize("n_outputs", [2, 8, 12, 16])
@pytest.mark.parametrize("width", [4, 8, 12, 16])
def test_gradients_that_vanish_have_the_same_sign_in_a_fleet(backend, width, n_outputs):
    """Where all products of a sum round to a zero, a bias of -0 shows which one."""
    layers = [bp.Dense(width, "leaky_relu"), bp.Dense(n_outputs)]
    fleet = bp.Fleet(2, layers, size=16, seed=0, dtype="float32", backend=backend)
    alone = fleet[0].copy()
    start = alone.parameters.copy()
    biases = slice(2 * width, 3 * width)
    start[biases], start[3 * width :] = -0.0, 0
    start[3 * width : 3 * width + width * n_outputs] = 1e-30
    for net in (alone, *fleet):
        net.parameters[...] = start
    rows = np.ones((2, 2)), np.full((2, n_outputs), 1e-20)
    for each in (alone, fleet):
        each.fit(*rows, epochs=1, batch_size=1, loss="squared_error", optimizer=bp.SGD(1.0), shuffle=False)
    np.testing.assert_array_equal(np.signbit(alone.parameters), np.signbit(fleet[0].parameters))
