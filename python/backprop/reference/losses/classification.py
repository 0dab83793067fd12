"""Losses of class probabilities."""

# NumPy's ufuncs are typed as returning Any:
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from backprop.reference.activations import Array, softplus
from backprop.reference.losses.loss import Loss, x_log_y

__all__ = ["BinaryCrossEntropy", "CrossEntropy"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BinaryCrossEntropy(Loss):
    """``-(y * log(a) + (1 - y) * log(1 - a))`` for targets in [0, 1]: fits probabilities, one for each output.

    Needs the output ``sigmoid`` and is computed from the raw scores, so that it stays finite and exact however sure the
    network is. With the defaults PyTorch's ``BCEWithLogitsLoss``.

    Parameters
    ----------
    scale
        Factor on the loss (not on the penalties), > 0.
    reduction
        ``"mean"`` over samples and outputs, weighted by the sample weights, or ``"sum"``.

    Examples
    --------
    >>> import backprop as bp
    >>> bp.losses.BinaryCrossEntropy(reduction="sum")
    BinaryCrossEntropy(scale=1.0, reduction='sum')
    """

    name: ClassVar[str] = "binary_cross_entropy"
    formula: ClassVar[str] = "-(y * log(a) + (1 - y) * log(1 - a))"
    scores_of: ClassVar[str | None] = "sigmoid"
    outputs: ClassVar[tuple[str, ...] | None] = ("sigmoid",)
    target_range: ClassVar[tuple[float, float]] = (0.0, 1.0)

    def value(self, a: Array, y: Array) -> Array:
        """``-(y log(a) + (1 - y) log(1 - a))``."""
        return -(x_log_y(y, a) + x_log_y(1 - y, 1 - a))

    def gradient(self, a: Array, y: Array) -> Array:
        """``(a - y) / (a (1 - a))``."""
        return (a - y) / (a * (1 - a))

    def value_from_scores(self, z: Array, y: Array) -> Array:
        """``log(1 + exp(z)) - y z``, finite for every ``z``."""
        # the same as softplus(z) - y z, which would cancel for large z and y = 1
        return (1 - y) * softplus(z) + y * softplus(-z)

    def gradient_from_scores(self, z: Array, a: Array, y: Array) -> Array:
        """``a - y``."""
        return a - y


@dataclass(frozen=True, slots=True, kw_only=True)
class CrossEntropy(Loss):
    """``-sum_o y_o * log(a_o)`` for integer labels or rows of class probabilities: fits one probability per class.

    Needs the output ``softmax`` and is computed from the raw scores, so that it stays finite and exact however sure the
    network is. With the defaults PyTorch's ``CrossEntropyLoss``.

    Parameters
    ----------
    scale
        Factor on the loss (not on the penalties), > 0.
    reduction
        ``"mean"`` over samples (not over outputs), weighted by the sample weights, or ``"sum"``.

    Examples
    --------
    >>> import backprop as bp
    >>> bp.losses.CrossEntropy().elementwise
    False
    """

    name: ClassVar[str] = "cross_entropy"
    formula: ClassVar[str] = "-sum_o y_o * log(a_o)"
    scores_of: ClassVar[str | None] = "softmax"
    elementwise: ClassVar[bool] = False
    outputs: ClassVar[tuple[str, ...] | None] = ("softmax",)
    target_range: ClassVar[tuple[float, float]] = (0.0, 1.0)

    def value(self, a: Array, y: Array) -> Array:
        """``-y log(a)``."""
        return -x_log_y(y, a)

    def gradient(self, a: Array, y: Array) -> Array:
        """``-y / a``."""
        return -y / a

    def value_from_scores(self, z: Array, y: Array) -> Array:
        """``y (log(sum_j exp(z_j)) - z)``, finite for every ``z``."""
        z = z - z.real.max(axis=1, keepdims=True)
        return y * (np.log(np.exp(z).sum(axis=1, keepdims=True)) - z)

    def gradient_from_scores(self, z: Array, a: Array, y: Array) -> Array:
        """``a sum_j y_j - y``, which is ``a - y`` when the targets of a row add up to 1."""
        return a * y.sum(axis=1, keepdims=True) - y
