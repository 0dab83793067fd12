"""The lesson that the project grew from, number for number."""

import os
import subprocess
import sys
from pathlib import Path

import backprop as bp
import numpy as np
from backprop.backends import choice

XOR = Path(__file__).parents[1] / "examples" / "xor.py"


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def test_the_script_prints_what_the_lesson_prints(backend):
    environment = {**os.environ, choice.ENVIRONMENT_VARIABLE: backend}
    result = subprocess.run([sys.executable, XOR], env=environment, capture_output=True, text=True, check=True)
    assert result.stdout.splitlines() == [
        "Final Predictions:",
        "[[0.06029012]",
        " [0.94447222]",
        " [0.944367  ]",
        " [0.05997169]]",
    ]
    assert "Warning" not in result.stderr  # where NumPy takes more than two seconds for it, there is a progress bar


def test_every_epoch_is_the_lesson_s(backend):
    """The lesson's loop beside the library's: the same weights after each of the first epochs, up to rounding."""
    X = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    y = np.array([[0], [1], [1], [0]])
    draws = np.random.RandomState(42)
    W1, W2, b1, b2 = draws.rand(2, 2), draws.rand(2, 1), draws.rand(1, 2), draws.rand(1, 1)
    net = bp.Network(
        2,
        [
            bp.Dense(2, "sigmoid", weight_init=W1, bias_init=b1[0]),
            bp.Dense(1, "sigmoid", weight_init=W2, bias_init=b2[0]),
        ],
        dtype="float64",
        backend=backend,
    )
    loss = bp.losses.SquaredError(scale=0.5, reduction="sum")
    for _ in range(20):
        hidden = sigmoid(X @ W1 + b1)
        output = sigmoid(hidden @ W2 + b2)
        np.testing.assert_allclose(net.predict(X), output, rtol=1e-13)

        output_gradient = (y - output) * output * (1 - output)
        hidden_gradient = output_gradient @ W2.T * hidden * (1 - hidden)
        W2 += hidden.T @ output_gradient * 0.1
        W1 += X.T @ hidden_gradient * 0.1
        b1 += hidden_gradient.sum(axis=0, keepdims=True) * 0.1
        b2 += output_gradient.sum(axis=0, keepdims=True) * 0.1

        history = net.fit(X, y, loss=loss, optimizer=bp.SGD(learning_rate=0.1), epochs=1, batch_size=None)
        np.testing.assert_allclose(history.loss[-1], 0.5 * ((y - output) ** 2).sum(), rtol=1e-13)
        for mine, lesson in zip((*net.weights, *net.biases), (W1, W2, b1[0], b2[0]), strict=True):
            np.testing.assert_allclose(mine, lesson, rtol=1e-12, atol=1e-14)
