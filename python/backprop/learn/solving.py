"""What a call of `minimize` asks for, of a network or of each member of a fleet, and how it is begun."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from backprop.backends.custom import Custom
from backprop.base import checks as check
from backprop.base.solving import SolverRun, SolverState
from backprop.base.types import Data
from backprop.learn.callbacks import Callback, Progress
from backprop.learn.callbacks.averages import only_average
from backprop.learn.callbacks.callback import resume_all
from backprop.learn.fit import all_callbacks, recorded
from backprop.learn.measures import Measures
from backprop.learn.solution import Solution
from backprop.learn.solve import (
    Interrupts,
    Listeners,
    Minimising,
    check_solver,
    solution_of,
    solver,
    work_of_an_evaluation,
)
from backprop.model import rows
from backprop.model.objective import Objective
from backprop.model.target_scale import TargetScale
from backprop.reference.dense import Dense
from backprop.reference.gauss_newton import WEIGHTS
from backprop.reference.layout import layout
from backprop.reference.losses import Loss
from backprop.reference.losses.loss import denominator
from backprop.reference.solvers import SOLVERS, BayesianRegularization, Solver

if TYPE_CHECKING:
    from backprop.model.model import Model

_POWERS = {"tolerance": 1, "loss_tolerance": 2}
"""with which the gradient and the loss of residuals follow the unit of the targets"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is wanted, checked; `Network.minimize` documents it."""

    solver: Solver
    max_iter: int
    penalty_per_row: bool = False
    metrics: Any = ()
    callback: Callable[[int, float], Any] | None = None
    resume: bool = False
    automatic: tuple[str, ...] = ()
    """the tolerances that nobody has given"""

    @classmethod
    def of(cls, method: Any, tolerance: Any, options: Any, max_iter: Any, callback: Any = None, **rest: Any) -> Request:
        """Return a request for one of the core's methods."""
        check_options(options, callback)
        number = checked_tolerance(tolerance)
        settings = solver(method, number, options)
        given = {"tolerance": number} | dict(options or {})
        automatic = tuple(name for name in _POWERS if isinstance(method, str) and given.get(name) is None)
        for name in ("penalty_per_row", "resume"):
            check.boolean(name, rest[name])
        max_iter = check.integer("max_iter", max_iter, at_least=1, clipped=True)
        return cls(solver=settings, max_iter=max_iter, callback=callback, automatic=automatic, **rest)

    def solver_for(self, loss: Loss | Custom, data: Data) -> Solver:
        """Return the method with its tolerances for this loss and these targets: both may be small as a whole."""
        if not self.automatic:
            return self.solver
        scale = 1.0 if isinstance(loss, Custom) else min(1.0, loss.scale)
        unit = 1.0
        if loss.name in WEIGHTS and not isinstance(self.solver, BayesianRegularization):  # it has its own measure
            weight = None if data.weighs_outputs else data.sample_weight
            with np.errstate(all="ignore"):  # of targets near the limits
                unit = min(1.0, float(TargetScale.of(data.targets, weight).deviation.max()))
        found = {name: getattr(self.solver, name) * unit ** _POWERS[name] * scale for name in self.automatic}
        return replace(self.solver, **found)


def checked_method(method: Any, names: Collection[str]) -> Any:
    """Return a method of the core as an object or by name, or one of the other names."""
    if isinstance(method, type) and issubclass(method, Solver):
        raise TypeError(f"method: needs an object, got the class {method.__name__}; write {method.__name__}()")
    if not isinstance(method, Solver):
        return check.choice("method", method, names)
    for cls in SOLVERS.values():  # what a class made from one adds does not count
        if isinstance(method, cls) and cls.name == method.name:
            return cls(**{field.name: getattr(method, field.name) for field in fields(cls)})
    raise TypeError(f"method: needs one of {', '.join(each.__name__ for each in SOLVERS.values())}, got {method!r}")


def checked_tolerance(tolerance: Any) -> float | None:
    """Return the number; None for ``"auto"``."""
    if check.is_auto("tolerance", tolerance, "a number >= 0"):
        return None
    if tolerance is None:
        raise TypeError(f"tolerance: needs a number >= 0 or 'auto', got {check.shown(None)}")
    return check.number("tolerance", tolerance, at_least=0)


def check_options(options: Any, callback: Any) -> None:
    """Raise unless they are a mapping and a function, or None."""
    if callback is not None and not callable(callback):
        raise TypeError(f"callback: needs a function of iteration and loss, got {check.shown(callback)}")
    if options is not None and not isinstance(options, Mapping):
        raise TypeError(f"options: needs a mapping from names to values, got {check.shown(options)}")


