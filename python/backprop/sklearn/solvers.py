"""What the solvers of the estimators need, and the minimizers among them; `descent` has the rest."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from backprop.backends.contract import Core, Plan
from backprop.backends.custom import Custom
from backprop.base import threads
from backprop.base.interrupts import HeldInterrupts
from backprop.base.solving import SolveReason, SolverState
from backprop.base.state import TrainingState
from backprop.base.types import Data, RealArray, TrainingSettings
from backprop.learn import pace
from backprop.learn.solve import check_solver, reason_of, scale_inputs, work_of_an_evaluation
from backprop.reference.dense import Dense
from backprop.reference.losses import Loss
from backprop.reference.optimizers import Optimizer
from backprop.reference.solvers import SOLVERS, Solver
from backprop.reference.solvers.solver import MAX_EVALUATIONS

if TYPE_CHECKING:
    from backprop.network import Network

Score: TypeAlias = Callable[[RealArray], float]


class LossAndOutput(NamedTuple):
    """What is minimised, and the outputs that go with it."""

    loss: Loss | Custom
    output: str
    score: str
    """the name of the validation score"""
    unit: float = 1.0
    """reported losses are those of `loss` times this"""


@lru_cache(maxsize=64)
def times(kind: type[Loss], scale: float) -> Loss:
    """Return a loss times a factor; to make and check one anew takes longer than to check the labels."""
    return kind(scale=scale)


@lru_cache(maxsize=64)
def _solver(name: str, tolerance: float, max_evaluations: int) -> Solver:
    """Return a minimizer, which is kept for the same reason."""
    return SOLVERS[name](tolerance=tolerance, max_evaluations=max_evaluations)


class Problem(NamedTuple):
    """A network, rows to learn from, and rows to validate with."""

    core: Core[Any]
    layers: tuple[Dense, ...]
    plan: Plan
    objective: LossAndOutput
    parameters: RealArray
    data: Data
    validation: Data | None
    score: Score | None
    """of the outputs for the validation rows; None where it is not asked for"""

    @property
    def sizes(self) -> tuple[int, ...]:
        """The widths of all layers, inputs first."""
        return (self.plan.n_inputs, *(layer.units for layer in self.layers))

    def training(
        self, optimizer: Optimizer, settings: TrainingSettings, state: TrainingState, rates: NDArray[np.float64]
    ) -> Any:
        """Return a training run over the data."""
        loss = self.objective.loss

        def make(
            settings: TrainingSettings,
            data: Data,
            state: TrainingState,
            rates: NDArray[np.float64],
            validation: Data | None,
        ) -> Any:
            rest = (optimizer, settings, data, state, rates, validation)
            if not isinstance(loss, Custom):
                return self.core.Training(self.plan, loss, *rest)
            from backprop.backends.custom_training import CustomTraining

            return CustomTraining(self.core, self.layers, loss, *rest)

        if not hasattr(self.data.X, "toarray"):
            return make(settings, self.data, state, rates, self.validation)
        from backprop.sklearn.sparse import SparseTraining

        if loss.reduction != "mean":
            raise ValueError("loss: needs reduction='mean' for sparse rows that do not fit into memory")
        return SparseTraining(make, settings, self.data, state, rates, self.validation)

    def network(self) -> Network:
        """Return a network with the present parameters."""
        from backprop.network import Network

        network = Network._assembled(self.plan.n_inputs, self.layers, self.parameters.dtype, 0, None)
        network.parameters[...] = self.parameters
        return network

    def validation_score(self, parameters: RealArray) -> float:
        """Return the score with these parameters."""
        assert self.validation is not None
        assert self.score is not None
        X = self.validation.X
        out: RealArray = np.empty((len(X), self.plan.n_outputs), X.dtype)
        with np.errstate(all="ignore"):
            self.core.forward(self.plan, parameters, X, out)
            return self.score(out)


# --- minimizers ----------------------------------------------------------------------------------------------------


def minimize(
    problem: Problem, solver_name: str, *, max_iter: int, max_fun: int, tol: float, n_threads: int | str
) -> tuple[SolverState, str]:
    """Minimise, with scikit-learn's settings for L-BFGS; returns where that came to, and why it ended."""
    core, plan, loss, data = problem.core, problem.plan, problem.objective.loss, problem.data
    assert isinstance(loss, Loss)  # these solvers refuse custom ones
    state = SolverState(problem.parameters.astype(np.float64))
    solver = _solver(solver_name, tol, min(max_fun, MAX_EVALUATIONS))
    names = {"argument": "solver", "sizes": "hidden_layer_sizes"}
    check_solver(solver, problem.layers, loss, data, plan.n_parameters, **names)
    work = work_of_an_evaluation(solver, loss, data, plan.n_parameters)
    used = threads.choose(None if isinstance(n_threads, str) else int(n_threads), work, core.MAX_THREADS)
    fixed, begins_alone = threads.are_fixed(), threads.are_few(work)
    scale_inputs(solver, state, problem.layers, data)
    run = core.Solving(plan, loss, solver, data, state, used, fixed, begins_alone=begins_alone)
    reason: SolveReason = "time"
    with HeldInterrupts() as interrupts:
        while reason == "time" or (reason == "iterations" and state.iteration < max_iter):
            last = min(max_iter, state.iteration + pace.WINDOW)
            reason = run.run(last, pace.SLICE_SECONDS, np.empty(last - state.iteration))
            interrupts.deliver()
    return state, reason_of(reason, solver, problem.layers, loss, data, state)
