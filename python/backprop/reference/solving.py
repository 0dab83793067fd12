"""A minimisation over all rows, one evaluation of the loss after the other. Start reading at `Minimisation.run`."""

from __future__ import annotations

import math
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from backprop.base.solving import SolveReason, SolverState
from backprop.reference.gauss_newton import gauss_newton
from backprop.reference.losses.loss import denominator
from backprop.reference.passes import Plan, add_penalty_gradient, loss_and_gradient
from backprop.reference.solvers.bayesian import Terms
from backprop.reference.solvers.solver import Function, LeastSquares, Solver, Vector, slope_of

if TYPE_CHECKING:
    from backprop.base.types import Data
    from backprop.reference.losses import Loss


class Minimisation:
    """A minimisation of any function: changes `state` in place."""

    def __init__(self, function: Function | LeastSquares, solver: Solver, state: SolverState) -> None:
        self.state = state
        self.steps = solver.steps(function, state)
        self.begun = False

    def run(self, last_iteration: int, seconds: float, losses: NDArray[np.float64]) -> SolveReason:
        """Go on until `state.iteration == last_iteration`, there is another reason to end, or the time is over.

        ``losses[i]`` receives the loss after the i-th iteration of this call. The first call computes the loss at the
        start, even where it has no iteration to do. The clock is looked at after each evaluation of the loss. Once
        there was a reason other than "iterations" and "time", there is nothing left to do.
        """
        end = time.perf_counter() + seconds
        first = self.state.iteration
        while not self.begun or self.state.iteration < last_iteration:
            before = self.state.iteration
            with np.errstate(all="ignore"):
                reason = next(self.steps)
            self.begun = True
            if self.state.iteration > before:
                losses[before - first] = self.state.loss
            if reason is not None:
                return reason
            if time.perf_counter() >= end:
                break
        return "iterations" if self.state.iteration >= last_iteration else "time"

    def remember(self) -> None:
        """Put what the method has learned into the state; here it is always there."""


def is_within(bound: float, point: Vector) -> bool:
    """Return whether no parameter is larger than the bound, without its sign, or NaN."""
    return slope_of(point) <= bound


class Solving(Minimisation):
    """A minimisation of the loss over fixed data, penalties included, without dropout: changes `state` in place."""

    def __init__(
        self,
        plan: Plan,
        loss: Loss,
        solver: Solver,
        data: Data,
        state: SolverState,
        n_threads: int = 1,
        fixed_threads: bool = False,
        bound: float = sys.float_info.max,
        begins_alone: bool = False,
    ) -> None:
        super().__init__(Rows(plan, loss, data, bound), solver, state)


@dataclass(frozen=True, slots=True)
class Rows:
    """The loss over all rows, penalties included, as a function of all parameters and as one of those to train."""

    plan: Plan
    function: Loss
    data: Data
    bound: float = sys.float_info.max
    """of the size of a parameter: beyond it the loss is infinite"""

    def __call__(self, point: Vector, gradient: Vector) -> float:
        """Return the loss; put its gradient into `gradient`."""
        if not is_within(self.bound, point):
            gradient[:] = math.nan
            return math.inf
        parameters: Any = point.astype(self.data.X.dtype)
        slopes = np.empty_like(parameters)
        value = loss_and_gradient(self.plan, self.function, parameters, self.data, slopes)
        gradient[:] = slopes
        return value

    def loss(self, point: Vector) -> float:
        """Return the loss."""
        if not is_within(self.bound, point):
            return math.inf
        parameters: Any = point.astype(self.data.X.dtype)
        return loss_and_gradient(self.plan, self.function, parameters, self.data, None)

    def gauss_newton(self, point: Vector, gradient: Vector) -> Vector:
        """Return the Gauss-Newton matrix; put the gradient into the other vector.

        What is not trainable has zeros in both.
        """
        parameters: Any = point.astype(self.data.X.dtype)
        _, slopes, matrix = gauss_newton(self.plan, self.function, parameters, self.data)
        add_penalty_gradient(self.plan, parameters, slopes)
        for array in self.plan.arrays:
            if array.trainable and array.penalised:
                np.einsum("ii->i", matrix)[array.part] += self.plan.layers[array.layer].settings.l2
        gradient[:] = slopes
        return matrix

    def gaussian(self) -> Terms:
        """Return what the squared error is to the evidence: the biases of the last layer have no prior."""
        plan, loss, weight = self.plan, self.function, self.data.sample_weight
        prior, trainable = np.zeros(plan.n_parameters), np.zeros(plan.n_parameters)
        for array in plan.arrays:
            trainable[array.part] = array.trainable
            prior[array.part] = array.trainable and not (array.name == "biases" and array.layer == len(plan.layers) - 1)
        rows = len(self.data.X)
        factor = 2 * loss.scale / denominator(loss, weight, rows, plan.n_outputs)
        n_rows = rows if weight is None else float(weight.sum(dtype=np.float64))
        return Terms(factor, n_rows * plan.n_outputs, prior, trainable)
