"""The full-batch loss handed to a minimizer: one of the core's, or one of SciPy's."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from backprop.backends.custom import LossLike
from backprop.base import checks as check
from backprop.base.interrupts import HeldInterrupts
from backprop.learn.callbacks import Callback
from backprop.learn.fit import checked_threads, log_callback, progress_bar
from backprop.learn.solve import NotFiniteError, needed_loss
from backprop.learn.solving import (
    Problem,
    Ready,
    Request,
    callbacks_of,
    check_options,
    checked_method,
    checked_tolerance,
)
from backprop.model import rows
from backprop.reference.solvers import SOLVERS, Solver
from backprop.reference.solvers.solver import slope_of

if TYPE_CHECKING:
    from backprop.model.model import Model

Method = Literal["lbfgs", "lm", "bayesian", "L-BFGS-B", "BFGS", "CG"]
METHODS: tuple[Method, ...] = ("lbfgs", "lm", "bayesian", "L-BFGS-B", "BFGS", "CG")
# What SciPy's methods call it when they have done all their iterations.
_ITERATIONS_DONE = 1


def minimize(
    network: Model,
    X: ArrayLike,
    y: ArrayLike,
    *,
    method: Method | Solver = "lbfgs",
    loss: LossLike = "auto",
    sample_weight: ArrayLike | None = None,
    validation_data: Any = None,
    validation_split: float = 0.0,
    metrics: Any = (),
    max_iter: int = 200,
    tolerance: float | str = "auto",
    penalty_per_row: bool = False,
    callback: Callable[[int, float], Any] | None = None,
    callbacks: Iterable[Callback] = (),
    log: Callable[[int, dict[str, float]], Any] | None = None,
    resume: bool = False,
    n_threads: int | str = "auto",
    progress: bool | str = False,
    options: Mapping[str, Any] | None = None,
) -> Any:
    """Train with a minimizer; `Network.minimize` documents it."""
    method = checked_method(method, METHODS)
    check_options(options, callback)
    scipy_minimize = _scipy_minimize() if isinstance(method, str) and method not in SOLVERS else None
    every_callback = callbacks_of(callbacks)
    if log is not None:
        every_callback.append(log_callback(log, "iteration"))
    bar = progress_bar(progress, every_callback)
    X, columns = rows.opened(network, "X", X)
    checked, data = network._data(X, y, loss, sample_weight, custom=True, dtype=np.float64)
    data, validation = rows.validation(network, checked, data, validation_data, validation_split, columns)
    if scipy_minimize is not None:
        extras = {"validation_data": validation, "metrics": metrics, "log": log, "callbacks": every_callback}
        extras["resume"] = resume
        for name, given in {**extras, "progress": progress is True}.items():
            if given:
                raise ValueError(f"{name}: needs method='lbfgs', 'lm' or 'bayesian', got method={method!r}")
        max_iter = check.integer("max_iter", max_iter, at_least=1, clipped=True)
        penalty_per_row = check.boolean("penalty_per_row", penalty_per_row)
        run = _Run(network, Problem(network, checked, data, penalty_per_row), callback)
        settings = {"maxiter": max_iter, **(options or {})}
        if (gtol := checked_tolerance(tolerance)) is not None:  # SciPy's own are 1e-5
            settings.setdefault("gtol", gtol)
        return _by_scipy(network, columns, run, scipy_minimize, str(method), settings)
    request = Request.of(
        method, tolerance, options, max_iter, callback,
        penalty_per_row=penalty_per_row, metrics=metrics, resume=resume,
    )  # fmt: skip
    ready = Ready(request, network, checked, data, validation, every_callback, bar)
    used = checked_threads(n_threads, ready.work, network._core.MAX_THREADS)
    with HeldInterrupts() as interrupts, network._guard:
        before = network._feature_names, network._optimizer, network._solved, network.history.stop_reason
        network._feature_names = columns
        try:
            return ready.train(interrupts, used)
        except NotFiniteError:
            network._feature_names, network._optimizer, network._solved, network.history.stop_reason = before
            raise


def _by_scipy(
    network: Model,
    columns: Any,
    run: _Run,
    scipy_minimize: Callable[..., Any],
    method: str,
    options: Mapping[str, Any],
) -> Any:
    """Minimise with one of SciPy's methods."""
    if not np.isfinite(value := run.value_and_gradient(run.start)[0]):
        raise ValueError(f"parameters: needs a start where {needed_loss(value)}")
    began = time.perf_counter()
    with HeldInterrupts() as interrupts, network._guard:
        network._feature_names = columns
        try:
            result = interrupts.call(
                scipy_minimize,
                run.value_and_gradient,
                run.start,
                jac=True,
                method=method,
                callback=run.after_iteration,
                options=dict(options),
            )
            run.reason = "stopped" if run.stopped else "epochs" if result.status == _ITERATIONS_DONE else "tolerance"
        finally:
            run.record(time.perf_counter() - began)
    return result


class _Run:
    """What SciPy calls: the loss as a function of the trainable parameters, and what happens after an iteration."""

    def __init__(self, network: Model, problem: Problem, callback: Callable[[int, float], Any] | None) -> None:
        self.network, self.callback = network, callback
        self.objective, self.free, self.point = problem.objective, problem.free, problem.point
        self.gradient = np.zeros_like(self.point)
        self.start: NDArray[np.float64] = self.point[self.free]
        self.losses: list[float] = []
        self.stopped = False
        self.reason = "interrupted"

    def value_and_gradient(self, x: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        """Return the loss where the trainable parameters are x, and its gradient with respect to them."""
        self.point[self.free] = x
        value = self.objective(self.point, self.gradient)
        return value, self.gradient[self.free]

    def after_iteration(self, intermediate_result: Any) -> None:
        """Take the new parameters over; SciPy takes StopIteration for the end."""
        value = float(intermediate_result.fun)
        if not (np.isfinite(value) and slope_of(intermediate_result.x) <= np.finfo(self.network.dtype).max):
            raise StopIteration
        self.network.parameters[self.free] = intermediate_result.x
        self.losses.append(value)
        if self.callback is not None and self.callback(len(self.losses), value):
            self.stopped = True
            raise StopIteration

    def record(self, elapsed: float) -> None:
        """Write the iterations into the history; what an optimizer remembered does not fit the new parameters."""
        history = self.network.history
        history.extend(len(self.losses), {"loss": np.array(self.losses)})
        history.stop_reason = self.reason
        history.elapsed += elapsed
        self.network._optimizer = self.network._solved = None


def _scipy_minimize() -> Callable[..., Any]:
    try:
        from scipy.optimize import minimize as scipy_minimize
    except ImportError as error:
        raise ImportError(
            f"minimize: needs SciPy for this method; install it with: pip install 'bpcore[scipy]' ({error})",
            name="scipy",
        ) from error
    found: Callable[..., Any] = scipy_minimize
    return found
