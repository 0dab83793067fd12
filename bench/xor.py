"""XOR, 10,000 epochs, beside the same loop in NumPy: `python -m bench.xor`.

The network, the initial weights and the rate are those of the lesson that examples/xor.py reproduces.
"""

from __future__ import annotations

import argparse
from statistics import median
from time import perf_counter

import backprop as bp
import numpy as np
from numpy.typing import NDArray

from bench import machine

EPOCHS, RATE = 10_000, 0.1
X = np.array([[0.0, 0], [0, 1], [1, 0], [1, 1]])
Y = np.array([[0.0], [1], [1], [0]])

Parameters = list[NDArray[np.float64]]


def initial() -> Parameters:
    """The lesson's W1, b1, W2, b2, in the order in which it draws them: W1, W2, b1, b2."""
    draw = np.random.RandomState(42)
    W1, W2, b1, b2 = draw.rand(2, 2), draw.rand(2, 1), draw.rand(1, 2), draw.rand(1, 1)
    return [W1, b1, W2, b2]


def numpy_loop(parameters: Parameters) -> None:
    W1, b1, W2, b2 = parameters
    for _ in range(EPOCHS):
        hidden = 1 / (1 + np.exp(-(X @ W1 + b1)))
        output = 1 / (1 + np.exp(-(hidden @ W2 + b2)))
        delta_2 = (Y - output) * output * (1 - output)
        delta_1 = delta_2 @ W2.T * hidden * (1 - hidden)
        W2 += RATE * (hidden.T @ delta_2)
        W1 += RATE * (X.T @ delta_1)
        b1 += RATE * delta_1.sum(axis=0, keepdims=True)
        b2 += RATE * delta_2.sum(axis=0, keepdims=True)


def network(parameters: Parameters) -> bp.Network:
    net = bp.Network(2, [bp.Dense(2, "sigmoid"), bp.Dense(1, "sigmoid")], dtype="float64")
    W1, b1, W2, b2 = parameters
    net.weights = [W1, W2]
    net.biases = [b1.ravel(), b2.ravel()]
    return net


def fit(net: bp.Network) -> None:
    net.fit(
        X,
        Y,
        loss=bp.losses.SquaredError(scale=0.5, reduction="sum"),
        optimizer=bp.SGD(learning_rate=RATE),
        epochs=EPOCHS,
        batch_size=None,
        n_threads=1,
        progress=False,
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.xor", description=__doc__.split("\n")[0])
    parser.add_argument("--repetitions", type=int, default=9)
    repetitions = parser.parse_args().repetitions
    machine.pin(1)
    loop, ours = [], []
    for _ in range(repetitions):
        parameters = initial()
        net = network(parameters)
        start = perf_counter()
        numpy_loop(parameters)
        loop.append(perf_counter() - start)
        start = perf_counter()
        fit(net)
        ours.append(perf_counter() - start)
        W1, b1, W2, b2 = parameters
        # The same numbers, or the times mean nothing.
        np.testing.assert_allclose(net.parameters, np.concatenate([p.ravel() for p in (W1, b1, W2, b2)]), rtol=1e-9)
    print(f"XOR, {EPOCHS:,} epochs, backend {net.backend}; ms, median (fastest) of {repetitions}")
    for title, times in (("NumPy loop", loop), ("backprop", ours)):
        print(f"{title:12} {1e3 * median(times):8.3f} ({1e3 * min(times):.3f})")
    print(f"{'ratio':12} {median(loop) / median(ours):8.0f} ({min(loop) / min(ours):.0f})")


if __name__ == "__main__":
    main()
