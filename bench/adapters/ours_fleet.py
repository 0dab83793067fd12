"""backprop's fleets: all networks in one call of `bp.Fleet.fit`."""

from __future__ import annotations

from time import perf_counter

import backprop as bp

from bench.adapters import Run, member_of, stacked
from bench.adapters.ours import Backprop
from bench.workloads import Rows, Weights, Workload


class Fleet:
    def __init__(self, workload: Workload, rows: Rows, weights: Weights, n_threads: int) -> None:
        self.one = Backprop(*member_of(workload, rows, weights, 0), n_threads)
        self.note = self.one.note
        self.X, self.y = rows.X, rows.y if rows.labels is None else rows.labels
        self.initial = bp.Fleet(self.one.workload.sizes[0], self.one.layers, size=len(self.X), dtype=workload.dtype)
        for k, network in enumerate(self.initial):
            network.weights = [W[k] for W, _ in weights]
            network.biases = [b[k, 0] for _, b in weights]

    def run(self, epochs: int, *, shuffle: bool) -> Run:
        fleet = self.initial.copy()
        start = perf_counter()
        fleet.fit(self.X, self.y, epochs=epochs, shuffle=shuffle, **self.one.settings)
        seconds = perf_counter() - start
        return Run(seconds, stacked([list(zip(net.weights, net.biases, strict=True)) for net in fleet]))


def prepare(workload: Workload, rows: Rows, weights: Weights, n_threads: int) -> Fleet:
    return Fleet(workload, rows, weights, n_threads)
