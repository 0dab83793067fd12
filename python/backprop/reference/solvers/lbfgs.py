"""L-BFGS: a step along the gradient times an estimate of the inverse Hessian, from the last steps."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from backprop.base import checks as check
from backprop.base.solving import SolveReason, SolverState
from backprop.reference.solvers.line_search import LineSearch
from backprop.reference.solvers.solver import Function, LeastSquares, Solver, Vector, enter, is_flat

MAX_TRIALS = 20
"""Steps that a line search may try."""
MOST_KEPT = 10_000
"""Steps that may be kept."""
_EPS = float(np.finfo(np.float64).eps)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class LBFGS(Solver):
    """The limited-memory BFGS method with a line search for the strong Wolfe conditions.

    From J. Nocedal, "Updating quasi-Newton matrices with limited storage", Mathematics of Computation 35 (1980). With
    the last steps ``s_k``, what each changed in the gradient ``y_k``, and ``r_k = 1 / (s_k . y_k)``, the direction
    ``d = -H g`` comes from two loops:

        q = g;            for the newest k to the oldest: a_k = r_k s_k . q,    q -= a_k y_k
        q *= s . y / y . y of the newest
                          for the oldest k to the newest: q += s_k (a_k - r_k y_k . q)
        d = -q

    The line search, its constants and what happens where it fails are those of L-BFGS-B. So the path is the same, but
    for rounding. Where squares of the gradient would leave the range of float64, loss and gradient are multiplied by a
    power of two, which changes no bit of the steps.

    Parameters
    ----------
    tolerance
        Stop when no element of the gradient is larger, >= 0.
    loss_tolerance
        Stop when an iteration lowers the loss by at most this, relative to the loss or to 1, whichever is larger.
    max_evaluations
        Stop after the iteration in which the loss is computed for this time.
    history
        How many of the last steps are kept, 1 to 10,000.

    Examples
    --------
    >>> import backprop as bp
    >>> bp.solvers.LBFGS(history=20)
    LBFGS(tolerance=1e-05, loss_tolerance=2.220446049250313e-09, history=20)
    """

    name: ClassVar[str] = "lbfgs"

    loss_tolerance: float = 1e7 * _EPS
    history: int = 10

    def __post_init__(self) -> None:
        Solver.__post_init__(self)
        object.__setattr__(self, "history", check.integer("history", self.history, at_least=1, at_most=MOST_KEPT))

    def steps(self, function: Function | LeastSquares, state: SolverState) -> Iterator[SolveReason | None]:
        """As `Solver.steps`."""
        assert callable(function)
        x, g = state.point.copy(), np.empty_like(state.point)
        value = function(x, g)
        state.evaluations = state.counted + (state.iteration == 0)
        enter(state, x, value, g)
        if not (math.isfinite(value) and math.isfinite(state.slope)):
            yield "not finite"
        pairs = state.pairs = state.pairs[-self.history :]
        yield None
        while True:
            if (reason := self.reason_to_stop(state)) is not None:
                yield reason
            unit = unit_of(state.slope)
            d = _direction([(s, unit * y) for s, y in pairs], unit * g)
            before, g_before, value_before = x, g.copy(), value
            slope_before = float(unit * g @ d)
            step = 1.0 if state.iteration > 0 else float(1 / np.sqrt(d @ d))
            search = LineSearch(unit * value, slope_before, step)
            found = False
            for _ in range(MAX_TRIALS if slope_before < 0 else 0):
                tried = search.step
                x = before + tried * d
                value = function(x, g)
                state.evaluations += 1
                verdict = search.take(unit * value, slope := float(unit * g @ d))
                if verdict != "go on":
                    found = True
                    break
                yield None
            if not found:
                x, value = before, value_before
                g[:] = g_before
                if not pairs:
                    yield "stuck"
                pairs.clear()
                state.counted = state.evaluations
                continue
            state.iteration += 1
            enter(state, x, value, g)
            if (slope - slope_before) * tried > _EPS * -slope_before * tried:
                pairs.append((tried * d, g - g_before))
                del pairs[: -self.history]
            yield self.reason_to_stop(state) or ("loss" if is_flat(self, value_before, value) else None)


def unit_of(slope: float) -> float:
    """Return a power of two that brings a gradient with this largest element near 1: 1 from 2**-128 to 2**128."""
    return 2.0 ** (-256 * max(-3, min((math.frexp(slope)[1] + 127) // 256, 3)))


def _direction(pairs: list[tuple[Vector, Vector]], g: Vector) -> Vector:
    """Return minus the gradient times the estimate of the inverse Hessian."""
    q = -g
    rs = [1 / (s @ y) for s, y in pairs]  # NumPy's numbers, which may be infinite
    shares = []
    for (s, y), r in zip(reversed(pairs), reversed(rs), strict=True):
        shares.append(share := r * float(s @ q))
        q -= share * y
    if pairs:
        y = pairs[-1][1]
        q *= 1 / (rs[-1] * (y @ y))
    for (s, y), r, share in zip(pairs, rs, reversed(shares), strict=True):
        q += (share - r * float(y @ q)) * s
    return q
