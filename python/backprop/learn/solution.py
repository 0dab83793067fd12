"""What comes out of a minimisation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_MESSAGES = {
    "iterations": "all iterations are done",
    "gradient": "no element of the gradient is larger than the tolerance",
    "loss": "the loss hardly falls any more",
    "evaluations": "the loss was computed as often as is allowed",
    "stuck": "no step makes the loss fall: rounding hides what is left",
    "no noise": "the loss has a minimum, but the rows leave no noise to find there: alpha and beta mean nothing",
    "stopped": "the callback asked to stop",
    "not finite": "the loss at the start, or its gradient, is not finite",
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Solution:
    """Where a minimisation has come to.

    SciPy's names mean the same: `fun` is `loss`, `nit` `iterations` and `nfev` `evaluations`; `x`, `success`, `status`
    and `message` are those of its `OptimizeResult`, which the methods of SciPy return.

    Attributes
    ----------
    x : ndarray
        The trainable parameters, float64.
    loss : float
        The loss there; with ``method="bayesian"`` without the penalty that it has found.
    slope : float
        The largest element of the gradient of what is minimised, without its sign.
    iterations, evaluations : int
        Iterations done, and how often the loss was computed.
    reason : str
        Why it ended: ``"gradient"``, ``"loss"``, ``"iterations"``, ``"evaluations"``, ``"stuck"`` or ``"stopped"``;
        of a member of a fleet also ``"not finite"``: its loss at the start, or the gradient there, is not; with
        ``method="bayesian"`` also ``"no noise"``: a gradient or a fall within its tolerance, but the evidence asked for
        no precisions there. The rows determine all parameters, or errors are as small as rounding; alpha, beta and
        gamma are those from before.
    ordinary_slope : float
        What `slope` may well be at such an end where targets are of about 1: 1 times the scale of the loss, if that is
        larger, and for a sum times the weight of the rows.
    alpha, beta : float or None
        With ``method="bayesian"`` the precisions of the prior of the parameters and of the noise of the targets.
    gamma : float or None
        Likewise the effective number of parameters.

    Examples
    --------
    >>> import backprop as bp
    >>> net = bp.Network(1, [bp.Dense(1)], dtype="float64", seed=0)
    >>> result = net.minimize([[0.0], [1.0], [2.0]], [1.0, 3.0, 5.0])
    >>> result.success, result.message
    (True, 'no element of the gradient is larger than the tolerance')
    >>> result.iterations == result.nit == net.history.epochs
    True
    """

    x: NDArray[np.float64]
    loss: float
    slope: float
    iterations: int
    evaluations: int
    reason: str
    ordinary_slope: float = 1.0
    alpha: float | None = None
    beta: float | None = None
    gamma: float | None = None

    def __repr__(self) -> str:
        precisions = {"alpha": self.alpha, "beta": self.beta, "gamma": self.gamma}
        found = "".join(f", {name}={value:.6g}" for name, value in precisions.items() if value is not None)
        return (
            f"Solution(loss={self.loss:.6g}, slope={self.slope:.2g}, iterations={self.iterations}, "
            f"evaluations={self.evaluations}, reason={self.reason!r}{found}, x of {len(self.x):,} parameters)"
        )

    @property
    def fun(self) -> float:
        """`loss`, by SciPy's name."""
        return self.loss

    @property
    def nit(self) -> int:
        """`iterations`, by SciPy's name."""
        return self.iterations

    @property
    def nfev(self) -> int:
        """`evaluations`, by SciPy's name."""
        return self.evaluations

    @property
    def success(self) -> bool:
        """Whether it came to a minimum: the gradient or the fall of the loss is within its tolerance."""
        return self.reason in ("gradient", "loss")

    @property
    def status(self) -> int:
        """0 for success, 1 where iterations or evaluations were over, 2 for the rest, as L-BFGS-B has it."""
        return 0 if self.success else 1 if self.reason in ("iterations", "evaluations") else 2

    @property
    def message(self) -> str:
        """The reason in words, and where the gradient is still large for such an end, what to do."""
        message = _MESSAGES[self.reason]
        if self.reason in ("loss", "stuck") and not self.slope <= self.ordinary_slope:  # it may be NaN
            message += f", but the gradient is still {self.slope:.1e}: bring targets and loss to a scale of about 1"
        return message
