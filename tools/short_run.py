"""Everything that a backend offers, on small networks, once: python tools/short_run.py BACKEND."""

from __future__ import annotations

import math
import sys
from typing import Any

import only_built

only_built.enforce()

import backprop as bp  # noqa: E402
import numpy as np  # noqa: E402

SHAPES = (
    ((3, 5, 1), 7, 3),
    ((17, 33, 9, 2), 50, 16),
    ((2, 2, 1), 4, 1),
    ((9, 40, 3), 300, None),
    ((6, 20, 1, 17), 23, 7),
)
"""widths, rows and rows of a batch"""
LISTS = (list(bp.ACTIVATIONS), list(bp.losses.LOSSES), list(bp.optimizers.OPTIMIZERS))


def main(backend: str) -> None:
    rng = np.random.default_rng(0)
    n_runs = 0
    for dtype in ("float32", "float64"):
        for widths, rows, batch in SHAPES:
            for k in range(max(map(len, LISTS))):
                hidden, loss, optimizer = (names[k % len(names)] for names in LISTS)
                layers = [bp.Dense(units, hidden, l2=0.01 * (k % 2)) for units in widths[1:-1]]
                output = (bp.losses.LOSSES[loss].outputs or ("identity",))[0]
                layers.append(bp.Dense(widths[-1], output))
                net = bp.Network(widths[0], layers, dtype=dtype, seed=k, backend=backend)
                X = rng.normal(size=(rows, widths[0]))
                y = targets(loss, rng.uniform(0.1, 0.9, (rows, widths[-1])))
                options: dict[str, Any] = {"loss": loss, "sample_weight": rng.uniform(0.5, 1, rows)}
                clip_norm = 0.01 if hidden == "exp" else None  # it grows too fast for a step of common size
                for n_threads in (1, 3):
                    net.fit(
                        X, y, optimizer=optimizer, epochs=2, batch_size=batch, n_threads=n_threads,
                        clip_norm=clip_norm, progress=False, **options,
                    )  # fmt: skip
                    n_runs += 1
                net.predict(X)
                net.loss_and_gradients(X, y, **options)
    print(f"{backend}: {n_runs} runs")


def targets(loss: str, uniform: np.ndarray) -> np.ndarray:
    """What the loss accepts, made of numbers between 0 and 1."""
    kind = bp.losses.LOSSES[loss]
    if not kind.elementwise:
        return uniform.argmax(axis=1) if loss == "cross_entropy" else uniform / uniform.sum(axis=1, keepdims=True)
    if kind.target_values is not None:
        return np.asarray(kind.target_values)[(uniform * len(kind.target_values)).astype(int)]
    low, high = (end if math.isfinite(end) else default for end, default in zip(kind.target_range, (0, 1), strict=True))
    return low + (high - low) * uniform


if __name__ == "__main__":
    main(sys.argv[1])
