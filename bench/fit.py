"""What `fit` adds to the core's own loop, on XOR: `python -m bench.fit`.

Every row is timed in turn, again and again, so that a machine that slows down slows all of them.

`python -m bench.fit --slices`: the cost of looking for Ctrl-C every 50 ms, on a small and on a wide network.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from statistics import median
from time import process_time as clock  # its own time: other programs do not count
from types import SimpleNamespace
from typing import Any
from unittest import mock

import backprop as bp
import numpy as np
from backprop.base.state import TrainingState
from backprop.base.types import Data, TrainingSettings
from backprop.learn import pace
from backprop.learn import run as running
from backprop.learn.job import Job

from bench import machine

X = np.array([[0.0, 0], [0, 1], [1, 0], [1, 1]], np.float32)
Y = np.array([[0.0], [1], [1], [0]], np.float32)


def network() -> bp.Network:
    return bp.mlp([2, 2, 1], hidden="tanh", output="sigmoid", seed=0)


def bare(epochs: int) -> float:
    """The core's loop in one call, without anything around it."""
    net, optimizer = network(), bp.Adam()
    slots = optimizer.new_slots(net.n_parameters, net.dtype)
    state = TrainingState(net.parameters, slots, np.random.PCG64(0))
    loss, losses, rates = bp.losses.BinaryCrossEntropy(), np.empty(epochs), np.array([optimizer.learning_rate])
    # the core that `fit` takes for so few rows
    core = net._backend.for_batches(len(X), 0, [2, 1], net.dtype).module(net.dtype)
    plan = core.Plan(2, net.layers)
    run = core.Training(plan, loss, optimizer, TrainingSettings(), Data(X, Y), state, rates).run
    start = clock()
    run(epochs, float("inf"), losses)
    return clock() - start


def fitted(**settings: object) -> Callable[[int], float]:
    """`fit` with defaults and these settings."""

    def run(epochs: int) -> float:
        net = network()
        start = clock()
        net.fit(X, Y, epochs=epochs, **settings)  # type: ignore[arg-type]
        took = clock() - start
        assert net.history.epochs == epochs
        return took

    return run


class Nothing(bp.callbacks.Callback):
    """Asks for nothing."""


class Each(bp.callbacks.Callback):
    """Is called after each epoch and does nothing."""

    def on_epoch_end(self, network: bp.Network, epoch: int, logs: object) -> None:
        pass


def cases() -> dict[str, tuple[Callable[[int], float], float]]:
    """Each case, and what share of the epochs it is timed for."""
    validation = {"validation_data": (X, Y), "progress": False}
    stopping = bp.callbacks.EarlyStopping("val_loss", patience=10**9, restore_best=True)
    cosine = bp.schedules.Cosine(length=1000, restarts=True)
    return {
        "core's own loop": (bare, 1),
        "fit, defaults": (fitted(), 1),
        "a callback that asks for nothing": (fitted(callbacks=[Nothing()]), 1),
        "a cosine schedule": (fitted(schedule=cosine), 1),
        "early stopping on the validation loss": (fitted(callbacks=[stopping], **validation), 1),
        "an empty on_epoch_end": (fitted(callbacks=[Each()]), 0.02),
    }


def fixed_cost(calls: int) -> float:
    """Seconds for one call of `fit` with one epoch, on a network that has been trained before."""
    net = network()
    net.fit(X, Y, epochs=1)
    start = clock()
    for _ in range(calls):
        net.fit(X, Y, epochs=1)
    return (clock() - start) / calls


# sizes, rows, batch size, epochs in a few seconds
SLICED = {
    "2-2-1, full batch": ([2, 2, 1], 4, None, 10_000_000),
    "256-1024-1024-10, batches of 256": ([256, 1024, 1024, 10], 1024, 256, 60),
}


def timed(function: Callable[..., Any], seconds: list[float]) -> Callable[..., Any]:
    """The function, with how long each call of it took."""

    def call(*arguments: Any) -> Any:
        start = clock()
        try:
            return function(*arguments)
        finally:
            seconds.append(clock() - start)

    return call


