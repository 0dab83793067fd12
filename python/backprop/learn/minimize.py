"""The full-batch loss handed to a minimizer: one of the core's, or one of SciPy's."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from backprop.backends.custom import Custom, LossLike
from backprop.base import checks as check
from backprop.base.interrupts import HeldInterrupts
from backprop.base.solving import SolverRun, SolverState
from backprop.base.types import Data
from backprop.learn.callbacks import Callback, LambdaCallback
from backprop.learn.fit import all_callbacks, checked_threads, progress_bar, recorded
from backprop.learn.measures import Measures
from backprop.learn.solve import Listeners, Minimising, check_solver, flops, solution_of, solver
from backprop.model import rows
from backprop.model.objective import Objective
from backprop.reference.dense import Dense
from backprop.reference.layout import layout
from backprop.reference.losses import Loss
from backprop.reference.losses.loss import denominator
from backprop.reference.solvers import SOLVERS, Solver

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
    method: Method = "lbfgs",
    loss: LossLike = "auto",
    sample_weight: ArrayLike | None = None,
    validation_data: Any = None,
    validation_split: float = 0.0,
    metrics: Any = (),
    max_iter: int = 200,
    tolerance: float = 1e-5,
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
    check.choice("method", method, METHODS)
    scipy_minimize = None if method in SOLVERS else _scipy_minimize()
    max_iter = check.integer("max_iter", max_iter, at_least=1)
    tolerance = check.number("tolerance", tolerance, at_least=0)
    if callback is not None and not callable(callback):
        raise TypeError(f"callback: needs a function of iteration and loss, got {check.shown(callback)}")
    if options is not None and not isinstance(options, Mapping):
        raise TypeError(f"options: needs a mapping from names to values, got {check.shown(options)}")
    resume = check.boolean("resume", resume)
    every_callback = _callbacks(network, callbacks, log)
    bar = progress_bar(progress, every_callback)
    _refuse(network, "dropout", 0.0)
    _refuse(network, "max_norm", None)
    X, columns = rows.opened(network, "X", X)
    checked, data = network._data(X, y, loss, sample_weight, custom=True)
    data, validation = rows.validation(network, checked, data, validation_data, validation_split, columns)
    measures = Measures(network, checked, metrics, data, validation)
    names = ["loss", *(["val_loss"] if measures.validated else []), *measures.names]
    names += ["alpha", "beta", "gamma"] * (method == "bayesian")
    recorded(names, None, every_callback)
    layers = network.layers
    if check.boolean("penalty_per_row", penalty_per_row):
        layers = _per_row(layers, denominator(checked, data.sample_weight, len(data.X), n_outputs=1))
    data = rows.as_float64(data)
    run = _Run(network, layers, checked, data, callback)
    if not run.start.size:
        raise ValueError("layers: needs at least one that is trainable, got none")
    if scipy_minimize is not None:
        extras = {"validation_data": validation, "metrics": measures.sets, "callbacks": every_callback}
        for name, given in {**extras, "resume": resume, "progress": progress is True}.items():
            if given:
                raise ValueError(f"{name}: needs method='lbfgs', 'lm' or 'bayesian', got method={method!r}")
        return _by_scipy(network, columns, run, scipy_minimize, method, max_iter, tolerance, options)
    settings = solver(method, tolerance, options)
    check_solver(settings, layers, checked, data, run.start.size)
    work = flops(settings, run.start.size, len(data.X), network.n_outputs)
    used = checked_threads(n_threads, work, network._core.MAX_THREADS)
    measured = None if validation is None else run.objective.of(rows.as_float64(validation))
    listeners = Listeners(callback=callback, callbacks=every_callback, measures=measures, validation=measured, bar=bar)
    with HeldInterrupts() as interrupts, network._guard:
        network._feature_names = columns
        left = _left(network, settings) if resume else None
        if left is None:
            left = SolverRun(settings, SolverState(run.point))
        elif network.history.stop_reason == "tolerance" or left.state.iteration >= max_iter:
            return solution_of(left, run.free)
        return Minimising(network, run.objective, left, run.free, interrupts, listeners, max_iter, used).train()


def _callbacks(network: Model, callbacks: Any, log: Any) -> list[Callback]:
    """Return all callbacks, that for `log` included."""
    found = all_callbacks(callbacks, None, None, 1)
    for callback in found:
        if callback.scales_learning_rate:
            raise ValueError(f"callbacks: needs such as scale no learning rate, minimize has none; got {callback!r}")
    if log is not None:
        if not callable(log):
            raise TypeError(f"log: needs a function of iteration and metrics, got {check.shown(log)}")
        found.append(LambdaCallback(on_epoch_end=lambda _, epoch, logs: log(epoch, dict(logs))))
    return found


def _left(network: Model, settings: Solver) -> SolverRun | None:
    """Return the minimisation that was interrupted; None where there was none."""
    left = network._solved
    if left is None:
        return None
    if left.solver != settings:
        raise ValueError(f"resume: needs the method and the options of the run to be resumed, {left.solver!r}; "
                         f"got {settings!r}")  # fmt: skip
    is_over = network.history.stop_reason == "tolerance"  # then the parameters may be those of the best iteration
    if not is_over and (left.state.point.astype(network.dtype) != network.parameters).any():
        raise ValueError("resume: needs the parameters that minimize has left, but they were changed since")
    return left


def _by_scipy(
    network: Model,
    columns: Any,
    run: _Run,
    scipy_minimize: Callable[..., Any],
    method: str,
    max_iter: int,
    tolerance: float,
    options: Mapping[str, Any] | None,
) -> Any:
    """Minimise with one of SciPy's methods."""
    if not np.isfinite(value := run.value_and_gradient(run.start)[0]):
        raise ValueError(f"parameters: needs a start where the loss is finite, got a loss of {value}")
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
                options={"maxiter": max_iter, "gtol": tolerance, **(options or {})},
            )
            run.reason = "stopped" if run.stopped else "epochs" if result.status == _ITERATIONS_DONE else "tolerance"
        finally:
            run.record(time.perf_counter() - began)
    return result


class _Run:
    """What SciPy calls: the loss as a function of the trainable parameters, and what happens after an iteration."""

    def __init__(
        self,
        network: Model,
        layers: tuple[Dense, ...],
        loss: Loss | Custom,
        data: Data,
        callback: Callable[[int, float], Any] | None,
    ) -> None:
        self.network, self.callback = network, callback
        module = network._backend.module(np.float64)
        self.objective = Objective(module, module.Plan(network.n_inputs, layers), layers, loss, data)
        self.free = np.zeros(network.n_parameters, bool)
        for array in layout(network.n_inputs, layers):
            self.free[array.part] = array.trainable
        self.point = network.parameters.astype(np.float64)
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
        if not np.isfinite(value):
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


def _refuse(network: Model, setting: str, none: Any) -> None:
    """Raise where a layer has a setting that is about steps, of which there are none here."""
    for k, layer in enumerate(network.layers):
        if (value := getattr(layer, setting)) != none:
            raise ValueError(
                f"layers[{k}]: needs {setting}={none} for minimize, which follows one function; got {value}"
            )


def _per_row(layers: tuple[Dense, ...], n_rows: float) -> tuple[Dense, ...]:
    """Return the layers with their penalties divided by the rows."""
    return tuple(replace(layer, l1=layer.l1 / n_rows, l2=layer.l2 / n_rows) for layer in layers)
