"""Threads that train on derivatives: each has tangents of its own, and none changes a bit."""

from dataclasses import replace

import backprop as bp
import numpy as np
import pytest
from backends import each_compiled
from backprop.backends import choice
from backprop.base.state import TrainingState
from backprop.base.types import Data, TrainingSettings
from backprop.losses import SquaredError, WithDerivatives


@each_compiled
@pytest.mark.parametrize("hidden", [6, 150], ids=["blocks", "no blocks"])  # the latter go through one thread
def test_threads_share_blocks_of_chunks(hidden, backend, rng, monkeypatch):
    """Batches of several blocks, a last one of a single chunk, validation, and the loss of all rows."""
    monkeypatch.setenv("BACKPROP_THREADS", "fixed")
    X, y, dy = rng.normal(size=(900, 3)), rng.normal(size=(900, 2)), rng.normal(size=(900, 2, 3))
    found = []
    for n_threads in (1, 2, 3, 7):
        net = bp.mlp([3, hidden, hidden, 2], hidden="tanh", dtype="float64", seed=0, backend=backend)
        net.fit(
            X, (y, dy), loss=WithDerivatives(), batch_size=350, epochs=3, validation_split=0.2, n_threads=n_threads,
            sample_weight=np.linspace(0, 2, len(X)),
        )  # fmt: skip
        net.minimize(X, (y, dy), loss=WithDerivatives(), max_iter=4, n_threads=n_threads)
        found.append(net.parameters.tobytes() + net.history["loss"].tobytes())
    assert len(set(found)) == 1


@each_compiled
@pytest.mark.parametrize(("hidden", "n_threads"), [(6, 3), (150, 1)], ids=["blocks", "no blocks"])
def test_where_a_team_takes_part(hidden, n_threads, backend, rng):
    core, layers = choice.load(backend).module(np.float64), [bp.Dense(hidden, "tanh"), bp.Dense(hidden), bp.Dense(2)]
    plan, loss = core.Plan(3, layers), replace(WithDerivatives(), loss=SquaredError())
    data = Data(rng.normal(size=(900, 3)), rng.normal(size=(900, 2 + 2 * 3)))
    state = TrainingState(rng.normal(size=plan.n_parameters), np.empty((0, plan.n_parameters)), np.random.PCG64(0))
    settings = TrainingSettings(n_threads=3, batch_size=350, fixed_threads=True)
    training = core.Training(plan, loss, bp.SGD(), settings, data, state, np.array([0.1]))
    assert training.n_threads == n_threads


def test_auto_counts_what_derivatives_cost(rng, monkeypatch):
    """As many times as there are derivatives, and once more; of fleets, the arithmetic of all members; for L-BFGS 2.5
    times as much, as threads meet that much less often."""
    X, y, dy = rng.normal(size=(500, 30)), rng.normal(size=500), rng.normal(size=(500, 30))
    seen = []
    monkeypatch.setattr("backprop.base.threads.choose", lambda n, flops, most: seen.append(flops) or 1)
    net, fleet = (each([30, 32, 32, 1]) for each in (bp.mlp, of_two))
    for model in (net, fleet):
        model.fit(X, (y, dy), loss=WithDerivatives(), batch_size=500, epochs=1)
    net.train_on_batch(X, (y, dy), loss=WithDerivatives())
    net.minimize(X, (y, dy), loss=WithDerivatives(), max_iter=1)
    net.fit(X, y, batch_size=500, epochs=1)
    assert seen == [times * seen[-1] for times in (31, 2 * 31, 31, 2.5 * 31, 1)]


def of_two(sizes):
    return bp.Fleet.of([bp.mlp(sizes, seed=seed) for seed in range(2)])
