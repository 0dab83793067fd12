"""backprop: whatever backend `BACKPROP_BACKEND` names, else its best compiled core."""

from __future__ import annotations

from time import perf_counter
from typing import Any

import backprop as bp

from bench.adapters import Run
from bench.workloads import Rows, Weights, Workload

HEADS = {
    "half_sse_sigmoid": ("sigmoid", bp.losses.SquaredError(scale=0.5, reduction="sum")),
    "mse": ("identity", bp.losses.SquaredError()),
    "binary_cross_entropy": ("sigmoid", bp.losses.BinaryCrossEntropy()),
    "cross_entropy": ("softmax", bp.losses.CrossEntropy()),
}


class Backprop:
    def __init__(self, workload: Workload, rows: Rows, weights: Weights, n_threads: int) -> None:
        self.workload, self.initial = workload, weights
        self.X, self.y = rows.X, rows.y if rows.labels is None else rows.labels
        output, loss = HEADS[workload.head]
        *hidden, last = workload.sizes[1:]
        self.layers = [*(bp.Dense(units, workload.activation) for units in hidden), bp.Dense(last, output)]
        options = {"momentum": workload.momentum} if workload.momentum else {}
        self.settings: dict[str, Any] = {
            "loss": loss,
            "optimizer": bp.optimizers.OPTIMIZERS[workload.optimizer](learning_rate=workload.learning_rate, **options),
            "batch_size": workload.batch,
            # With several processors to use, the library decides whether a workload pays for them, as the others do.
            "n_threads": n_threads if n_threads == 1 else "auto",
            "progress": False,
        }
        self.note = f"backend {self.network().backend}"

    def network(self) -> bp.Network:
        net = bp.Network(self.workload.sizes[0], self.layers, dtype=self.workload.dtype, seed=0)
        net.weights = [W for W, _ in self.initial]
        net.biases = [b for _, b in self.initial]
        return net

    def fit(self, net: bp.Network, epochs: int, *, shuffle: bool) -> None:
        net.fit(self.X, self.y, epochs=epochs, shuffle=shuffle, **self.settings)

    def run(self, epochs: int, *, shuffle: bool) -> Run:
        net = self.network()
        start = perf_counter()
        self.fit(net, epochs, shuffle=shuffle)
        return Run(perf_counter() - start, list(zip(net.weights, net.biases, strict=True)))


def prepare(workload: Workload, rows: Rows, weights: Weights, n_threads: int) -> Backprop:
    return Backprop(workload, rows, weights, n_threads)
