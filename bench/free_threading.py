"""What Python's own threads gain, each with its own `fit` or all in one `predict`: python -m bench.free_threading

Each thread does the same number of calls. The core works without the GIL, so Python need not be built without it; with
such a build, short calls gain, too. A task's cost is the time that its thread spends on a processor or asleep, waiting
for a lock: not that in which it is ready and other programs have the processor (Linux knows it of each thread). So the
gain, ``n * cost of one thread / cost of the slowest of n``, is that of a machine with a processor for each, also beside
other load; only, the threads meet less often there, and short calls seem to gain more than they do. The gain by the
clock stands beside it. The yardstick is a loop in C that shares nothing, SHA-256 of a block in the cache.
All take turns in each round, and each number is the median of the rounds.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter

import backprop as bp
import numpy as np

from bench import machine

SECONDS = 0.02
Task = Callable[[int], object]
"""One call of a thread, which says its number."""


def tasks(n_threads: int) -> dict[str, Task]:
    rng = np.random.default_rng(0)
    X = rng.standard_normal((2000, 16), np.float32)
    y = np.sin(X).sum(axis=1)
    middle = [bp.mlp([16, 64, 64, 1], seed=k) for k in range(n_threads)]
    small = [bp.mlp([2, 4, 1], seed=k) for k in range(n_threads)]
    fleets = [bp.Fleet.of([bp.mlp([16, 8, 1], seed=k) for k in range(32)]) for _ in range(n_threads)]
    shared, one_row = bp.mlp([16, 64, 64, 1], seed=0), X[:1].copy()
    rows = [one_row.copy() for _ in range(n_threads)]
    outputs = [np.empty((len(X), 1), np.float32) for _ in range(n_threads)]
    block = bytes(65536)
    fit = {"n_threads": 1, "progress": False}
    return {
        "yardstick: SHA-256": lambda rank: hashlib.sha256(block).digest(),
        "fit, 16-64-64-1": lambda rank: middle[rank].fit(X, y, epochs=2, batch_size=32, **fit),
        "fit, 2-4-1": lambda rank: small[rank].fit(X[:4, :2], y[:4], epochs=20_000, **fit),
        "fit, 32 of 16-8-1": lambda rank: fleets[rank].fit(X, y, epochs=2, batch_size=32, **fit),
        "predict, 2,000 rows": lambda rank: shared.predict(X, out=outputs[rank]),
        "predict, one row": lambda rank: shared.predict(one_row),
        "the same, own rows": lambda rank: shared.predict(rows[rank]),
        "the same, own rows and outputs": lambda rank: shared.predict(rows[rank], out=outputs[rank][:1]),
        "the same, own networks": lambda rank: middle[rank].predict(rows[rank], out=outputs[rank][:1]),
    }


def waited() -> float:
    """Seconds in which this thread was ready and had no processor, where the system says so."""
    path = Path("/proc/thread-self/schedstat")
    return int(path.read_text().split()[1]) / 1e9 if path.exists() else 0.0


def seconds(task: Task, n_calls: int, n_threads: int) -> tuple[float, float]:
    """By the clock, until the last thread has done its calls, and the cost of the slowest."""
    begin, costs = threading.Barrier(n_threads + 1), [0.0] * n_threads

    def work(rank: int) -> None:
        begin.wait()
        start, ready = perf_counter(), waited()
        for _ in range(n_calls):
            task(rank)
        costs[rank] = perf_counter() - start - (waited() - ready)

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(n_threads)]
    for thread in threads:
        thread.start()
    begin.wait()
    start = perf_counter()
    for thread in threads:
        thread.join()
    return perf_counter() - start, max(costs)


def calls_for(task: Task, wanted: float) -> int:
    n_calls = 1
    while (taken := seconds(task, n_calls, 1)[1]) < wanted / 4:
        n_calls *= 2
    return max(1, round(n_calls * wanted / taken))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.free_threading", description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=25)
    options = parser.parse_args()
    n = options.threads
    machine.pin(n)
    every = tasks(n)
    n_calls = {name: calls_for(task, SECONDS) for name, task in every.items()}
    found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in every}
    for _ in range(options.rounds):
        for name, task in every.items():
            one, many = (seconds(task, n_calls[name], k) for k in (1, n))
            found[name].append((one[1] / n_calls[name], n * one[1] / many[1], n * one[0] / many[0]))
    has_gil = getattr(sys, "_is_gil_enabled", lambda: True)()
    gil = "with the GIL" if has_gil else "without the GIL"
    print(f"Python {sys.version.split()[0]} {gil}, backend {bp.mlp([1, 1]).backend}")
    load = f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"
    print(f"{n} threads, {options.rounds} rounds, load average at the end {load}\n")
    print("| | µs a call | gain | gain by the clock |")
    print("| --- | --- | --- | --- |")
    for name, rounds in found.items():
        cost, gain, by_clock = (median(column) for column in zip(*rounds, strict=True))
        print(f"| {name} | {1e6 * cost:,.1f} | {gain:.2f} | {by_clock:.2f} |")


if __name__ == "__main__":
    main()
