"""Losses compiled by numba beside the library's own: python -m bench.compiled_loss

Iris, one thread, plain gradient descent: µs of the processor for an epoch, the fastest of rounds in turns, and the
speed with the compiled losses in parts of that, row by row and many rows at a time. Then a fleet of 1,000,
in the lanes. It needs numba and scikit-learn.
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


def by_rows(dtype: str) -> dict[str, Compiled]:
    """Squared error and cross-entropy by numba, a row at a time."""
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


def vector_log(dtype: str) -> Any:
    """The logarithm: for float32 by operations that become those of vectors, as a call of math.log takes 2.5 ns."""
    from numba import njit

    if dtype == "float64":
        return math.log
    one, ln2 = np.float32(1), np.float32(math.log(2))
    c1, c3, c5, c7, c9 = (np.float32(2 / k) for k in (1, 3, 5, 7, 9))
    root_half, digits = np.float32(0.5**0.5).view(np.int32), np.int32(23)

    @njit(error_model="numpy")
    def log(x: Any) -> Any:
        bits = np.float32(x).view(np.int32)
        exponent = (bits - root_half) >> digits
        m = np.int32(bits - (exponent << digits)).view(np.float32)
        s = (m - one) / (m + one)
        z = s * s
        return s * (c1 + z * (c3 + z * (c5 + z * (c7 + z * c9)))) + np.float32(exponent) * ln2

    return log


def by_batches(dtype: str) -> dict[str, Compiled]:
    """The same, many rows at a time: each output in a loop over the rows, which becomes one over vectors."""
    from numba import cfunc, types

    log = vector_log(dtype)
    reals = types.CPointer(getattr(types, dtype))
    signature = types.void(reals, reals, reals, reals, types.intp, types.intp, types.voidptr)

    @cfunc(signature)
    def squared_error(outputs: Any, targets: Any, values: Any, gradients: Any, n_rows: int, n: int, user: Any) -> None:
        for k in range(n):
            for r in range(n_rows):
                error = outputs[k * n_rows + r] - targets[k * n_rows + r]
                gradients[k * n_rows + r] = error + error
                values[r] += error * error

    @cfunc(signature, error_model="numpy")
    def cross_entropy(outputs: Any, targets: Any, values: Any, gradients: Any, n_rows: int, n: int, user: Any) -> None:
        for k in range(n):
            for r in range(n_rows):
                values[r] += targets[k * n_rows + r] * outputs[k * n_rows + r]
        for k in range(n):
            for r in range(n_rows):
                gradients[k * n_rows + r] = -targets[k * n_rows + r] / values[r]
        for r in range(n_rows):
            values[r] = -log(values[r])

    return {"squared_error": Compiled(squared_error, scale=1 / 3), "cross_entropy": Compiled(cross_entropy)}


def seconds(model: Any, X: Any, y: Any, loss: Any, batch: int | None, epochs: int, **more: Any) -> float:
    start = thread_time()
    model.fit(X, y, loss=loss, optimizer="sgd", batch_size=batch, epochs=epochs, n_threads=1, progress=False, **more)
    return thread_time() - start


def compare(label: str, make: Any, rows: Any, losses: tuple[Any, ...], batch: int | None) -> None:
    """Print the time of an epoch with the first loss, and the speeds with the others in parts of it; in turns."""
    epochs = max(1, int(SECONDS / (seconds(make(), *rows, losses[0], batch, 20) / 20)))
    best = [math.inf for _ in losses]
    for _ in range(ROUNDS):
        for k, loss in enumerate(losses):
            best[k] = min(best[k], seconds(make(), *rows, loss, batch, epochs) / epochs)
    speeds = "".join(f"{best[0] / each:9.2f}" for each in best[1:])
    print(f"{label:55} {best[0] * 1e6:10.2f} {speeds}", flush=True)


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    machine.pin(1)
    from sklearn.datasets import load_iris

    X, y = load_iris(return_X_y=True)
    X = (X - X.mean(axis=0)) / X.std(axis=0)
    order = np.random.default_rng(0).permutation(len(X))
    X, y = X[order], y[order]
    print(f"{'':55} {'library, µs':>10} {'by rows':>8} {'by batches':>8}")
    for dtype in ("float32", "float64"):
        rows_way, batch_way = by_rows(dtype), by_batches(dtype)
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
                        (X, targets), (name, rows_way[name], batch_way[name]), batch,
                    )  # fmt: skip
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(1000, 100, 8)), rng.normal(size=(1000, 100, 1))
    dense = [bp.Dense(16, "tanh"), bp.Dense(1)]
    compare(
        "squared_error, a fleet of 1,000 8-16-1, batches of 32", lambda: bp.Fleet(8, dense, size=1000, seed=0), rows,
        ("squared_error", *(Compiled(way("float32")["squared_error"].function) for way in (by_rows, by_batches))), 32,
    )  # fmt: skip


if __name__ == "__main__":
    main()
