"""Hand-written NumPy: what a careful person writes for any stack of dense layers.

A fleet's arrays have one more axis in front, and the matrix products are stacked ones.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from bench.adapters import Run
from bench.workloads import Real, Rows, Weights, Workload


def _sigmoid(z: Real) -> Real:
    return 1 / (1 + np.exp(-z))


Function = Callable[[Real], Real]
ACTIVATIONS: dict[str, Function] = {"sigmoid": _sigmoid, "tanh": np.tanh, "relu": lambda z: np.maximum(z, 0)}
DERIVATIVES: dict[str, Function] = {
    "sigmoid": lambda a: a * (1 - a),
    "tanh": lambda a: 1 - a * a,
    "relu": lambda a: a > 0,
}
"""in terms of the activation's value"""


def _half_sse_sigmoid(z: Real, y: Real) -> Real:
    a = _sigmoid(z)
    return (a - y) * a * (1 - a)


def _mse(z: Real, y: Real) -> Real:
    return (z - y) * (2 / (z.shape[-2] * z.shape[-1]))


def _binary_cross_entropy(z: Real, y: Real) -> Real:
    return (_sigmoid(z) - y) / z.shape[-2]


def _cross_entropy(z: Real, y: Real) -> Real:
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return (e / e.sum(axis=-1, keepdims=True) - y) / z.shape[-2]


# the loss's gradient with respect to the output layer's scores
HEADS = {
    "half_sse_sigmoid": _half_sse_sigmoid,
    "mse": _mse,
    "binary_cross_entropy": _binary_cross_entropy,
    "cross_entropy": _cross_entropy,
}


class Updates:
    """The optimizers, each as PyTorch defines it, in place over the list of parameters."""

    def __init__(self, workload: Workload, parameters: list[Real]) -> None:
        self.learning_rate, self.momentum = workload.learning_rate, workload.momentum
        self.parameters = parameters
        self.first = [np.zeros_like(p) for p in parameters]
        self.second = [np.zeros_like(p) for p in parameters]
        self.t = 0
        self.update = getattr(self, workload.optimizer)

    def sgd(self, gradients: list[Real]) -> None:
        for p, g, m in zip(self.parameters, gradients, self.first, strict=True):
            if self.momentum:
                m *= self.momentum
                m += g
            p -= self.learning_rate * (m if self.momentum else g)

    def adam(self, gradients: list[Real]) -> None:
        self.t += 1
        rate = self.learning_rate / (1 - 0.9**self.t)
        correction = 1 / np.sqrt(1 - 0.999**self.t).item()
        for p, g, m, v in zip(self.parameters, gradients, self.first, self.second, strict=True):
            m += 0.1 * (g - m)
            v *= 0.999
            v += (1 - 0.999) * (g * g)
            p -= rate * m / (np.sqrt(v) * correction + 1e-8)

    def adamw(self, gradients: list[Real]) -> None:
        for p in self.parameters:
            p *= 1 - self.learning_rate * 0.01
        self.adam(gradients)

    def rmsprop(self, gradients: list[Real]) -> None:
        for p, g, v in zip(self.parameters, gradients, self.second, strict=True):
            v *= 0.99
            v += 0.01 * (g * g)
            p -= self.learning_rate * g / (np.sqrt(v) + 1e-8)

    def adagrad(self, gradients: list[Real]) -> None:
        for p, g, v in zip(self.parameters, gradients, self.second, strict=True):
            v += g * g
            p -= self.learning_rate * g / (np.sqrt(v) + 1e-10)


def rows_of(values: Real, picked: NDArray[np.int64]) -> Real:
    """Those rows; of a fleet, each member's own."""
    return values[picked] if picked.ndim == 1 else values[np.arange(len(values))[:, None], picked]


class PlainNumpy:
    def __init__(self, workload: Workload, rows: Rows, weights: Weights) -> None:
        self.workload, self.rows, self.initial = workload, rows, weights

    def run(self, epochs: int, *, shuffle: bool) -> Run:
        workload, (X, y, _) = self.workload, self.rows
        weights = [(W.copy(), b.copy()) for W, b in self.initial]
        update = Updates(workload, [p for layer in weights for p in layer]).update
        activation, derivative = ACTIVATIONS[workload.activation], DERIVATIVES[workload.activation]
        head = HEADS[workload.head]
        generator = np.random.default_rng(0)
        n, batch, stacked = workload.rows, workload.batch, workload.members is not None
        everyone = np.broadcast_to(np.arange(n), (*workload.stack, n))

        start = perf_counter()
        for _ in range(epochs):
            order = generator.permuted(everyone, axis=-1) if shuffle else None
            for begin in range(0, n, batch):
                if order is not None:
                    picked = order[..., begin : begin + batch]
                    a, target = rows_of(X, picked), rows_of(y, picked)
                else:
                    a, target = X[..., begin : begin + batch, :], y[..., begin : begin + batch, :]
                inputs = []
                for W, b in weights[:-1]:
                    inputs.append(a)
                    a = activation(a @ W + b)
                inputs.append(a)
                W, b = weights[-1]
                delta = head(a @ W + b, target)
                gradients: list[Real] = []
                for k in range(len(weights) - 1, -1, -1):
                    gradients[:0] = (np.swapaxes(inputs[k], -1, -2) @ delta, delta.sum(axis=-2, keepdims=stacked))
                    if k:
                        delta = (delta @ np.swapaxes(weights[k][0], -1, -2)) * derivative(inputs[k])
                update(gradients)
        return Run(perf_counter() - start, weights)


def prepare(workload: Workload, rows: Rows, weights: Weights, n_threads: int) -> PlainNumpy:
    return PlainNumpy(workload, rows, weights)
