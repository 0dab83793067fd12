"""Losses of real outputs."""

# NumPy's ufuncs are typed as returning Any:
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from backprop.base import checks as check
from backprop.base.types import Array
from backprop.reference.losses.loss import Loss

__all__ = ["AbsoluteError", "Huber", "LogCosh", "Quantile", "SquaredError"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SquaredError(Loss):
    """``(a - y)**2``: fits the mean of the targets.

    With the defaults PyTorch's ``MSELoss``. Half the summed squared error of many textbooks is
    ``SquaredError(scale=0.5, reduction="sum")``; scikit-learn's MLPRegressor minimises ``SquaredError(scale=0.5)``.

    Parameters
    ----------
    scale
        Factor on the loss (not on the penalties), > 0.
    reduction
        ``"mean"`` over samples and outputs, weighted by the sample weights, or ``"sum"``.

    Examples
    --------
    >>> import backprop as bp
    >>> bp.losses.SquaredError(scale=0.5)
    SquaredError(scale=0.5, reduction='mean')
    """

    name: ClassVar[str] = "squared_error"
    formula: ClassVar[str] = "(a - y)**2"

    def value(self, a: Array, y: Array) -> Array:
        """``(a - y)**2``."""
        return (a - y) * (a - y)

    def gradient(self, a: Array, y: Array) -> Array:
        """``2 (a - y)``."""
        return 2 * (a - y)

    def curvature(self, a: Array, y: Array) -> Array:
        """2."""
        return np.full_like(a, 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class AbsoluteError(Loss):
    """``abs(a - y)``, with derivative 0 at ``a == y``: fits the median of the targets.

    With the defaults PyTorch's ``L1Loss``.

    Parameters
    ----------
    scale, reduction
        As of `SquaredError`.

    Examples
    --------
    >>> import backprop as bp
    >>> bp.losses.AbsoluteError()
    AbsoluteError(scale=1.0, reduction='mean')
    """

    name: ClassVar[str] = "absolute_error"
    formula: ClassVar[str] = "abs(a - y)"
    smooth: ClassVar[bool] = False

    def value(self, a: Array, y: Array) -> Array:
        """``abs(a - y)``."""
        return np.where((a - y).real < 0, y - a, a - y)

    def gradient(self, a: Array, y: Array) -> Array:
        """The sign of ``a - y``: at the kink, 0."""
        return np.sign(a - y)

    def curvature(self, a: Array, y: Array) -> Array:
        """0, at the kink too."""
        return np.zeros_like(a)


@dataclass(frozen=True, slots=True, kw_only=True)
class Huber(Loss):
    """``(a - y)**2 / 2`` where ``abs(a - y) <= delta``, else ``delta * (abs(a - y) - delta / 2)``.

    Squared error near the target, absolute error far from it, so that outliers count less. With the defaults PyTorch's
    ``HuberLoss``. From P. J. Huber, "Robust estimation of a location parameter" (1964).

    Parameters
    ----------
    delta
        Distance from which on the loss is a straight line, > 0.
    scale, reduction
        As of `SquaredError`.

    Examples
    --------
    >>> import backprop as bp
    >>> bp.losses.Huber(delta=2.0)
    Huber(scale=1.0, reduction='mean', delta=2.0)
    """

    name: ClassVar[str] = "huber"
    formula: ClassVar[str] = "(a - y)**2 / 2 if abs(a - y) <= delta else delta * (abs(a - y) - delta / 2)"
    smooth: ClassVar[bool] = False
    delta: float = 1.0

    def __post_init__(self) -> None:
        Loss.__post_init__(self)
        check.number("delta", self.delta, above=0)

    @property
    def parameters(self) -> tuple[float, ...]:
        """`delta`."""
        return (self.delta,)

    def value(self, a: Array, y: Array) -> Array:
        """``(a - y)**2 / 2`` up to ``delta``, from there on the straight line that continues it."""
        distance = np.where((a - y).real < 0, y - a, a - y)
        line = self.delta * (distance - 0.5 * self.delta)
        return np.where(distance.real <= self.delta, 0.5 * distance * distance, line)

    def gradient(self, a: Array, y: Array) -> Array:
        """``a - y``, clipped to ``-delta .. delta``."""
        return np.clip(a - y, -self.delta, self.delta)

    def curvature(self, a: Array, y: Array) -> Array:
        """1 where ``abs(a - y) <= delta``, else 0."""
        return (np.abs(a - y) <= self.delta).astype(a.dtype)

    def kink_distance(self, a: Array, y: Array) -> Array:
        """``abs(a - y) - delta``."""
        return np.abs(a - y) - self.delta


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantile(Loss):
    """``max(q * (y - a), (q - 1) * (y - a))``: the pinball loss, which fits the q-quantile of the targets.

    At ``a == y`` its derivative is taken as 0. With the defaults half of `AbsoluteError`; the mean is scikit-learn's
    ``mean_pinball_loss(alpha=q)``. From R. Koenker and G. Bassett, "Regression quantiles" (1978).

    Parameters
    ----------
    quantile
        ``q``: the share of the targets that should lie below the output, 0 < q < 1.
    scale, reduction
        As of `SquaredError`.

    Examples
    --------
    >>> import backprop as bp
    >>> bp.losses.Quantile(quantile=0.9)
    Quantile(scale=1.0, reduction='mean', quantile=0.9)
    """

    name: ClassVar[str] = "quantile"
    formula: ClassVar[str] = "max(q * (y - a), (q - 1) * (y - a))"
    smooth: ClassVar[bool] = False
    quantile: float = 0.5

    def __post_init__(self) -> None:
        Loss.__post_init__(self)
        check.number("quantile", self.quantile, above=0, below=1)

    @property
    def parameters(self) -> tuple[float, ...]:
        """`quantile`."""
        return (self.quantile,)

    def value(self, a: Array, y: Array) -> Array:
        """``q (y - a)`` where the target is above the output, ``(1 - q) (a - y)`` where it is below."""
        return np.where((a - y).real < 0, self.quantile * (y - a), (1 - self.quantile) * (a - y))

    def gradient(self, a: Array, y: Array) -> Array:
        """``-q`` where ``y > a``, ``1 - q`` where ``y < a``: at the kink, 0."""
        return np.where(y > a, -self.quantile, np.where(y < a, 1 - self.quantile, a - y)).astype(a.dtype)

    def curvature(self, a: Array, y: Array) -> Array:
        """0, at the kink too."""
        return np.zeros_like(a)


@dataclass(frozen=True, slots=True, kw_only=True)
class LogCosh(Loss):
    """``log(cosh(a - y))``: half the squared error near the target, the absolute error less ``log(2)`` far from it.

    Like `Huber`, but smooth everywhere. With the defaults Keras's ``LogCosh``; ``a`` and ``y`` are (rows, units).

    Parameters
    ----------
    scale, reduction
        As of `SquaredError`.

    Raises
    ------
    TypeError, ValueError
        If a setting is of the wrong type or out of its range.

    Examples
    --------
    >>> import backprop as bp
    >>> bp.losses.LogCosh().smooth
    True
    """

    name: ClassVar[str] = "log_cosh"
    formula: ClassVar[str] = "log(cosh(a - y))"

    def value(self, a: Array, y: Array) -> Array:
        """``log(cosh(a - y))``."""
        distance = np.where((a - y).real < 0, y - a, a - y)
        near = np.where(distance.real < 1, distance, 0)
        # sinh keeps the digits of a small distance, exp does not overflow for a large one
        far = distance + np.log1p(np.exp(-2 * distance)) - math.log(2)
        return np.where(distance.real < 1, np.log1p(2 * np.sinh(0.5 * near) ** 2), far)

    def gradient(self, a: Array, y: Array) -> Array:
        """``tanh(a - y)``."""
        return np.tanh(a - y)

    def curvature(self, a: Array, y: Array) -> Array:
        """``1 - tanh(a - y)**2``."""
        t = np.tanh(a - y)
        return (1 - t) * (1 + t)
