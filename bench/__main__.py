"""Run rivals side by side: `python -m bench --help`."""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any

from bench import machine, report, workloads
from bench.adapters import FLEETS, NETWORKS, PEERS, Suite, plain_numpy
from bench.worker import Worker, WorkerError
from bench.workloads import OTHERS, TABLE, WORKLOADS, Workload, loss_of, make_rows, make_weights

GROUPS = {"table": TABLE, "others": OTHERS, "all": TABLE + OTHERS, "fleets": workloads.FLEETS}

TOLERANCES = {"float32": 1e-4, "float64": 1e-9}
"""How far the final loss of the unshuffled run may be from the expected one, relative. Float32 rounds at 6e-8, and
hundreds of steps amplify that: correct libraries were seen up to 2e-5 away. A learning rate one percent off is 7e-4 or
more away."""

SETTLING = 0.1
"""Seconds between two runs: pools of threads (OpenBLAS's) spin for a while when their work is done, which would be on
the next library's time."""


LEAST_STEPS = 100
"""of each network of a fleet in a timed run, however long it takes: training has many, and the fixed cost of a call
should count for all libraries alike"""


@cache
def expected_loss(workload: Workload) -> float:
    """The final loss of the unshuffled run: hand-written NumPy in float64, whatever the workload's dtype."""
    exact = replace(workload, dtype="float64")
    # The very numbers that the libraries start from, which may have been rounded to float32.
    rows = make_rows(workload)
    rows = rows._replace(X=rows.X.astype(float), y=rows.y.astype(float))
    weights = [(W.astype(float), b.astype(float)) for W, b in make_weights(workload)]
    trained = plain_numpy.prepare(exact, rows, weights, 1).run(workload.check_epochs, shuffle=False).weights
    return loss_of(exact, rows, trained)


def admit(worker: Worker, name: str, workload: Workload) -> dict[str, Any]:
    """The correctness gate: WorkerError unless the library learns what it should."""
    expected = expected_loss(PEERS[name].share(workload))
    loss = worker.run(workload.check_epochs, shuffle=False)["loss"]
    error = abs(loss / expected - 1)
    tolerance = max(TOLERANCES[workload.dtype], PEERS[name].tolerance)
    if not error <= tolerance:
        raise WorkerError(f"wrong: final loss {loss:.9g}, expected {expected:.9g} within {tolerance:g} relative")
    return {"title": PEERS[name].title, "note": worker.about["note"], "loss": loss, "loss_error": error}


