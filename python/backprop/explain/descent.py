"""Gradient descent on any function: the step that trains networks, alone, with every point on its way."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from backprop.base import checks as check
from backprop.base.keywords import explained
from backprop.explain.minimizers import (
    COMPLEX_STEP,
    SumOfSquares,
    Walk,
    are_derivatives,
    by_lbfgs,
    by_levenberg_marquardt,
    ends_of,
    jacobian_of,
    length_of,
)
from backprop.model.records import DescentRecord, Method, Reason

if TYPE_CHECKING:
    from matplotlib.axes import Axes


_NOT_COMPLEX = (TypeError, ValueError, AttributeError, np.exceptions.ComplexWarning)

_SMALLER_RATE = ": try a smaller learning_rate"
_REASONS: dict[str, str] = {
    "tolerance": "the gradient's norm is within the tolerance",
    "steps": "all steps are done",
    "rising": "all steps are done and the value is higher than at the start" + _SMALLER_RATE,
    "not finite": "a value or a gradient is not finite" + _SMALLER_RATE,
    "stuck": "no step makes the value fall any more: rounding hides what is left",
}


@dataclass(frozen=True, slots=True, kw_only=True, repr=False, eq=False)
class Descent(DescentRecord):
    """What `descend` did, point by point.

    Attributes
    ----------
    x : float or ndarray
        The last point: a number where x0 was one, else (n,), float64.
    value : float
        The function there.
    path : ndarray
        All points from x0 to x, (steps + 1, n).
    values : ndarray
        The function at each of them, (steps + 1,).
    gradients : ndarray
        Its gradient at each of them, (steps + 1, n).
    converged : bool
        Whether the norm of the last gradient is within the tolerance.
    diverged : bool
        Whether a number was not finite, or the last value is higher than the first.
    reason : {"tolerance", "steps", "rising", "not finite", "stuck"}
        Why it ended; `explanation` says it in words.
    method : {"given", "complex step", "central difference"}
        Where the gradients are from.
    solver : {"gradient descent", "lbfgs", "lm"}
        Who chose the steps.

    Examples
    --------
    >>> import backprop as bp
    >>> bp.descend(lambda x: x**2, 1.0, learning_rate=1.1, steps=50)
    Descent(diverged: all steps are done and the value is higher than at the start: try a smaller learning_rate;
      x=9100.44, value=8.2818e+07, steps=50)
    """

    @property
    def explanation(self) -> str:
        """Why it ended, in words."""
        words = _REASONS[self.reason]
        return words if self.solver == "gradient descent" else words.removesuffix(_SMALLER_RATE)

    def plot(self, ax: Axes | None = None, **settings: Any) -> Axes:
        """Draw the function and the way down; see `backprop.plotting.plot_descent`."""
        from backprop.plotting import plot_descent

        return plot_descent(self, ax, **settings)

    def __repr__(self) -> str:
        state = "converged" if self.converged else "diverged" if self.diverged else "not converged"
        x = f"{self.x:.6g}" if np.ndim(self.x) == 0 else np.array2string(self.x, precision=6, separator=", ")
        return f"Descent({state}: {self.explanation};\n  x={x}, value={self.value:.6g}, steps={self.steps})"


@explained
def descend(
    f: Callable[[Any], Any],
    x0: ArrayLike,
    gradient: Callable[[Any], Any] | None = None,
    *,
    solver: Literal["gradient descent", "lbfgs", "lm"] = "gradient descent",
    learning_rate: float = 0.1,
    steps: int = 100,
    tolerance: float = 1e-8,
    momentum: float = 0.0,
) -> Descent:
    """Walk down a function of one, two or n variables by gradient descent, L-BFGS or Levenberg-Marquardt.

    Each step of gradient descent is, with ``velocity = 0`` before the first, ``velocity = momentum * velocity +
    gradient(x)`` and ``x = x - learning_rate * velocity``: what `backprop.SGD` does to the parameters of a network.

    Parameters
    ----------
    f
        The function. It is given what x0 is: a number, or a float64 array (n,); it returns a number. With ``"lm"`` it
        returns residuals (m,), and the sum of their squares is to fall.
    x0
        Where to start: a number or n numbers.
    gradient
        The gradient of f, of the shape of x. None takes complex steps, ``Im f(x + ih) / h`` with ``h = 1e-100``, exact
        to the last digits, where f takes complex numbers (tried at x0, beside a central difference), and central
        differences, ``(f(x + h) - f(x - h)) / 2h``, good for about ten digits, where it does not. With ``"lm"`` the
        Jacobian of the residuals, (m, n).
    solver
        ``"gradient descent"``, or ``"lbfgs"`` or ``"lm"``, the minimizers of `Network.minimize` (`backprop.solvers`),
        which use no `learning_rate` and no `momentum`. Each step is one of their iterations.
    learning_rate
        Factor on every step, > 0.
    steps
        How many steps at most, >= 1.
    tolerance
        Stop when the Euclidean norm of the gradient is at most this, >= 0.
    momentum
        Share of the last velocity that is kept, in [0, 1).

    Returns
    -------
    Descent
        The last point and all before it. A walk that leads up or out of the finite numbers is not an error: it ends
        with `Descent.diverged` set, and says why.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong type or out of range, f does not return one real number, or the function or its
        gradient is not finite at x0.

    Notes
    -----
    Complex steps: W. Squire and G. Trapp, "Using complex variables to estimate derivatives of real functions", SIAM
    Review 40 (1998).

    Examples
    --------
    >>> import backprop as bp
    >>> result = bp.descend(lambda x: (x - 3) ** 2 + 1, 0.0, learning_rate=0.1, steps=200)
    >>> result
    Descent(converged: the gradient's norm is within the tolerance;
      x=3, value=1, steps=91)
    >>> result.path[:4].ravel()
    array([0.   , 0.6  , 1.08 , 1.464])
    >>> bowl = lambda p: p[0] ** 2 + 10 * p[1] ** 2
    >>> bp.descend(bowl, [4.0, 1.0], learning_rate=0.04, momentum=0.5, steps=500).converged
    True
    >>> valley = lambda p: (1 - p[0]) ** 2 + 100 * (p[1] - p[0] ** 2) ** 2
    >>> bp.descend(valley, [-1.2, 1.0], solver="lbfgs").x.round(6)
    array([1., 1.])
    >>> residuals = lambda p: [1 - p[0], 10 * (p[1] - p[0] ** 2)]
    >>> bp.descend(residuals, [-1.2, 1.0], solver="lm").x.round(6)
    array([1., 1.])
    """
    start, call = _point(f, x0)
    learning_rate = check.number("learning_rate", learning_rate, above=0)
    steps = check.integer("steps", steps, at_least=1)
    tolerance = check.number("tolerance", tolerance, at_least=0)
    momentum = check.number("momentum", momentum, at_least=0, below=1)
    shape = np.shape(x0)
    check.choice("solver", solver, ("gradient descent", "lbfgs", "lm"))

    with np.errstate(all="ignore"):
        if solver == "lm":
            squares = SumOfSquares(call, jacobian_of(call, gradient, shape, start))
            value, function = squares.loss, squares.function()
        else:
            value, function = partial(_value, call), f
        first = value(start)
        if not np.isfinite(first):
            raise ValueError(f"x0: needs a point at which f is finite, got {first} at {check.shown(x0)}")
        slopes = (squares.jacobian.method, squares.gradient) if solver == "lm" else None
        method, slope = _slope(call, gradient, start, shape) if slopes is None else slopes
        if not np.isfinite(first_slope := slope(start)).all():
            raise ValueError(f"x0: needs a point at which the gradient of f is finite, got {first_slope}")
        if solver == "gradient descent":
            walk = _walk(value, slope, start, steps, tolerance, learning_rate, momentum)
        elif solver == "lbfgs":
            walk = by_lbfgs(value, slope, start, steps, tolerance)
        else:
            walk = by_levenberg_marquardt(squares, start, steps, tolerance)
        path, values, gradients = walk
        finite = bool(np.isfinite(path[-1]).all() and np.isfinite(values[-1]) and np.isfinite(gradients[-1]).all())
        converged = finite and length_of(gradients[-1]) <= tolerance
    reason: Reason = "steps" if len(path) > steps else "stuck"
    if not finite:
        reason = "not finite"
    elif converged:
        reason = "tolerance"
    elif values[-1] > first:
        reason = "rising"
    return Descent(
        x=path[-1].reshape(shape)[()],
        value=values[-1],
        path=np.array(path),
        values=np.array(values),
        gradients=np.array(gradients),
        converged=converged,
        diverged=reason in ("rising", "not finite"),
        reason=reason,
        method=method,
        learning_rate=learning_rate,
        momentum=momentum,
        function=function,
        solver=solver,
    )


def _walk(
    value: Callable[[NDArray[np.float64]], float],
    slope: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    start: NDArray[np.float64],
    steps: int,
    tolerance: float,
    learning_rate: float,
    momentum: float,
) -> Walk:
    """Walk down by gradient descent."""
    velocity = np.zeros_like(start)
    path, values, gradients = [start], [value(start)], [slope(start)]
    while len(path) <= steps and np.isfinite(values[-1]) and np.isfinite(gradients[-1]).all():
        if length_of(gradients[-1]) <= tolerance:
            break
        velocity = momentum * velocity + gradients[-1]
        path.append(path[-1] - learning_rate * velocity)
        values.append(value(path[-1]))
        gradients.append(slope(path[-1]) if np.isfinite(values[-1]) else np.full_like(start, np.nan))
    return path, values, gradients


def _point(f: Any, x0: Any) -> tuple[NDArray[np.float64], Callable[[NDArray[Any]], Any]]:
    """Return x0 as a vector, and f as a function of vectors."""
    if not callable(f):
        raise TypeError(f"f: needs a function, got {check.shown(f)}")
    array = check.array("x0", x0, np.dtype(np.float64))
    if array.ndim > 1 or array.size == 0:
        raise ValueError(f"x0: needs a number or a 1-D array of at least one, got shape {array.shape}")
    scalar = array.ndim == 0

    def call(x: NDArray[Any]) -> Any:
        try:
            return f(x[0] if scalar else x.copy())
        except (OverflowError, ZeroDivisionError):  # as Python's own numbers do, where NumPy's give inf
            return np.inf

    return array.reshape(-1).astype(np.float64), call


def _value(call: Callable[[NDArray[Any]], Any], x: NDArray[np.float64]) -> float:
    """Return f(x) as a float."""
    value = np.asarray(call(x))
    if value.size != 1 or value.dtype.kind not in "fiub":
        raise TypeError(f"f: needs to return one real number, got {check.shown(value)}")
    return float(value.reshape(()))


def _slope(
    call: Callable[[NDArray[Any]], Any], gradient: Any, start: NDArray[np.float64], shape: tuple[int, ...]
) -> tuple[Method, Callable[[NDArray[np.float64]], NDArray[np.float64]]]:
    """Return how the gradient is found, and the function that finds it."""

    def given(x: NDArray[np.float64]) -> NDArray[np.float64]:
        try:
            value = np.asarray(gradient(x.reshape(shape)[()].copy()))
        except (OverflowError, ZeroDivisionError):
            return np.full_like(x, np.inf)
        if value.size != x.size or value.dtype.kind not in "fiub":
            raise ValueError(f"gradient: needs to return real numbers of shape {shape}, got {check.shown(value)}")
        return value.reshape(-1).astype(np.float64)

    def central(x: NDArray[np.float64]) -> NDArray[np.float64]:
        return central_difference(lambda point: _value(call, point), x)

    def complex_step(x: NDArray[np.float64]) -> NDArray[np.float64]:
        slopes = np.empty_like(x)
        with warnings.catch_warnings():
            warnings.simplefilter("error", np.exceptions.ComplexWarning)  # the imaginary part must not get lost
            for i in range(x.size):
                point = x.astype(np.complex128)
                point[i] += 1j * COMPLEX_STEP
                slopes[i] = np.asarray(call(point)).reshape(()).imag / COMPLEX_STEP
        return slopes

    def complex_where_possible(x: NDArray[np.float64]) -> NDArray[np.float64]:
        try:
            return complex_step(x)
        except _NOT_COMPLEX:  # a part of f that x0 did not come through
            return central(x)

    if gradient is not None:
        if not callable(gradient):
            raise TypeError(f"gradient: needs a function or None, got {check.shown(gradient)}")
        return "given", given
    try:
        exact = complex_step(start)
    except _NOT_COMPLEX:  # f is not for complex numbers
        exact = None
    if exact is not None and are_derivatives(exact[np.newaxis], lambda x: np.array([_value(call, x)]), start):
        return "complex step", complex_where_possible
    return "central difference", central


def central_difference(f: Callable[[NDArray[np.float64]], float], x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the gradient of f at x, (n,), by ``(f(x + h e_i) - f(x - h e_i)) / 2h``, from 2n values of f.

    The step is ``h = cbrt(eps) * max(1, abs(x_i))``, about 6e-6: there the error of the formula, ``h**2 / 6`` times the
    third derivative, and that of rounding, ``eps * abs(f) / h``, are of a size: about ten digits are right.

    Examples
    --------
    >>> import numpy as np
    >>> from backprop.descent import central_difference
    >>> central_difference(lambda p: float(p[0] * p[1] ** 2), np.array([2.0, 3.0])).round(9)
    array([ 9., 12.])
    """
    slopes = np.empty_like(x)
    for i in range(x.size):
        above, below, width = ends_of(f, x, i)
        slopes[i] = (above - below) / width
    return slopes
