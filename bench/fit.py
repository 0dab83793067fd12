"""What `fit` adds to the core's own loop, on XOR: `python -m bench.fit`.

Every row is timed in turn, again and again, so that a machine that slows down slows all of them.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from statistics import median
from time import process_time as clock  # its own time: other programs do not count

import backprop as bp
import numpy as np
from backprop._types import Data, TrainingSettings, TrainingState

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
    core = net._backend.for_batches(len(X), [2, 1], net.dtype).module(net.dtype)
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


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.fit", description=__doc__.split("\n")[0])
    parser.add_argument("--epochs", type=int, default=1_000_000)
    parser.add_argument("--repetitions", type=int, default=7)
    options = parser.parse_args()
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