def epochs_for(worker: Worker, workload: Workload, seconds: float) -> int:
    """How many epochs take about that long; warms up on the way."""
    epochs = 1 if workload.members is None else -(-LEAST_STEPS // workload.steps_per_epoch)
    while (took := worker.run(epochs, shuffle=workload.shuffled)["seconds"]) < seconds / 2:
        epochs = math.ceil(epochs * min(100, seconds / took))
    return epochs


def measure(
    workload: Workload, names: Sequence[str], n_threads: int, repetitions: int, seconds: float
) -> dict[str, Any]:
    """All rivals on one workload, in turns: A B C A B C ..., and the machine's peak once in each round."""
    rivals: dict[str, dict[str, Any]] = {}
    running: dict[str, tuple[Worker, int]] = {}
    peaks: list[float | None] = []
    with ExitStack() as stack:
        for name in names:
            try:
                worker = stack.enter_context(closing(Worker(name, workload, n_threads)))
                rivals[name] = admit(worker, name, workload)
                running[name] = worker, epochs_for(worker, workload, seconds)
            except WorkerError as error:
                rivals[name] = {"title": PEERS[name].title, "absent": str(error)}
            print(f"{workload.name}: {PEERS[name].title} {rivals[name].get('absent', 'ready')}", file=sys.stderr)
        times: dict[str, list[float]] = {name: [] for name in running}
        busy = []
        for _ in range(repetitions):
            peaks.append(machine.peak(workload.dtype, n_threads))
            for name, (worker, epochs) in list(running.items()):
                try:
                    run = worker.run(epochs, shuffle=workload.shuffled)
                    if not run["loss"] < worker.about["initial_loss"]:
                        raise WorkerError(f"wrong: the timed run ended with loss {run['loss']:.6g}")
                except WorkerError as error:
                    rivals[name] = {"title": PEERS[name].title, "absent": str(error)}
                    del running[name], times[name]
                    continue
                time.sleep(SETTLING)
                steps = epochs * workload.steps_per_epoch * (PEERS[name].share(workload).members or 1)
                times[name].append(1e6 * run["seconds"] / steps)
                busy.append(run["busy"])
                rivals[name]["compile_seconds"] = run["compile_seconds"]
    known = [peak for peak in peaks if peak is not None]
    peak = median(known) if known else None
    for name, microseconds in times.items():
        rivals[name] |= {
            "microseconds": microseconds,
            "median": median(microseconds),
            "minimum": min(microseconds),
        }
    return {
        **asdict(workload),
        "flops_per_step": workload.flops_per_step,
        "expected_loss": expected_loss(workload),
        "peak_gflops": peak,
        "busy": median(busy) if busy else None,
        "rivals": rivals,
    }


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Time backprop beside its peers.")
    parser.add_argument("workloads", nargs="*", metavar="WORKLOAD",
                        help=f"{', '.join([*GROUPS, *WORKLOADS])} (default: table)")  # fmt: skip
    parser.add_argument("--random", type=int, default=0, metavar="N", help="N fleets of random shapes instead")
    parser.add_argument("--alone", action="store_true", help="single networks of random shapes instead of fleets")
    parser.add_argument("--seed", type=int, default=0, help="of the first random one, then upwards (default: 0)")
    parser.add_argument("--peers", help="comma-separated; default: all of them, of random ones those of the ratios")
    parser.add_argument("--threads", type=int, default=1, help="threads, and processors, for each (default: 1)")
    parser.add_argument("--repetitions", type=int, default=7, help="rounds (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=0.2, help="length of one timed run (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("bench/results/latest"), metavar="STEM",
                        help="writes STEM.json, STEM.md and STEM.png (default: %(default)s)")  # fmt: skip
    parser.add_argument("--keep", action="store_true",
                        help="writes under the name of the processor, for bench.processors")  # fmt: skip
    return parser


def choose(parser: argparse.ArgumentParser, options: argparse.Namespace) -> tuple[Suite, list[Workload], list[str]]:
    """What is measured, and who takes part."""
    if options.alone and not options.random:
        parser.error("--alone: needs --random, whose networks it trains alone")
    known = GROUPS | {name: (workload,) for name, workload in WORKLOADS.items()}
    asked = options.workloads or ([] if options.random else ["table"])
    if unknown := set(asked) - set(known):
        parser.error(f"unknown workload {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    chosen = [workload for name in asked for workload in known[name]]
    random = workloads.random_network if options.alone else workloads.random_fleet
    chosen += [random(options.seed + k) for k in range(options.random)]
    kinds = {workload.members is None for workload in chosen}
    if len(kinds) > 1:
        parser.error("fleets and single networks have different peers: needs one kind of workload")
    suite = NETWORKS if kinds.pop() else FLEETS
    names = list(suite.peers) if not options.random else [suite.ours, *suite.against]
    if options.peers:
        names = options.peers.split(",")
    if unknown := set(names) - set(suite.peers):
        parser.error(f"--peers: unknown {', '.join(sorted(unknown))}; there are {', '.join(suite.peers)}")
    return suite, chosen, names


def main() -> None:
    parser = arguments()
    options = parser.parse_args()
    suite, chosen, names = choose(parser, options)
    if options.keep:
        options.out = Path("bench/results") / machine.slug(options.threads)
    results = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine.describe(),
        "threads": options.threads,
        "cpus_used": machine.pin(options.threads),
        "repetitions": options.repetitions,
        "unit": suite.unit,
        "ours": suite.ours,
        "against": suite.against,
        "workloads": [
            measure(workload, names, options.threads, options.repetitions, options.seconds) for workload in chosen
        ],
    }
    if options.random:
        results = report.weakest(results)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    Path(f"{options.out}.json").write_text(json.dumps(results, indent=1) + "\n")
    Path(f"{options.out}.md").write_text(report.markdown(results))
    report.chart(results, Path(f"{options.out}.png"))
    print(report.markdown(results))


if __name__ == "__main__":
    main()
