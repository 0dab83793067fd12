"""The loss over all rows, minimised by the backend: L-BFGS, Levenberg-Marquardt and Bayesian regularisation."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from backprop.backends.contract import Solving
from backprop.backends.custom import Custom
from backprop.base import checks as check
from backprop.base import threads
from backprop.base.solving import SolverRun, SolverState
from backprop.base.types import Data, RealArray
from backprop.learn import pace
from backprop.learn.callbacks import Callback, Progress, overrides
from backprop.learn.callbacks.callback import resume_all
from backprop.learn.callbacks.plateaus import called_by, rank, tell_all
from backprop.learn.measures import Measures
from backprop.learn.solution import Solution
from backprop.model import rows
from backprop.model.objective import Objective
from backprop.reference.gauss_newton import WEIGHTS
from backprop.reference.layout import layout
from backprop.reference.passes import Plan
from backprop.reference.solvers import SOLVERS, BayesianRegularization, LevenbergMarquardt, Solver
from backprop.reference.solving import Rows

if TYPE_CHECKING:
    from backprop.model.model import Model
    from backprop.reference.dense import Dense
    from backprop.reference.losses import Loss

P = ParamSpec("P")
R = TypeVar("R")

MOST_PARAMETERS = 5000
"""that Levenberg-Marquardt trains: its matrix has 200 MB then"""
_ROWS_OF_A_CHUNK, _MEETINGS = 96, 6
"""Of Levenberg-Marquardt: threads meet after each chunk, and where a CPU is busy, such short waits cost more than they
do in training."""
_SELDOM = 2.5
"""An evaluation for L-BFGS has two meetings of threads, a step of training up to five."""


def solver(method: str | Solver, tolerance: float | None, options: Mapping[str, Any] | None) -> Solver:
    """Return the settings of a method: an object itself, or those that `options` names, which are checked."""
    if isinstance(method, Solver):
        own = f"needs a method by its name, {type(method).__name__} has its own; got"
        if options:
            raise ValueError(f"options: {own} {check.shown(options)}")
        if tolerance is not None and tolerance != method.tolerance:
            raise ValueError(f"tolerance: {own} {tolerance:g}")
        return method
    cls = SOLVERS[method]
    known = [field.name for field in fields(cls) if field.name != "tolerance"]
    for name in options or {}:
        check.choice("options", name, known)
    given: dict[str, Any] = {} if tolerance is None else {"tolerance": tolerance}
    return cls(**given, **(options or {}))


def check_solver(
    settings: Solver,
    layers: Sequence[Dense],
    loss: Loss | Custom,
    data: Data,
    n_trainable: int,
    *,
    argument: str = "method",
    sizes: str = "layers",
) -> None:
    """Raise where a method cannot minimise this; `argument` and `sizes` are what users call it and the layers."""
    if not isinstance(settings, LevenbergMarquardt):
        return
    method, is_bayesian = f"{argument}={settings.name!r}", isinstance(settings, BayesianRegularization)
    known = ["squared_error"] if is_bayesian else list(WEIGHTS)
    if loss.name not in known:
        raise ValueError(f"loss: needs {'one of ' * (len(known) > 1)}{', '.join(map(repr, known))} for {method}, "
                         f"got {loss.name!r}")  # fmt: skip
    if data.weighs_outputs:
        raise ValueError(f"sample_weight: needs a weight for each row, not for each output, for {method}")
    if n_trainable > MOST_PARAMETERS:
        raise ValueError(
            f"{sizes}: needs at most {MOST_PARAMETERS} trainable parameters for {method}, whose matrix has a number "
            f"for each pair of them; got {n_trainable}: use {argument}='lbfgs'"
        )
    n_rows = len(data.X) if data.sample_weight is None else float(data.sample_weight.sum(dtype=np.float64))
    if is_bayesian and layers[-1].activation == "softmax":
        raise ValueError(f"layers[{len(layers) - 1}]: needs outputs with normal errors for {method}, got softmax")
    if is_bayesian and layers[-1].bias and layers[-1].trains_biases and n_rows <= 1:
        raise ValueError(
            f"X: needs more than one sample for {method} (or weights that add up to more), as the biases of the "
            f"outputs fit one without an error; got {n_rows:g}"
        )
    for k, layer in enumerate(layers):
        if layer.l1:
            raise ValueError(f"layers[{k}]: needs l1=0 for {method}, which takes squares only; got {layer.l1}")
        if layer.l2 and is_bayesian:
            raise ValueError(f"layers[{k}]: needs l2=0 for {method}, which finds the penalty itself; got {layer.l2}")


def reason_of(
    reason: str, settings: Solver, layers: Sequence[Dense], loss: Loss | Custom, data: Data, state: SolverState
) -> str:
    """Return why a minimisation ended: also ``"no noise"``, where precisions are not those of the evidence."""
    if not isinstance(settings, BayesianRegularization) or reason not in ("gradient", "loss"):
        return reason
    assert not isinstance(loss, Custom)
    terms = Rows(Plan(data.X.shape[1], tuple(layers)), loss, data).gaussian()
    return reason if terms.agree(state) else "no noise"


class Interrupts(Protocol):
    """What `HeldInterrupts` does: holds Ctrl-C back but for moments."""

    def deliver(self) -> None:
        """Raise if it has come."""

    def call(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call what is not ours."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Listeners:
    """Who is told about a minimisation, and what is measured in it."""

    callback: Callable[[int, float], Any] | None = None
    callbacks: Sequence[Callback] = ()
    measures: Measures | None = None
    validation: Objective | None = None
    """the loss of the validation rows"""
    bar: Progress

    def periods(self) -> list[int]:
        """Return after how many iterations each of them has something to do."""
        names = ("on_epoch_begin", "on_epoch_end")
        called = [each.every for each in self.callbacks if any(overrides(each, name) for name in names)]
        own = self.callback is not None or self.validation is not None
        own = own or bool(self.measures is not None and self.measures.sets)
        return called + [1] * own


def needed_loss(got: float) -> str:
    """Return what a start needs whose loss is not finite, and where it is infinite, what may help."""
    needed = f"the loss is finite, got a loss of {got}"
    return needed + ": bring inputs and targets to a scale of about 1" * math.isinf(got)


class NotFiniteError(ValueError):
    """The loss at the start is not finite."""

    def __init__(self, solution: Solution) -> None:
        super().__init__(solution)  # pickles make it again of this
        self.solution = solution

    def __str__(self) -> str:
        solution = self.solution
        if not math.isfinite(solution.loss):
            what = needed_loss(solution.loss)
        elif not math.isfinite(solution.slope):
            what = f"the gradient is finite, got a slope of {solution.slope}"
        else:
            what = f"the penalty is finite, got parameters up to {np.abs(solution.x).max():g}"
        return f"parameters: needs a start where {what}"


class Minimising:
    """One call of `minimize` while it works; the caller holds Ctrl-C and the network's guard."""

    measured = None
    """as `Run.measured`: here the loss of an iteration is that of the parameters at its end"""

    def __init__(
        self,
        network: Model,
        objective: Objective,
        left: SolverRun,
        free: NDArray[np.bool_],
        interrupts: Interrupts,
        listeners: Listeners,
        max_iter: int,
        n_threads: int,
    ) -> None:
        self.network, self.objective, self.left, self.state = network, objective, left, left.state
        self.free, self.interrupts, self.call, self.listeners = free, interrupts, interrupts.call, listeners
        self.max_iter = max_iter
        self.is_bayesian = isinstance(left.solver, BayesianRegularization)
        self.periods = listeners.periods() + [1] * self.is_bayesian
        self.resumes = bool(left.state.iteration or left.callbacks)
        self.first = network.history.epochs - left.state.iteration
        self.n_threads = n_threads
        self.logs: dict[str, float] = {}
        self.asked: str | None = None
        self.ended, self.begun = "time", False
        self.run: Solving | None = None

    # What `Network.stop` asks for, perhaps from another thread, is done between two calls of the core.

    def stop(self, reason: str) -> None:
        """End as soon as the core returns."""
        self.asked = reason

    def evaluated(self) -> RealArray:
        """Return the parameters that are measured: those that the network has."""
        return self.network._parameters

    def scale_learning_rate(self, factor: float) -> None:
        """Refuse: there is none."""
        raise ValueError("learning_rate: minimize has none, use a callback that scales it in fit only")

    def note_callbacks(self) -> None:
        """Put the states of solver and callbacks where a checkpoint finds them."""
        if self.run is not None:
            self.run.remember()
        if self.resumes and not self.begun:  # what was left to do still is, and callbacks have not what they had
            return
        callbacks, is_running = self.listeners.callbacks, self.network._run is self
        self.left.asked, self.left.ended = (self.asked, self.ended) if is_running else (None, "time")
        self.left.callbacks = [(type(callback).__name__, callback.state()) for callback in callbacks]

    def train(self) -> Solution:
        """Minimise, and write each whole iteration into the network and its history."""
        network, history, left, bar = self.network, self.network.history, self.left, self.listeners.bar
        began = time.perf_counter()
        network._optimizer, network._solved = None, left  # what an optimizer remembers does not fit the new parameters
        network._run = self
        left.reason = history.stop_reason = "interrupted"
        with ExitStack() as last, ExitStack() as ends:
            try:
                for callback in self.listeners.callbacks:
                    if overrides(callback, "on_train_begin"):
                        self.tell(callback, "on_train_begin", self.logs)
                    if overrides(callback, "on_train_end"):
                        (last if callback.writes_checkpoints else ends).callback(self.tell_end, callback)
                if self.resumes:
                    resume_all(self.listeners.callbacks, left.callbacks)
                    self.asked, self.ended = self.asked or left.asked, left.ended
                    self.logs = {name: float(history[name][-1]) for name in history if history.epochs}
                self.begun = True
                bar.begin(self.max_iter, "iteration")
                try:
                    if not self.is_over():
                        self.loop()
                finally:
                    self.finish()
            finally:
                network._run = None
                history.elapsed += time.perf_counter() - began
                bar.close(self.state.iteration, self.state.loss)
                self.note_callbacks()
        return self.solution()

    def finish(self) -> None:
        """Say why it has ended, where it has, whatever a callback raised then."""
        left, objective, ended = self.left, self.objective, self.ended
        if self.asked is not None:
            ended = "stopped"
        elif ended == "time":
            ended = "iterations"
        if self.is_over():
            left.reason = reason_of(ended, left.solver, objective.layers, objective.loss, objective.data, self.state)
            self.network.history.stop_reason = _stop_reason(left.reason, self.asked)

    def is_over(self) -> bool:
        """Whether there is a reason to end."""
        is_done = self.ended not in ("time", "iterations") or self.state.iteration == self.max_iter
        return is_done or self.asked is not None

    def loop(self) -> None:
        """Let the core work until there is a reason to end."""
        state, bar = self.state, self.listeners.bar
        objective, settings = self.objective, self.left.solver
        bound = float(np.finfo(self.network.dtype).max)
        work = work_of_an_evaluation(settings, objective.loss, objective.data, int(self.free.sum()))
        self.run = run = solving(objective, settings, state, self.n_threads, bound, threads.are_few(work))
        ended: str = "time"
        while ended == "time":
            ended = run.run(state.iteration, pace.SLICE_SECONDS, np.empty(0))
            self.interrupts.deliver()
        if ended == "not finite":
            self.left.reason = ended
            raise NotFiniteError(self.solution())
        begins = True
        while self.asked is None:
            if begins and state.iteration < self.max_iter:
                self.begin_epoch()
            first = state.iteration
            self.advance()
            begins = state.iteration > first
            bar.show(state.iteration, state.loss)
            if self.asked is None:
                if self.is_over():
                    return
                self.interrupts.deliver()

    def advance(self) -> None:
        """Go on for a while; the network follows."""
        assert self.run is not None
        state = self.state
        first = state.iteration
        last = min(self.max_iter, first + pace.WINDOW)
        for every in self.periods:
            last = min(last, ((self.first + first) // every + 1) * every - self.first)
        losses = np.empty(last - first)
        self.ended = self.run.run(last, pace.SLICE_SECONDS, losses)
        if (done := state.iteration - first) > 0:
            self.network.parameters[self.free] = state.point[self.free]
            self.settle(losses[:done])

    def record(self, losses: NDArray[np.float64]) -> None:
        """Add iterations to the history; `logs` are those of the last one."""
        state, listeners = self.state, self.listeners
        values: dict[str, Any] = {"loss": losses}
        try:
            if listeners.validation is not None:
                values["val_loss"] = np.array([listeners.validation(state.point)])
            if listeners.measures is not None and listeners.measures.sets:
                measured = self.call(listeners.measures, self.network._parameters)
                values.update((name, np.array([value])) for name, value in measured.items())
        finally:  # a metric that raises takes nothing else away
            if self.is_bayesian:
                values.update((name, np.array([getattr(state, name)])) for name in ("alpha", "beta", "gamma"))
            self.network.history.extend(len(losses), values)
            self.logs = {name: float(array[-1]) for name, array in values.items()}

    def settle(self, losses: NDArray[np.float64]) -> None:
        """Do what iterations have left to do, whatever one of the callbacks raises."""
        state, callback, epoch = self.state, self.listeners.callback, self.first + self.state.iteration
        error: BaseException | None = None
        try:
            self.record(losses)
            if callback is not None and self.call(callback, state.iteration, state.loss):
                self.stop("stopped")
        except BaseException as raised:
            error = raised
        callbacks = sorted(self.listeners.callbacks, key=rank)
        callbacks = [each for each in callbacks if overrides(each, "on_epoch_end")]
        due = [(each, called_by(self.call, each, "on_epoch_end")) for each in callbacks if epoch % each.every == 0]
        error = tell_all(due, self.network, epoch, self.logs, error)
        if error is not None:
            raise error

    def begin_epoch(self) -> None:
        """Call what is due before an iteration."""
        done = self.first + self.state.iteration
        for callback in self.listeners.callbacks:
            if done % callback.every == 0 and overrides(callback, "on_epoch_begin"):
                self.tell(callback, "on_epoch_begin", done + 1, self.logs)

    def tell(self, callback: Callback, name: str, *arguments: Any) -> None:
        """Call a method of a callback; Ctrl-C may interrupt it, unless it is ours."""
        called_by(self.call, callback, name)(self.network, *arguments)

    def tell_end(self, callback: Callback) -> None:
        """Tell a callback that it has ended."""
        self.tell(callback, "on_train_end", self.logs)

    def solution(self) -> Solution:
        """Return where it has come to."""
        return solution_of(self.left, self.free, self.objective)


def solution_of(left: SolverRun, free: NDArray[np.bool_], objective: Objective) -> Solution:
    """Return where a minimisation has come to."""
    state, ordinary = left.state, _ordinary_slope(objective.loss, objective.data)
    names = ("alpha", "beta", "gamma") if isinstance(left.solver, BayesianRegularization) else ()
    return Solution(
        x=state.point[free], loss=state.loss, slope=state.slope, iterations=state.iteration,
        evaluations=state.evaluations, reason=left.reason, ordinary_slope=ordinary,
        **{name: getattr(state, name) for name in names},
    )  # fmt: skip


def _ordinary_slope(loss: Loss | Custom, data: Data) -> float:
    """Return `Solution.ordinary_slope`."""
    if isinstance(loss, Custom):
        return 1.0
    weight = len(data.X) if data.sample_weight is None else float(np.sum(data.sample_weight))
    return max(1.0, loss.scale) * (max(1.0, weight) if loss.reduction == "sum" else 1.0)


def solving(
    objective: Objective, settings: Solver, state: SolverState, n_threads: int, bound: float, begins_alone: bool
) -> Solving:
    """Return the backend's minimisation, or for a loss that no core knows, the reference's loop over its parts.

    Beyond the bound parameters do not fit into the network: the loss counts as infinite there.
    """
    loss, data = objective.loss, objective.data
    scale_inputs(settings, state, objective.layers, data)
    if not isinstance(loss, Custom) and not data.weighs_outputs:
        fixed = threads.are_fixed()
        return objective.module.Solving(
            objective.plan, loss, settings, data, state, n_threads, fixed, bound, begins_alone
        )
    from backprop.reference.solving import Minimisation, is_within

    def bounded(point: NDArray[np.float64], gradient: NDArray[np.float64]) -> float:
        if is_within(bound, point):
            return objective(point, gradient)
        gradient[:] = math.nan
        return math.inf

    return Minimisation(bounded, settings, state)


def scale_inputs(settings: Solver, state: SolverState, layers: Sequence[Dense], data: Data) -> None:
    """Let Levenberg-Marquardt damp the weights of an input by its mean square, as if it had a scale of about 1.

    To a power of 16, so that it is 1 for most inputs, and within 16**10, so that no constant but for rounding matters.
    A small input has l2 where that is larger: else the first damping would be that of the penalty in its unit.
    """
    if not isinstance(settings, LevenbergMarquardt) or settings.scaling != "identity" or state.scale.size:
        return
    weight = np.ones(len(data.X)) if data.sample_weight is None else data.sample_weight
    with np.errstate(all="ignore"):
        squares = np.einsum("ij,ij,i->j", data.X, data.X, weight, dtype=np.float64) / weight.sum(dtype=np.float64)
        least, *powers = np.rint(np.log2([layers[0].l2, *np.where(squares > 0, squares, 1)]) / 4)
        powers = np.clip(powers, min(0, max(-60, least)), 60)
    if powers.any() and layers[0].trainable:
        most = powers.max(where=squares > 0, initial=-60)
        state.scale = np.ones(len(state.point))
        weights = layout(len(powers), layers)[0].of(state.scale)
        weights[...] = 16.0 ** np.maximum(powers, most - 10)[:, np.newaxis]


def work_of_an_evaluation(settings: Solver, loss: Loss | Custom, data: Data, n_parameters: int) -> float:
    """Return the arithmetic of one evaluation, weighed: of a step of training that would keep threads as busy.

    What counts is how much there is between two of their meetings, of which a step has more or fewer.
    """
    n_rows: int = data.X.shape[0]
    n_inputs: int = data.X.shape[1]
    if isinstance(settings, LevenbergMarquardt):
        return min(n_rows, _ROWS_OF_A_CHUNK) * n_parameters**2 / _MEETINGS
    return _SELDOM * rows.flops(loss, n_inputs, n_parameters, n_rows)


def _stop_reason(reason: str, asked: str | None) -> str:
    """Return what the history says."""
    if asked is not None:
        return asked
    return "epochs" if reason in ("iterations", "evaluations") else "tolerance"
