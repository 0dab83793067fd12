"""What threads cost and gain beside other load: python -m bench.load [mnist higgs ...] [--rounds 5]

A fit with one thread, with one for each processor, and with these in every step (BACKPROP_THREADS=fixed), in turns:
on an idle machine, beside a process that keeps one processor busy, beside one for each processor, and beside one that
computes for a second and sleeps for a second. Each number is the median time over that of one thread.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from backprop.base.threads import usable_cpus

from bench.adapters import ours
from bench.workloads import WORKLOADS, Workload, make_rows, make_weights

SECONDS = 0.5
DEFAULT = ("digits", "deep", "mnist", "wide", "simplechains", "higgs")
WAYS = {"one thread": (1, "auto"), "all": (usable_cpus(), "auto"), "all, fixed": (usable_cpus(), "fixed")}
BUSY = """
import os, sys, time
on, off, parent = float(sys.argv[1]), float(sys.argv[2]), os.getppid()
while os.getppid() == parent:
    end = time.perf_counter() + on
    while time.perf_counter() < end:
        pass
    time.sleep(off)
"""


@contextmanager
def busy(n_processes: int, on: float = 1, off: float = 0) -> Iterator[None]:
    """Processes that compute for `on` seconds and sleep for `off` seconds, beside what is measured."""
    processes = [subprocess.Popen([sys.executable, "-c", BUSY, str(on), str(off)]) for _ in range(n_processes)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def conditions() -> dict[str, tuple[int, float, float]]:
    return {
        "idle": (0, 1, 0),
        "one busy process": (1, 1, 0),
        "a busy process per CPU": (usable_cpus(), 1, 0),
        "one that comes and goes": (1, 1, 1),
    }


def measure(workload: Workload, rounds: int) -> dict[str, list[float]]:
    """Seconds of each way, in turns."""
    rows, weights = make_rows(workload), make_weights(workload)
    training = ours.prepare(workload, rows, weights, 1)
    epochs = 1
    while (taken := training.run(epochs, shuffle=workload.shuffled).seconds) < SECONDS / 10:
        epochs *= 2
    epochs = max(1, round(epochs * SECONDS / taken))
    seconds: dict[str, list[float]] = {name: [] for name in WAYS}
    for _ in range(rounds):
        for name, (n_threads, os.environ["BACKPROP_THREADS"]) in WAYS.items():
            training.settings["n_threads"] = n_threads
            seconds[name].append(training.run(epochs, shuffle=workload.shuffled).seconds)
            time.sleep(0.1)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.load", description=__doc__.splitlines()[0])
    parser.add_argument("workloads", nargs="*", metavar="WORKLOAD", help=f"default: {' '.join(DEFAULT)}")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    known = [name for name, workload in WORKLOADS.items() if workload.members is None]
    if unknown := [name for name in options.workloads if name not in known]:
        parser.error(f"no workload {unknown[0]}; there are {', '.join(known)}")
    print(f"| beside | workload | one thread, s | {usable_cpus()} threads | {usable_cpus()} threads, fixed |")
    print("| --- | --- | --- | --- | --- |")
    for condition, (n, on, off) in conditions().items():
        for name in options.workloads or DEFAULT:
            with busy(n, on, off):
                seconds = measure(WORKLOADS[name], options.rounds)
            one, free, fixed = (statistics.median(seconds[way]) for way in WAYS)
            print(f"| {condition} | {name} | {one:.3f} | {free / one:.2f} | {fixed / one:.2f} |", flush=True)


if __name__ == "__main__":
    main()
