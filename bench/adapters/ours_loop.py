"""backprop without a fleet: one `fit` after another, by as many threads as are wanted.

The networks are made beforehand: only the fits are timed.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from time import perf_counter

from bench.adapters import Run, member_of, stacked
from bench.adapters.ours import Backprop
from bench.workloads import Rows, Weights, Workload


class Loop:
    def __init__(self, workload: Workload, rows: Rows, weights: Weights, n_threads: int) -> None:
        self.members = [Backprop(*member_of(workload, rows, weights, k), 1) for k in range(len(rows.X))]
        self.note = self.members[0].note
        self.n_threads = n_threads

    def run(self, epochs: int, *, shuffle: bool) -> Run:
        networks = [member.network() for member in self.members]

        def fit(part: slice) -> None:
            for member, network in zip(self.members[part], networks[part], strict=True):
                member.fit(network, epochs, shuffle=shuffle)

        parts = [slice(k, None, self.n_threads) for k in range(self.n_threads)]
        with ThreadPoolExecutor(self.n_threads) as pool:
            start = perf_counter()
            list(pool.map(fit, parts))
            seconds = perf_counter() - start
        return Run(seconds, stacked([list(zip(net.weights, net.biases, strict=True)) for net in networks]))


def prepare(workload: Workload, rows: Rows, weights: Weights, n_threads: int) -> Loop:
    return Loop(workload, rows, weights, n_threads)
