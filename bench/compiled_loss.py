"""Losses compiled by numba beside the library's own: python -m bench.compiled_loss

Iris, one thread, plain gradient descent: µs of the processor for an epoch, the fastest of rounds in turns, and how fast
the compiled loss is in parts of the library's. Then a fleet of 1,000, in the lanes. It needs numba and scikit-learn.
"""

from __future__ import annotations

import argparse
import math
from time import thread_time
from typing import Any

import backprop as bp
import numpy as np
from backprop.losses import Compiled

from bench import machine

ROUNDS, SECONDS = 15, 0.05


def compiled(dtype: str) -> dict[str, Compiled]:
    """Squared error and cross-entropy by numba."""
    from numba import cfunc, types

    reals = types.CPointer(getattr(types, dtype))
    signature = types.double(reals, reals, reals, types.intp, types.voidptr)

    @cfunc(signature)
    def squared_error(outputs: Any, targets: Any, gradient: Any, n: int, user: Any) -> float:
        total = 0.0
        for i in range(n):
            error = outputs[i] - targets[i]
            gradient[i] = error + error
            total += error * error
        return total

    @cfunc(signature, error_model="numpy")
    def cross_entropy(outputs: Any, targets: Any, gradient: Any, n: int, user: Any) -> float:
        own = targets[0] * outputs[0]  # of the row's class; a branch would be guessed wrongly in every other row
        for i in range(1, n):
            own += targets[i] * outputs[i]
        for i in range(n):
            gradient[i] = -targets[i] / own
        return -math.log(own)

    return {"squared_error": Compiled(squared_error, scale=1 / 3), "cross_entropy": Compiled(cross_entropy)}


def seconds(model: Any, X: Any, y: Any, loss: Any, batch: int | None, epochs: int, **more: Any) -> float:
    start = thread_time()
    model.fit(X, y, loss=loss, optimizer="sgd", batch_size=batch, epochs=epochs, n_threads=1, progress=False, **more)
    return thread_time() - start


def compare(label: str, make: Any, rows: Any, losses: tuple[Any, Any], batch: int | None) -> None:
    """Print the time of an epoch with each of two losses, in turns."""
    epochs = max(1, int(SECONDS / (seconds(make(), *rows, losses[0], batch, 20) / 20)))
    best = [math.inf, math.inf]
    for _ in range(ROUNDS):
        for k, loss in enumerate(losses):
            best[k] = min(best[k], seconds(make(), *rows, loss, batch, epochs) / epochs)
    print(f"{label:55} {best[0] * 1e6:10.2f} {best[1] * 1e6:10.2f} {best[0] / best[1]:8.2f}", flush=True)


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    machine.pin(1)
    from sklearn.datasets import load_iris

    X, y = load_iris(return_X_y=True)
    X = (X - X.mean(axis=0)) / X.std(axis=0)
    order = np.random.default_rng(0).permutation(len(X))
    X, y = X[order], y[order]
    print(f"{'µs per epoch':55} {'library':>10} {'compiled':>10} {'speed':>8}")
    for dtype in ("float32", "float64"):
        own = compiled(dtype)
        for hidden in (16, 100):
            for batch in (None, 32):
                for name, output, targets in (
                    ("squared_error", "identity", np.eye(3)[y]),
                    ("cross_entropy", "softmax", y),
                ):
                    compare(
                        f"{name}, 4-{hidden}-3, {dtype}, batches of {batch or len(X)}",
                        lambda hidden=hidden, output=output, dtype=dtype: bp.mlp(
                            [4, hidden, 3], hidden="tanh", output=output, dtype=dtype, seed=0
                        ),
                        (X, targets), (name, own[name]), batch,
                    )  # fmt: skip
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(1000, 100, 8)), rng.normal(size=(1000, 100, 1))
    dense = [bp.Dense(16, "tanh"), bp.Dense(1)]
    compare(
        "squared_error, a fleet of 1,000 8-16-1, batches of 32", lambda: bp.Fleet(8, dense, size=1000, seed=0), rows,
        ("squared_error", Compiled(compiled("float32")["squared_error"].function)), 32,
    )  # fmt: skip


if __name__ == "__main__":
    main()