def costs(case: str, n_threads: int) -> dict[str, float]:
    """What parts of a run with Adam go to anything but the core's own work, and how many calls of the core there were.

    Slices: all of the loop around the core that is none of the rest, and, for each call of the core, the time of one
    that trains nothing: it makes a team of threads and lets it go. Snapshots are for divergence. The difference of two
    whole runs, one of them in a single call, would drown in what runs differ from each other.
    """
    sizes, n_rows, batch_size, epochs = SLICED[case]
    rng = np.random.default_rng(0)
    X, y = (rng.standard_normal((n_rows, width), np.float32) for width in (sizes[0], sizes[-1]))
    net, Run, make = bp.mlp(sizes, hidden="tanh", seed=0), running.Run, Job.training
    loop: list[float] = []
    core: list[float] = []
    history: list[float] = []
    snapshots: list[float] = []
    empty: list[float] = []
    made: list[Any] = []

    def training_of(job: Any, rates: Any) -> Any:
        made.append(make(job, rates))
        return SimpleNamespace(run=timed(made[-1].run, core), set_learning_rates=made[-1].set_learning_rates)

    with (
        mock.patch.object(Job, "training", training_of),
        mock.patch.object(Run, "loop", timed(Run.loop, loop)),
        mock.patch.object(Run, "record", timed(Run.record, history)),
        mock.patch.object(running, "is_finite", timed(running.is_finite, snapshots)),
        mock.patch.object(running.Snapshot, "__init__", timed(running.Snapshot.__init__, snapshots)),
        mock.patch.object(running.Snapshot, "take", timed(running.Snapshot.take, snapshots)),
    ):
        net.fit(X, y, epochs=epochs, batch_size=batch_size, n_threads=n_threads, progress=False)
    assert net._state is not None
    nothing = timed(made[-1].run, empty)
    for _ in range(200):
        nothing(net._state.epoch, 0.0, np.empty(0))
    whole, others = sum(loop), sum(history) + sum(snapshots)
    slices = whole - sum(core) - others + len(core) * median(empty)
    parts = {"slices": slices, "snapshots": sum(snapshots), "history": sum(history)}
    return {**{name: 100 * seconds / whole for name, seconds in parts.items()}, "calls": len(core)}


def compare_slices(repetitions: int) -> None:
    """Print what slices add to a run in one call of the core."""
    slices = f"slices of {1000 * pace.SLICE_SECONDS:.0f} ms"
    print(f"backend {network().backend}, {slices}; parts of a run in %, median (most) of {repetitions}")
    print(f"{'':44} {'slices':>14} {'snapshots':>14} {'history':>14} {'calls':>6}")
    for case in SLICED:
        for n_threads in (1, 2):
            runs = [costs(case, n_threads) for _ in range(repetitions)]
            values = {name: [run[name] for run in runs] for name in runs[0]}
            name = f"{case}, {n_threads} thread{'s' * (n_threads > 1)}"
            shown = [f"{median(values[part]):.2f} ({max(values[part]):.2f})" for part in list(values)[:3]]
            print(f"{name:44} {shown[0]:>14} {shown[1]:>14} {shown[2]:>14} {median(values['calls']):6.0f}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.fit", description=__doc__.split("\n")[0])
    parser.add_argument("--epochs", type=int, default=1_000_000)
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--slices", action="store_true", help="the cost of looking for Ctrl-C")
    options = parser.parse_args()
    if options.slices:
        return compare_slices(options.repetitions)
    machine.pin(1)
    times: dict[str, list[float]] = {name: [] for name in cases()}
    calls = []
    for _ in range(options.repetitions):
        for name, (run, share) in cases().items():
            epochs = max(1, int(options.epochs * share))
            times[name].append(1e9 * run(epochs) / epochs)
        calls.append(1e6 * fixed_cost(1000))
    base, fastest = median(times["core's own loop"]), min(times["core's own loop"])
    print(f"XOR, {options.epochs:,} epochs, backend {network().backend}; median (fastest) of {options.repetitions}")
    print(f"{'':38} {'ns per epoch':>18} {'over the core':>18}")
    for name, each in times.items():
        over = f"{100 * (median(each) / base - 1):.1f} % ({100 * (min(each) / fastest - 1):.1f} %)"
        print(f"{name:38} {median(each):9.1f} ({min(each):.1f}) {over:>18}")
    print(f"{'one call of fit':38} {median(calls):9.1f} us ({min(calls):.1f} us)")


if __name__ == "__main__":
    main()
