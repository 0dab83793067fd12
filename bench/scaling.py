"""What more threads gain, with the same bits: python -m bench.scaling [WORKLOAD ...] [--threads 2] [--rounds 11]

A run with one thread and one with several, in turns, so that both meet the machine in the same moods. Each number is
the time of one thread over that of several: of the medians, and in brackets of the fastest runs. The last column is the
same of independent multiply-adds, which share nothing: what these processors, and their other users, let threads gain.
"""

from __future__ import annotations

import argparse
import sys
import time
from contextlib import ExitStack, closing
from statistics import median

from bench import machine
from bench.__main__ import GROUPS, SETTLING, epochs_for
from bench.adapters import FLEETS, NETWORKS
from bench.worker import Worker
from bench.workloads import WORKLOADS, Workload

SECONDS = 0.3


def ratios(one: list[float], several: list[float]) -> str:
    """Return the gain by the medians and, in brackets, by the fastest."""
    return f"{median(one) / median(several):.2f} ({min(one) / min(several):.2f})"


def measure(workload: Workload, n_threads: int, rounds: int) -> list[str]:
    """Return the cells of a line."""
    suite = NETWORKS if workload.members is None else FLEETS
    seconds: dict[int, list[float]] = {1: [], n_threads: []}
    bound: dict[int, list[float]] = {1: [], n_threads: []}
    with ExitStack() as stack:
        workers = {n: stack.enter_context(closing(Worker(suite.ours, workload, n))) for n in seconds}
        epochs = epochs_for(workers[1], workload, SECONDS)
        workers[n_threads].run(epochs, shuffle=workload.shuffled)  # warms up
        for _ in range(rounds):
            for n, worker in workers.items():
                seconds[n].append(worker.run(epochs, shuffle=workload.shuffled)["seconds"])
                time.sleep(SETTLING)
                bound[n].append(1 / (machine.peak(workload.dtype, n) or float("nan")))
    steps = epochs * workload.steps_per_epoch * (workload.members or 1)
    times = [f"{1e6 * median(each) / steps:.4g} ({1e6 * min(each) / steps:.4g})" for each in seconds.values()]
    return [workload.name, *times, *(ratios(each[1], each[n_threads]) for each in (seconds, bound))]


def main() -> None:
    """Print a line for each workload."""
    parser = argparse.ArgumentParser(prog="python -m bench.scaling", description=__doc__.splitlines()[0])
    parser.add_argument("workloads", nargs="*", metavar="WORKLOAD", help="default: fleets")
    parser.add_argument("--threads", type=int, default=2, help="2 or more (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=11, help="1 or more (default: %(default)s)")
    options = parser.parse_args()
    known = GROUPS | {name: (workload,) for name, workload in WORKLOADS.items()}
    asked = options.workloads or ["fleets"]
    if unknown := [name for name in asked if name not in known]:
        parser.error(f"unknown workload {unknown[0]}; there are {', '.join(known)}")
    for name, least in (("threads", 2), ("rounds", 1)):
        if (got := getattr(options, name)) < least:
            parser.error(f"--{name}: needs {least} or more, got {got}")
    n = options.threads
    machine.pin(n)
    print(f"{machine.describe()['cpu']}; µs per step", file=sys.stderr)
    print(f"| workload | 1 thread | {n} threads | gain | gain of multiply-adds |")
    print("| --- | --- | --- | --- | --- |")
    for workload in (each for name in asked for each in known[name]):
        print(f"| {' | '.join(measure(workload, n, options.rounds))} |", flush=True)


if __name__ == "__main__":
    main()
