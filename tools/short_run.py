"""Everything that a backend offers, on small networks, once: python tools/short_run.py BACKEND."""

from __future__ import annotations

import sys

import backprop as bp
import numpy as np

backend = sys.argv[1]
rng = np.random.default_rng(0)
n_runs = 0
for dtype in ("float32", "float64"):
    for widths, rows, batch in (
        ((3, 5, 1), 7, 3),
        ((17, 33, 9, 2), 50, 16),
        ((2, 2, 1), 4, 1),
        ((9, 40, 3), 300, None),
        ((6, 20, 1, 17), 23, 7),
    ):
        for k, optimizer in enumerate(bp.optimizers.OPTIMIZERS):
            hidden = list(bp.ACTIVATIONS)[k]
            layers = [bp.Dense(units, hidden, l2=0.01 * (k % 2)) for units in widths[1:-1]]
            loss = list(bp.losses.LOSSES)[k]
            output = (bp.losses.LOSSES[loss].outputs or ("identity",))[0]
            net = bp.Network(widths[0], [*layers, bp.Dense(widths[-1], output)], dtype=dtype, seed=k, backend=backend)
            X = rng.normal(size=(rows, widths[0]))
            y = np.zeros(rows, int) if loss == "cross_entropy" else rng.uniform(size=(rows, widths[-1]))
            weight = rng.uniform(0.5, 1, rows)
            options = {"loss": loss, "sample_weight": weight}
            for n_threads in (1, 3):
                net.fit(X, y, optimizer=optimizer, epochs=2, batch_size=batch, n_threads=n_threads, **options)
                n_runs += 1
            net.predict(X)
            net.loss_and_gradients(X, y, **options)
print(f"{backend}: {n_runs} runs")
