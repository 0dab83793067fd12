"""A loss of the outputs and of their derivatives with respect to the inputs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from backprop.base import checks as check
from backprop.base.types import Array, Data
from backprop.reference.derivatives import add_tangent_gradient, tangents_of_inputs
from backprop.reference.losses import LOSSES, Loss, Reduction
from backprop.reference.losses.loss import row_factors
from backprop.reference.passes import Plan, accumulator, backward_pass, forward_pass, output_layer

__all__ = ["WithDerivatives"]


@dataclass(frozen=True, slots=True)
class WithDerivatives(Loss):
    """A loss, and ``weight`` times the squared error of the derivatives of the outputs with respect to the inputs.

    For surrogates of models that give derivatives too: with them a network needs fewer rows ("Sobolev training"). The
    targets are a pair ``(y, dy)``: ``fit(X, (y, dy), loss=WithDerivatives())`` with y (n, n_outputs) and dy (n,
    n_outputs, n_inputs), where ``dy[r, o, i]`` is the derivative of output o of row r with respect to its input i; or
    (n, n_inputs) where there is one output. From W. M. Czarnecki et al., "Sobolev training for neural networks" (2017).

    Parameters
    ----------
    loss
        The loss of the outputs: a name or an object from `backprop.losses`, element-wise, as ``fit`` takes it.
    weight
        Factor on the squared error of the derivatives, > 0. That is their mean over rows, outputs and inputs, weighted
        by the sample weights; with ``reduction="sum"`` of `loss`, their sum.

    Raises
    ------
    TypeError, ValueError
        If a setting is of the wrong type or out of its range.

    Notes
    -----
    The derivatives are those by X as it is given. Where X and y are scaled before, with ``(X - a) / b`` and ``(y - c) /
    d``, the derivatives to be learned are ``dy * b / d``. Every layer is allowed, but without dropout. The gradient
    needs second derivatives of the activations: piecewise linear ones have none, and learn little from derivatives.
    A step costs about ``n_inputs + 1`` times as much as one without derivatives. Threads share batches of some hundred
    rows and more, of networks with up to 16,384 parameters; larger networks are trained by one thread.

    Examples
    --------
    >>> import backprop as bp
    >>> import numpy as np
    >>> X = np.linspace(-2, 2, 9).reshape(-1, 1)
    >>> net = bp.mlp([1, 16, 1], hidden="tanh", dtype="float64", seed=0)
    >>> loss = bp.losses.WithDerivatives(weight=0.5)
    >>> result = net.minimize(X, (np.sin(2 * X), 2 * np.cos(2 * X)), loss=loss, max_iter=2000, tolerance=1e-7)
    >>> between = np.linspace(-2, 2, 50).reshape(-1, 1)
    >>> bool(np.abs(net.predict(between) - np.sin(2 * between)).max() < 0.02)
    True
    """

    name: ClassVar[str] = "with_derivatives"
    formula: ClassVar[str] = "value(a, y) + weight * sum_i (da / dx_i - dy_i)**2"
    sees_derivatives: ClassVar[bool] = True

    loss: Any = "auto"
    weight: float = 1.0
    scale: float = field(default=1.0, init=False, repr=False)
    reduction: Reduction = field(default="mean", init=False, repr=False)

    def __post_init__(self) -> None:
        check.make_plain(self)
        check.number("weight", self.weight, above=0)
        if self.loss == "auto":
            return  # goes by the last layer, which a network knows
        inner = check.setting("loss", self.loss, Loss, LOSSES)
        if not inner.elementwise or inner.sees_derivatives:
            raise ValueError(f"loss: needs an element-wise loss beside derivatives, got {inner.name}")
        object.__setattr__(self, "loss", inner)
        object.__setattr__(self, "reduction", inner.reduction)

    def data_loss(self, plan: Plan, parameters: Array, data: Data, gradient: Array | None) -> Any:
        """Compute the loss of the data, without penalties, and its gradient unless that is None.

        Each row of the targets has those of the outputs and then those of the derivatives, output by output.
        """
        inner, n_outputs, last = self.loss, plan.n_outputs, plan.layers[-1]
        slopes = data.targets[:, n_outputs:].reshape(-1, n_outputs, plan.n_inputs)
        run = forward_pass(plan, parameters, data.X)
        Z, A, views = run.scores[-1], run.outputs[-1], last.views(parameters)
        own = data._replace(targets=data.targets[:, :n_outputs])
        value, G, D = output_layer(plan, inner, parameters, Z, A, own)
        if gradient is not None:
            backward_pass(plan, parameters, run, G, D, gradient, None)
        each = self.weight / inner.scale / (plan.n_inputs if inner.reduction == "mean" else 1)
        factors = each * row_factors(inner, data.sample_weight, len(Z), n_outputs, data.X.dtype)
        for i, tangent in enumerate(tangents_of_inputs(plan, parameters, run)):
            error = tangent.outputs[-1] - slopes[:, :, i]
            value = value + (factors * error * error).sum(dtype=accumulator(error))
            if gradient is not None:
                G, still = 2 * factors * error, np.zeros_like(error)
                D = last.settings.score_gradient(views, Z, A, G)
                dD = last.settings.score_gradient_tangent(
                    views, last.views(tangent.moves), Z, A, tangent.scores[-1], G, still
                )
                add_tangent_gradient(plan, parameters, run, tangent, (G, still, D, dD), gradient)
        return value
