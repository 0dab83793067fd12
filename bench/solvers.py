"""L-BFGS and Levenberg-Marquardt on three small regressions: python -m bench.solvers.

One thread. For each problem: seconds to a mean squared error, the best of five seeds, by Levenberg-Marquardt; and
iterations per second of L-BFGS, beside those of SciPy's L-BFGS-B on the loss and gradient of the same core. Then, for
several numbers of parameters, an iteration of Levenberg-Marquardt on 32 rows, which is the factorisation and little
else, beside that of SciPy's LAPACK alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import backprop as bp
import numpy as np
from scipy.linalg import cho_factor  # before its threads are limited
from threadpoolctl import threadpool_limits

SEEDS = range(5)
PARAMETERS = (100, 500, 2000, 5000)


class Problem(NamedTuple):
    """A network and rows for it."""

    name: str
    sizes: list[int]
    X: Any
    y: Any
    goal: float
    """the mean squared error to come to"""


def problems() -> list[Problem]:
    """Return the three: a wave, Friedman's function (standardised), an arm of three joints in the plane."""
    rng = np.random.default_rng(0)
    X = rng.uniform(-1, 1, (200, 1))
    wave = Problem("1-12-1", [1, 12, 1], X, np.sin(8 * X) * np.exp(X), 1e-7)
    X = rng.uniform(0, 1, (1000, 5))
    y = 10 * np.sin(np.pi * X[:, 0] * X[:, 1]) + 20 * (X[:, 2] - 0.5) ** 2 + 10 * X[:, 3] + 5 * X[:, 4]
    friedman = Problem("5-20-1", [5, 20, 1], 2 * X - 1, (y - y.mean()) / y.std(), 2.5e-7)
    Q = rng.uniform(-1, 1, (2000, 6))
    angles = np.cumsum(np.pi / 2 * Q[:, :3], axis=1)
    lengths = 1 + 0.3 * Q[:, 3:]
    y = np.stack([(np.cos(angles) * lengths).sum(axis=1), (np.sin(angles) * lengths).sum(axis=1)], axis=1)
    return [wave, friedman, Problem("6-40-2", [6, 40, 2], Q, y, 1.5e-5)]


def network(problem: Problem, seed: int) -> bp.Network:
    """Return the untrained network."""
    return bp.mlp(problem.sizes, hidden="tanh", dtype="float64", seed=seed)


def seconds_to_goal(problem: Problem, seed: int, max_iter: int) -> tuple[float, float]:
    """Return the seconds that Levenberg-Marquardt takes to the goal, infinite if it does not reach it, and the loss."""
    losses = network(problem, seed)
    losses.minimize(problem.X, problem.y, method="lm", tolerance=0, max_iter=max_iter, n_threads=1)
    below = losses.history.loss < problem.goal
    if not below.any():
        return np.inf, float(losses.history.loss[-1])
    net = network(problem, seed)
    begun = time.perf_counter()
    net.minimize(problem.X, problem.y, method="lm", tolerance=0, max_iter=int(below.argmax()) + 1, n_threads=1)
    return time.perf_counter() - begun, float(net.history.loss[-1])


def iterations_per_second(problem: Problem, iterations: int = 300, **settings: Any) -> float:
    """Return how many iterations of a method are done in a second, the best of three runs."""
    runs: list[float] = []
    for seed in range(3):
        net = network(problem, seed)
        begun = time.perf_counter()
        net.minimize(problem.X, problem.y, tolerance=0, max_iter=iterations, n_threads=1, **settings)
        runs.append(net.history.epochs / (time.perf_counter() - begun))
    return max(runs)


def seconds_of_factors(n: int) -> tuple[float, float]:
    """Return the seconds of a trial step with a matrix (n, n), and of SciPy's Cholesky of one; the best of three."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(32, n)), rng.normal(size=(32, 1))
    matrix = X.T @ X + np.eye(n)
    theirs: list[float] = []
    seconds: dict[int, list[float]] = {1: [], 3: []}
    done = {}
    for _ in range(3):
        begun = time.perf_counter()
        cho_factor(matrix, lower=True, check_finite=False)
        theirs.append(time.perf_counter() - begun)
        for iterations, took in seconds.items():
            net = bp.Network(n, [bp.Dense(1, "tanh", bias=False, l2=1e-3)], dtype="float64", seed=0)
            begun = time.perf_counter()
            done[iterations] = net.minimize(X, y, method="lm", tolerance=0, max_iter=iterations, n_threads=1).nfev
            took.append(time.perf_counter() - begun)
    return (min(seconds[3]) - min(seconds[1])) / (done[3] - done[1]), min(theirs)


def main(show: Callable[[str], None] = print) -> None:
    """Print a line for each problem."""
    show("problem  goal     lm: seconds  loss      L-BFGS it/s  SciPy it/s  ratio")
    for problem in problems():
        seconds, loss = min(seconds_to_goal(problem, seed, 400 if problem.sizes[0] < 6 else 100) for seed in SEEDS)
        ours = iterations_per_second(problem, options={"loss_tolerance": 0})
        scipy = iterations_per_second(problem, method="L-BFGS-B", options={"ftol": 0, "maxfun": 10**9})
        show(
            f"{problem.name:<8} {problem.goal:<8.1e} {seconds:<12.4f} {loss:<9.2e} {ours:<12.0f} {scipy:<11.0f} "
            f"{ours / scipy:.1f}"
        )
    show("parameters  an iteration  LAPACK's factors  ratio")
    with threadpool_limits(1):
        for n in PARAMETERS:
            own, lapack = seconds_of_factors(n)
            show(f"{n:<11} {own:<13.5f} {lapack:<17.5f} {own / lapack:.1f}")


if __name__ == "__main__":
    main()
