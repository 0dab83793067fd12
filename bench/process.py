"""What a user waits for outside long training runs: `python -m bench.process`.

Starting a process, importing, XOR from nothing to trained; one prediction, and many.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import backprop as bp
import numpy as np

from bench import machine

PROCESSES = {
    "python alone": "pass",
    "import numpy": "import numpy",
    "import backprop": "import backprop",
    "examples/xor.py": (Path(__file__).parents[1] / "examples" / "xor.py").read_text(),
}
"""What each runs; the example trains for 10,000 epochs."""
IMPORT_TIMES = """
from time import perf_counter
start = perf_counter(); import numpy
middle = perf_counter(); import backprop
print([middle - start, perf_counter() - middle])
"""


def wall(code: str) -> float:
    start = perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
    return perf_counter() - start


def spread(seconds: list[float], unit: float) -> str:
    return f"{median(seconds) * unit:8.3g} ({min(seconds) * unit:.3g})"


def per_call(call: Callable[[], Any], calls: int, repetitions: int) -> list[float]:
    times = []
    for _ in range(repetitions):
        start = perf_counter()
        for _ in range(calls):
            call()
        times.append((perf_counter() - start) / calls)
    return times


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.process", description=__doc__.split("\n")[0])
    parser.add_argument("--repetitions", type=int, default=9)
    repetitions = parser.parse_args().repetitions
    machine.pin(1)

    processes: dict[str, list[float]] = {title: [] for title in PROCESSES}
    imports: list[list[float]] = []
    for _ in range(repetitions):
        for title, code in PROCESSES.items():
            processes[title].append(wall(code))
        run = subprocess.run([sys.executable, "-c", IMPORT_TIMES], check=True, capture_output=True, text=True)
        imports.append(json.loads(run.stdout))
    print(f"Whole processes, ms, median (fastest) of {repetitions}")
    for title, times in processes.items():
        print(f"  {title:32} {spread(times, 1e3)}")
    print("Import statements, ms")
    print(f"  {'numpy':32} {spread([numpy for numpy, _ in imports], 1e3)}")
    print(f"  {'backprop, after numpy':32} {spread([added for _, added in imports], 1e3)}")

    net = bp.mlp([64, 64, 10], hidden="relu", output="softmax", seed=0)
    rows = np.random.default_rng(0).standard_normal((10_000, 64), dtype=np.float32)
    one = rows[:1].copy()
    print(f"net.predict, 64-64-10 relu softmax float32, backend {net.backend}")
    print(f"  {'1 row, µs':32} {spread(per_call(lambda: net.predict(one), 5_000, repetitions), 1e6)}")
    many = per_call(lambda: net.predict(rows), 20, repetitions)
    print(f"  {'10,000 rows, µs':32} {spread(many, 1e6)}")
    peak = machine.peak("float32", 1)
    rate = 2 * (64 * 64 + 64 * 10) * len(rows) / median(many) / 1e9
    share = f", {rate / peak:.0%} of the peak of {peak:.0f}" if peak else ""
    print(f"  {'10,000 rows, GFLOP/s':32} {rate:8.3g}{share}")


if __name__ == "__main__":
    main()
