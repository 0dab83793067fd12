"""What every loss has, and what weights, scale and reduction make of its values."""

# NumPy's ufuncs are typed as returning Any:
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol

import numpy as np

from backprop.base import checks as check
from backprop.base.types import Array

__all__ = ["Loss", "Reduction"]

# dataclass(slots=True) makes a second class, which super() without arguments does not know before Python 3.14;
# therefore the losses call the __post_init__ of this base class by its name.

Reduction = Literal["mean", "sum"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """What the losses share: a factor and a reduction.

    Parameters
    ----------
    scale
        Factor on the loss (not on the penalties), > 0.
    reduction
        ``"mean"`` over samples and, for element-wise losses, outputs; weighted by the sample weights where
        there are any. ``"sum"`` adds everything up.
    """

    name: ClassVar[str]
    formula: ClassVar[str]
    """its value, as documents print it"""
    smooth: ClassVar[bool] = True
    """whether one smooth formula holds everywhere; False where two meet"""
    elementwise: ClassVar[bool] = True
    """whether it is a mean over outputs too"""
    any_targets: ClassVar[bool] = False
    """whether it takes any numbers as targets, and class labels too; else it takes labels unless it is element-wise"""
    outputs: ClassVar[tuple[str, ...] | None] = None
    """the output activations that the loss accepts; None for any"""
    scores_of: ClassVar[str | None] = None
    """the output activation whose logarithm undoes the exponential: with it the loss is computed from the raw scores,
    since composed they lose digits and range; None where there is none"""
    target_range: ClassVar[tuple[float, float]] = (-math.inf, math.inf)
    """the targets that the loss accepts, ends included"""
    targets_above: ClassVar[bool] = False
    """whether the lower end of `target_range` itself is left out"""
    target_values: ClassVar[tuple[float, ...] | None] = None
    """the only targets that the loss accepts; None for all of `target_range`"""

    sees_derivatives: ClassVar[bool] = False
    """whether it is a loss of the derivatives of the outputs too, and so computes the loss of the data by itself"""

    scale: float = 1.0
    reduction: Reduction = "mean"

    def __post_init__(self) -> None:
        check.make_plain(self)
        check.number("scale", self.scale, above=0)
        check.choice("reduction", self.reduction, ("mean", "sum"))

    @property
    def parameters(self) -> tuple[float, ...]:
        """The loss's own parameters, in the order in which the backends take them."""
        return ()

    def data_loss(self, plan: Any, parameters: Array, data: Any, gradient: Array | None) -> Any:
        """Compute the loss of the data, where it `sees_derivatives`, and its gradient unless that is None."""
        raise NotImplementedError

    def from_scores(self, activation: str) -> bool:
        """Whether the loss is computed from the raw scores of this output activation."""
        return activation == self.scores_of

    def smoothed(self, y: Array) -> Array:
        """Return the targets that the formulas take, (..., units): the given ones, or what the loss makes of them."""
        return y

    def value(self, a: Array, y: Array) -> Array:
        """Return the loss of each output, (rows, units); the gradient tests also call it with complex ``a``."""
        raise NotImplementedError

    def gradient(self, a: Array, y: Array) -> Array:
        """Return the derivative of `value` with respect to ``a``."""
        raise NotImplementedError

    def curvature(self, a: Array, y: Array) -> Array:
        """Return the second derivative of `value` with respect to ``a``; where two formulas meet, that of either.

        Not asked for where every output that the loss accepts is `scores_of`.
        """
        raise NotImplementedError

    def kink_distance(self, a: Array, y: Array) -> Array:
        """Return how far each output is from where two formulas meet, with a sign that changes there.

        For losses that are not `smooth`.
        """
        return a - y

    def value_from_scores(self, z: Array, y: Array) -> Array:
        """Return `value` of ``a``, the activation `scores_of` of the raw scores ``z``."""
        raise NotImplementedError

    def gradient_from_scores(self, z: Array, a: Array, y: Array) -> Array:
        """Return the derivative of `value_from_scores` with respect to ``z``."""
        raise NotImplementedError

    def score_tangent(self, z: Array, a: Array, y: Array, dz: Array, da: Array) -> Array:
        """Return how `gradient_from_scores` moves where ``z`` moves by ``dz``, and ``a`` therefore by ``da``."""
        raise NotImplementedError


class Reduced(Protocol):
    """How a loss is reduced over a batch: one of the library, or one of the user's own."""

    @property
    def reduction(self) -> Reduction:
        """``"mean"`` or ``"sum"``."""

    @property
    def elementwise(self) -> bool:
        """Whether it is a mean over outputs too."""


def as_rows(targets: Array, n_outputs: int, dtype: np.dtype[Any]) -> Array:
    """Class labels (n,) as rows with a single 1; real targets (n, n_outputs) as they are."""
    return targets if targets.ndim == 2 else np.eye(n_outputs, dtype=dtype)[targets]


def denominator(loss: Reduced, sample_weight: Array | None, n_rows: int, n_outputs: int) -> float:
    """What the sum over the rows is divided by; with "mean" 0 where no row has a weight."""
    if loss.reduction == "sum":
        return 1.0
    weight = float(n_rows) if sample_weight is None else float(sample_weight.sum(dtype=np.float64))
    if sample_weight is not None and sample_weight.ndim == 2:
        weight /= sample_weight.shape[1]
    return weight * n_outputs if loss.elementwise else weight


def row_factors(loss: Loss, sample_weight: Array | None, n_rows: int, n_outputs: int, dtype: np.dtype[Any]) -> Array:
    """What each row's loss is multiplied by, (rows, 1): ``scale / denominator * sample weight``.

    With a weight for each output (rows, n_outputs).
    """
    divisor = denominator(loss, sample_weight, n_rows, n_outputs)
    if divisor == 0:
        return np.zeros((n_rows, 1), dtype)
    weights = np.ones(n_rows, dtype) if sample_weight is None else sample_weight
    factors: Array = weights.reshape(n_rows, -1) * float(loss.scale / divisor)
    return factors


def positive(a: Array) -> Array:
    """``a``, or the smallest normal number where ``a`` is smaller: what `softplus` or `exp` was rounded to 0 from."""
    smallest = np.finfo(a.real.dtype).tiny
    return np.where(a.real < smallest, smallest, a)


def finite(gradient: Array) -> Array:
    """``gradient``, or the largest number in its place: infinity times a derivative of 0 would be NaN."""
    largest = np.finfo(gradient.dtype).max
    return np.clip(gradient, -largest, largest)


def x_log_y(x: Array, y: Array) -> Array:
    """``x log(y)``, and 0 where ``x`` is 0, its limit."""
    return np.where(x == 0, 0, x * np.log(np.where(x == 0, 1, y)))
