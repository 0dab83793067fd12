"""What the solvers share: their settings, the function that they minimise, and what they leave in the state."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from typing import ClassVar, Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from backprop.base import checks as check
from backprop.base.solving import SolveReason, SolverState

Vector: TypeAlias = NDArray[np.float64]
Function: TypeAlias = Callable[[Vector, Vector], float]
"""a function of a point that puts its gradient into the second vector"""


@runtime_checkable
class LeastSquares(Protocol):
    """The loss of residuals as a function of all parameters."""

    def loss(self, point: Vector) -> float:
        """Return the loss, penalties included."""
        ...

    def gauss_newton(self, point: Vector, gradient: Vector) -> Vector:
        """Return the Gauss-Newton matrix (n, n); put the gradient into the other vector."""
        ...


MAX_EVALUATIONS = 2**62


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Solver:
    """A method that minimises the loss over all rows: when it stops."""

    name: ClassVar[str] = ""

    tolerance: float = 1e-5
    """stop when no element of the gradient is larger"""
    loss_tolerance: float = 0.0
    """stop when an iteration lowers the loss by at most this, relative to the loss or to 1, whichever is larger"""
    max_evaluations: int = MAX_EVALUATIONS
    """stop after the iteration in which the loss is computed for this time"""

    def __post_init__(self) -> None:
        object.__setattr__(self, "tolerance", check.number("tolerance", self.tolerance, at_least=0))
        object.__setattr__(self, "loss_tolerance", check.number("loss_tolerance", self.loss_tolerance, at_least=0))
        count = check.integer("max_evaluations", self.max_evaluations, at_least=1, at_most=MAX_EVALUATIONS)
        object.__setattr__(self, "max_evaluations", count)

    def __repr__(self) -> str:
        """Show the settings but for evaluations without a bound."""
        shown = [field.name for field in fields(self)]
        if self.max_evaluations == MAX_EVALUATIONS:
            shown.remove("max_evaluations")
        return f"{type(self).__name__}({', '.join(f'{name}={getattr(self, name)!r}' for name in shown)})"

    def steps(self, function: Function | LeastSquares, state: SolverState) -> Iterator[SolveReason | None]:
        """Minimise: yield None, or why it ends, after each evaluation; whole iterations change `state`."""
        raise NotImplementedError

    def reason_to_stop(self, state: SolverState, settled: bool = True) -> SolveReason | None:
        """Return why the state ends a minimisation, if it does; a small gradient only where all else is settled."""
        if state.slope <= self.tolerance and (settled or state.slope == 0):
            return "gradient"
        return "evaluations" if state.evaluations >= self.max_evaluations else None


def slope_of(gradient: Vector) -> float:
    """Return the largest element, without its sign; NaN where one is NaN."""
    return float(np.abs(gradient).max(initial=0.0))


def enter(state: SolverState, point: Vector, value: float, gradient: Vector) -> None:
    """Make a point that of the state."""
    state.point[:] = point
    state.loss = value
    state.counted = state.evaluations
    state.slope = slope_of(gradient)


def is_flat(solver: Solver, before: float, after: float) -> bool:
    """Return whether the loss fell by no more than the tolerance."""
    return before - after <= solver.loss_tolerance * max(abs(before), abs(after), 1.0)