class Problem:
    """The loss of a network over rows, as a function of its parameters in float64."""

    def __init__(self, network: Model, loss: Loss | Custom, data: Data, penalty_per_row: bool) -> None:
        _refuse(network, "dropout", 0.0)
        _refuse(network, "max_norm", None)
        self.loss, self.layers, self.data = loss, network.layers, rows.as_float64(data)
        if penalty_per_row:
            self.layers = _per_row(self.layers, denominator(loss, data.sample_weight, len(data.X), n_outputs=1))
        module = network._backend.module(np.float64)
        plan = module.Plan(network.n_inputs, self.layers)
        self.objective = Objective(module, plan, self.layers, loss, self.data)
        self.free = np.zeros(network.n_parameters, bool)
        for array in layout(network.n_inputs, self.layers):
            self.free[array.part] = array.trainable
        if not self.free.any():
            raise ValueError("layers: needs at least one that is trainable, got none")
        self.point: NDArray[np.float64] = network.parameters.astype(np.float64)


class Ready:
    """A minimisation of a network that only has to begin."""

    def __init__(
        self,
        request: Request,
        network: Model,
        loss: Loss | Custom,
        data: Data,
        validation: Data | None,
        callbacks: Sequence[Callback],
        bar: Progress,
    ) -> None:
        self.request, self.network, self.solver = request, network, request.solver_for(loss, data)
        measures = Measures(network, loss, request.metrics, data, validation)
        names = ["loss", *(["val_loss"] if measures.validated else []), *measures.names]
        names += ["alpha", "beta", "gamma"] * isinstance(request.solver, BayesianRegularization)
        recorded(names, None, callbacks)
        self.problem = problem = Problem(network, loss, data, request.penalty_per_row)
        check_solver(self.solver, network.layers, loss, problem.data, int(problem.free.sum()))
        self.left = _left(network, self.solver, request, loss, data) if request.resume else None
        measured = None if validation is None else problem.objective.of(rows.as_float64(validation))
        self.listeners = Listeners(
            callback=request.callback, callbacks=callbacks, measures=measures, validation=measured, bar=bar
        )

    @property
    def work(self) -> float:
        """See `work_of_an_evaluation`."""
        n_free = int(self.problem.free.sum())
        return work_of_an_evaluation(self.solver, self.problem.objective.loss, self.problem.data, n_free)

    def is_over(self) -> bool:
        """Whether nothing is left to do; in the file of a checkpoint from the last iteration, something was."""
        if (left := self.left) is None:
            return False
        reason, more = self.network.history.stop_reason, self.request.max_iter - left.state.iteration
        return reason == "tolerance" or more < (0 if reason == "interrupted" else 1)

    def train(self, interrupts: Interrupts, n_threads: int) -> Solution:
        """Minimise; the caller holds Ctrl-C and the network's guard."""
        request, network, problem = self.request, self.network, self.problem
        left = self.left
        if left is None:
            n_rows, name = len(problem.data.X), problem.loss.name
            left = SolverRun(self.solver, SolverState(problem.point), n_rows=n_rows, loss=name)
        elif self.is_over():
            resume_all(self.listeners.callbacks, left.callbacks)
            return solution_of(left, problem.free, problem.objective)
        run = Minimising(
            network, problem.objective, left, problem.free, interrupts, self.listeners, request.max_iter, n_threads
        )
        return run.train()


def callbacks_of(callbacks: Any) -> list[Callback]:
    """Return the callbacks, checked."""
    found = all_callbacks(callbacks, None, None, 1)
    for callback in found:
        if callback.scales_learning_rate:
            raise ValueError(f"callbacks: needs such as scale no learning rate, minimize has none; got {callback!r}")
    if (averaging := only_average(found)) is not None:
        raise ValueError(f"callbacks: needs such as average no steps, minimize has none; got {averaging!r}")
    return found


def _left(network: Model, settings: Solver, request: Request, loss: Loss | Custom, data: Data) -> SolverRun | None:
    """Return the minimisation that was interrupted, with its own automatic tolerances; None where there was none."""
    left = network._solved
    if left is None:
        return None
    if type(left.solver) is type(settings):
        settings = replace(settings, **{name: getattr(left.solver, name) for name in request.automatic})
    if left.solver != settings:
        raise ValueError(f"resume: needs the method and the options of the run to be resumed, {left.solver!r}; "
                         f"got {settings!r}")  # fmt: skip
    if left.loss not in (None, loss.name):
        raise ValueError(f"resume: needs the loss of the run to be resumed, {left.loss!r}; got {loss.name!r}")
    if left.n_rows not in (None, n_rows := len(data.X)):
        raise ValueError(f"resume: needs the data of the run to be resumed, {left.n_rows} rows; got {n_rows}")
    # Where it is over the parameters may be those of the best iteration.
    is_over = network.history.stop_reason == "tolerance" or left.state.iteration >= request.max_iter
    if not is_over and (left.state.point.astype(network.dtype) != network.parameters).any():
        raise ValueError(
            "resume: needs the parameters that minimize has left, but by restore_best or hand they were changed since"
        )
    return left


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
