"""Losses of the user's own: a function that returns value and gradient."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

from numpy.typing import NDArray

from backprop.base import checks as check
from backprop.base.types import RealArray
from backprop.reference.losses import Loss, Reduction

__all__ = ["Custom", "LossLike"]


@dataclass(frozen=True, slots=True)
class Custom:
    """A loss of your own: a function that returns its value and its gradient.

    Parameters
    ----------
    function
        ``function(outputs, targets)``, or ``function(outputs, targets, sample_weight)`` where there are sample weights,
        returns ``(value, gradient)``: the loss of these rows, a mean over them, and its derivative with respect to the
        outputs. ``outputs`` is (rows, n_outputs) in the network's dtype and always finite; ``targets`` and
        ``sample_weight`` (rows,) are these rows of what `fit` was given, all three copies that the function may change.
        ``gradient`` is shaped like ``outputs``.

    Notes
    -----
    In the loss of an epoch, the mean over its batches, a batch counts as often as it has rows, or with the sum of its
    weights. Rows whose weights are all 0 have the loss 0, without a call. The penalties of the layers are added. Where
    the value is not finite, training diverges as it does with any loss.

    Raises
    ------
    TypeError, ValueError
        If `function` cannot be called or, when it has been, if it did not return a number and an array of real numbers,
        of the shape of the outputs and finite where the value is.

    Examples
    --------
    >>> import backprop as bp
    >>> import numpy as np
    >>> def half_squared_error(outputs, targets):
    ...     error = outputs - targets
    ...     return 0.5 * np.mean(error**2), error / error.size
    >>> loss = bp.losses.Custom(half_squared_error)
    >>> loss(np.array([[1.0], [3.0]]), np.array([[0.0], [3.0]]))
    (0.25, array([[0.5],
           [0. ]]))
    """

    name: ClassVar[str] = "custom"
    elementwise: ClassVar[bool] = False
    """the mean is over rows"""
    reduction: ClassVar[Reduction] = "mean"
    sees_derivatives: ClassVar[bool] = False
    """it gets the outputs alone"""

    function: Callable[..., tuple[Any, Any]]

    def __post_init__(self) -> None:
        if not callable(self.function):
            raise TypeError(
                "function: needs a function of (outputs, targets) that returns (value, gradient), "
                f"got {check.shown(self.function)}"
            )

    def __call__(
        self, outputs: RealArray, targets: NDArray[Any], sample_weight: RealArray | None = None
    ) -> tuple[float, RealArray]:
        """Call the function and check what it returns; the gradient has the dtype of the outputs."""
        shape, dtype = outputs.shape, outputs.dtype
        if sample_weight is None:
            result = self.function(outputs, targets)
        else:
            try:
                result = self.function(outputs, targets, sample_weight)
            except TypeError as error:
                if _takes(self.function, 3):
                    raise
                raise TypeError(
                    "function: needs to take (outputs, targets, sample_weight) where there are weights, "
                    f"got {check.shown(self.function)} ({error})"
                ) from error
        return check.value_and_gradient("function", result, dtype, shape)


def _takes(function: Callable[..., Any], n_arguments: int) -> bool:
    """Whether a function can be called with so many arguments, as far as it says."""
    try:
        inspect.signature(function).bind(*range(n_arguments))
    except TypeError:
        return False
    except ValueError:  # it has no signature
        return True
    return True


LossLike: TypeAlias = str | Loss | Custom | Callable[..., tuple[Any, Any]]
"""what users may give: a name, an object, or a function for `Custom`"""
