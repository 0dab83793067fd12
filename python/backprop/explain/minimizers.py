"""L-BFGS and Levenberg-Marquardt on any function of a few variables: the reference's own, iteration by iteration."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backprop.base import checks as check
from backprop.base.solving import SolverState
from backprop.model.records import Method
from backprop.reference.solvers import LBFGS, LevenbergMarquardt
from backprop.reference.solving import Minimisation

Vector = NDArray[np.float64]
Walk = tuple[list[Vector], list[float], list[Vector]]
"""points, and value and gradient at each"""


_EPS = float(np.finfo(np.float64).eps)
COMPLEX_STEP = 1e-100
CENTRAL_STEP = float(np.cbrt(_EPS))
_AGREEMENT = 1e-4
"""How far a complex step may be from a central difference, which has about ten digits where the function is tame."""


@dataclass(slots=True)
class Jacobian:
    """The derivatives of residuals, (m, n): those given, or by complex steps, or by central differences."""

    call: Callable[[Vector], Any]
    given: Callable[[Any], Any] | None
    shape: tuple[int, ...]
    method: Method

    def __call__(self, point: Vector) -> Vector:
        """Return them at a point."""
        if self.given is not None:
            J = _numbers("gradient", self.given(point.reshape(self.shape)[()].copy()))
            if J.size % point.size:
                raise ValueError(f"gradient: needs to return the Jacobian, a column for each x, got shape {J.shape}")
            return J.reshape(-1, point.size)
        if self.method == "complex step":
            try:
                return self.by_complex_steps(point)
            except (TypeError, ValueError, AttributeError):  # a part of f that x0 did not come through
                pass
        return self.by_differences(point)

    def by_complex_steps(self, point: Vector) -> Vector:
        """Return the imaginary parts of residuals a little beside the point."""
        columns = []
        for i in range(point.size):
            beside: Any = point.astype(np.complex128)
            beside[i] += 1j * COMPLEX_STEP
            columns.append(np.asarray(self.call(beside), np.complex128).reshape(-1).imag / COMPLEX_STEP)
        return np.stack(columns, axis=1)

    def by_differences(self, point: Vector) -> Vector:
        """Return central differences."""
        size = _numbers("f", self.call(point)).size
        ends = (ends_of(lambda x: _residuals(self.call, x, size), point, i) for i in range(point.size))
        return np.stack([(above - below) / width for above, below, width in ends], axis=1)


def ends_of(f: Callable[[Vector], Any], point: Vector, i: int, factor: float = 1.0) -> tuple[Any, Any, float]:
    """Return f above and below a point in one coordinate, and how far these two are from each other.

    The step is where the error of a central difference and that of rounding are of a size, or `factor` times that.
    """
    h = factor * CENTRAL_STEP * max(1.0, abs(float(point[i])))
    above, below = point.copy(), point.copy()
    above[i] += h
    below[i] -= h
    return f(above), f(below), float(above[i] - below[i])


def are_derivatives(found: Vector, f: Callable[[Vector], Vector], point: Vector) -> bool:
    """Return whether these are the derivatives of f, (m, n), as far as differences can tell.

    A function that takes complex numbers may still treat them as two reals, as abs does: then they are not. How far the
    differences can be trusted follows from those with twice the step and from the size of f, whatever its unit.
    """
    here = f(point)
    for i in range(point.size):
        (above, below, width), (far_above, far_below, double) = (ends_of(f, point, i, factor) for factor in (1, 2))
        rough, wide, h = (above - below) / width, (far_above - far_below) / double, width / 2
        size = np.abs(rough) + np.maximum(np.abs(above - here), np.abs(below - here)) / h
        slack = _AGREEMENT * size + np.abs(wide - rough) + 10 * _EPS / h * np.abs(here)
        if not (np.abs(found[:, i] - rough) <= slack).all():
            return False
    return True


def jacobian_of(call: Callable[[Vector], Any], given: Any, shape: tuple[int, ...], start: Vector) -> Jacobian:
    """Return the derivatives of residuals; complex steps where these agree with differences at the start."""
    if given is not None:
        if not callable(given):
            raise TypeError(f"gradient: needs a function or None, got {check.shown(given)}")
        return Jacobian(call, given, shape, "given")
    exact = Jacobian(call, None, shape, "complex step")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", np.exceptions.ComplexWarning)  # the imaginary part must not get lost
            found = exact.by_complex_steps(start)
        if are_derivatives(found, lambda point: _numbers("f", call(point)), start):
            return exact
    except (TypeError, ValueError, AttributeError, np.exceptions.ComplexWarning):  # f is not for complex numbers
        pass
    return Jacobian(call, None, shape, "central difference")


@dataclass(frozen=True, slots=True)
class SumOfSquares:
    """A function that is the sum of the squares of residuals, which have a Jacobian."""

    call: Callable[[Vector], Any]
    jacobian: Jacobian

    def loss(self, point: Vector) -> float:
        """Return the sum."""
        e = _numbers("f", self.call(point))
        return float(e @ e)

    def gradient(self, point: Vector) -> Vector:
        """Return ``2 J^T e``."""
        e, J = self._with_jacobian(point)
        gradient: Vector = 2 * J.T @ e
        return gradient

    def gauss_newton(self, point: Vector, gradient: Vector) -> Vector:
        """Return ``2 J^T J``; put the gradient into the other vector."""
        e, J = self._with_jacobian(point)
        gradient[:] = 2 * J.T @ e
        return 2 * J.T @ J

    def _with_jacobian(self, point: Vector) -> tuple[Vector, Vector]:
        """Return the residuals and their Jacobian."""
        e, J = _numbers("f", self.call(point)), self.jacobian(point)
        if len(J) != len(e):
            name = "gradient" if self.jacobian.given is not None else "f"
            raise ValueError(
                f"{name}: needs a row of the Jacobian for each of the {len(e)} residuals, got {len(J)} rows"
            )
        return e, J

    def function(self) -> Callable[[Any], float]:
        """Return the sum as a function of what the residuals are given."""
        return lambda x: self.loss(np.reshape(x, -1).astype(np.float64))


def _numbers(name: str, value: Any) -> Vector:
    """Return what a function has returned as real numbers, one after the other."""
    array = np.asarray(value)
    if array.dtype.kind not in "fiub" or not array.size:
        raise TypeError(f"{name}: needs to return real numbers, got {check.shown(value)}")
    return array.reshape(-1).astype(np.float64)


def _residuals(call: Callable[[Vector], Any], point: Vector, size: int) -> Vector:
    """Return residuals, of which there are as many everywhere, or one infinite number in the place of all."""
    e = _numbers("f", call(point))
    if e.size != size and not (e.size == 1 and np.isinf(e[0])):
        raise ValueError(f"f: needs to return as many residuals everywhere, got {e.size} beside {size}")
    return e


def length_of(vector: Vector) -> float:
    """Return the Euclidean length, which overflows only where the numbers themselves do."""
    largest = float(np.abs(vector).max())
    return largest * float(np.linalg.norm(vector / largest)) if largest > 0 else 0.0


def by_lbfgs(
    value: Callable[[Vector], float], slope: Callable[[Vector], Vector], start: Vector, steps: int, tolerance: float
) -> Walk:
    """Walk down by L-BFGS."""

    def function(point: Vector, gradient: Vector) -> float:
        found = value(point)
        gradient[:] = slope(point) if math.isfinite(found) else np.nan
        return found

    state = SolverState(start.copy())
    return _walk(Minimisation(function, LBFGS(tolerance=0, loss_tolerance=0), state), value, slope, steps, tolerance)


def by_levenberg_marquardt(squares: SumOfSquares, start: Vector, steps: int, tolerance: float) -> Walk:
    """Walk down by Levenberg-Marquardt."""
    run = Minimisation(squares, LevenbergMarquardt(tolerance=0), SolverState(start.copy()))
    return _walk(run, squares.loss, squares.gradient, steps, tolerance)


def _walk(
    run: Minimisation,
    value: Callable[[Vector], float],
    slope: Callable[[Vector], Vector],
    steps: int,
    tolerance: float,
) -> Walk:
    """Note each point, until the norm of the gradient is small enough or nothing falls any more."""
    state = run.state
    path, values, gradients = [state.point.copy()], [value(state.point)], [slope(state.point)]
    reason = run.run(0, math.inf, np.empty(0))
    while reason in ("iterations", "time") and state.iteration < steps and length_of(gradients[-1]) > tolerance:
        before = state.iteration
        reason = run.run(before + 1, math.inf, np.empty(1))
        if state.iteration > before:
            path.append(state.point.copy())
            values.append(value(state.point))
            gradients.append(slope(state.point))
    return path, values, gradients
