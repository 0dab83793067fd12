"""Threads that train on derivatives: each has tangents of its own, and none changes a bit."""

import backprop as bp
import numpy as np
import pytest
from backends import each_compiled
from backprop.losses import WithDerivatives


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
