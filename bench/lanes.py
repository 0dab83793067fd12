"""Whether networks are faster side by side, in the lanes of vectors, or one by one: python -m bench.lanes [v4 ...]

Each number is the time of a step one by one over that side by side, on one thread, for 64 networks with Adam. This is
what `lanes_pay` in the core goes by.
"""

from __future__ import annotations

import copy
import sys
import time

import numpy as np
from backprop import Adam, Dense
from backprop.backends import choice
from backprop.base import random
from backprop.base.fleet import MEMBER, FleetData, FleetRates, FleetState
from backprop.base.types import TrainingSettings
from backprop.losses import LOSSES
from backprop.reference.layout import parameter_count

SIZE, N_ROWS, SECONDS = 64, 300, 0.1
SHAPES = (
    [4, 4, 1],
    [8, 16, 1],
    [8, 32, 1],
    [16, 16, 16, 1],
    [32, 16, 2],
    [20, 32, 32, 1],
    [16, 64, 10],
    [16, 64, 64, 1],
)
BATCHES = (1, 8, 32, 64, 100, 160, 220)


def state_of(layers, n_inputs, optimizer, dtype):
    rng = np.random.default_rng(0)
    n = parameter_count(n_inputs, layers)
    parameters = (0.3 * rng.normal(size=(SIZE, n))).astype(dtype)
    state = FleetState(
        parameters, np.zeros((SIZE, optimizer.n_slots, n), dtype), np.zeros(SIZE, MEMBER), np.empty((0, n), dtype)
    )
    state.members["random"] = [random.words(np.random.PCG64(k)) for k in range(SIZE)]
    state.members["best_loss"], state.members["rate_scale"] = np.inf, 1.0
    return state


def seconds_per_epoch(core, shape, batch_size, dtype, in_lanes):
    """The fastest of three runs of some epochs."""
    n_inputs, *widths = shape
    layers = tuple(Dense(n, "relu" if k < len(widths) - 1 else "identity") for k, n in enumerate(widths))
    n_rows = max(batch_size, N_ROWS) if batch_size < 64 else batch_size
    rng, optimizer = np.random.default_rng(1), Adam()
    data = FleetData(
        SIZE,
        rng.normal(size=(SIZE, n_rows, n_inputs)).astype(dtype),
        rng.normal(size=(SIZE, n_rows, widths[-1])).astype(dtype),
    )
    start, settings = state_of(layers, n_inputs, optimizer, dtype), TrainingSettings(batch_size=batch_size)
    loss, rates = LOSSES["squared_error"](), FleetRates(np.full(SIZE, optimizer.learning_rate))

    def run(epochs):
        state = copy.deepcopy(start)
        training = core.FleetTraining(
            n_inputs, [layers], loss, [optimizer], settings, data, state, rates, in_lanes=in_lanes
        )
        losses, begun = np.empty((epochs, SIZE)), time.perf_counter()
        training.run(0, epochs, float("inf"), losses)
        return (time.perf_counter() - begun) / epochs

    epochs = max(1, round(SECONDS / run(2)))
    return min(run(epochs) for _ in range(3))


def main(backends):
    for name in backends or choice.available()[:-1]:
        for dtype in (np.float32, np.float64):
            core = choice.load(name).module(dtype)
            print(f"\n| {name}, {np.dtype(dtype).name} | parameters | " + " | ".join(map(str, BATCHES)) + " |")
            print("| --- " * (len(BATCHES) + 2) + "|")
            for shape in SHAPES:
                n = parameter_count(shape[0], [Dense(units) for units in shape[1:]])
                cells = [f"| {'-'.join(map(str, shape))} | {n:,}"]
                for batch_size in BATCHES:
                    times = [seconds_per_epoch(core, shape, batch_size, dtype, lanes) for lanes in (False, True)]
                    cells.append(f"{times[0] / times[1]:.2f}")
                print(" | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
