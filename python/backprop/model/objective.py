"""The loss over all rows and its gradients, for any loss on any backend."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from backprop import reference
from backprop.backends.contract import Core, Plan
from backprop.backends.custom import Custom
from backprop.backends.custom_training import OnBackend
from backprop.backends.output_weights import Weighted
from backprop.base.types import Data, RealArray
from backprop.reference.losses import Loss
from backprop.reference.optimizers import SGD
from backprop.reference.passes import add_penalty_gradient, penalty

if TYPE_CHECKING:
    from backprop.reference.dense import Dense


class Objective:
    """The loss over all rows, penalties included, as a function of the parameters; there is no dropout.

    `module` is the backend's, as `contract` has it, for the dtype of the data, and `plan` its plan of the layers.
    """

    def __init__(self, module: Core[Any], plan: Plan, layers: Sequence[Dense], loss: Loss | Custom, data: Data) -> None:
        self.module, self.plan, self.layers, self.loss, self.data = module, plan, layers, loss, data

    def __call__(
        self, parameters: RealArray, gradient: RealArray | None = None, input_gradient: RealArray | None = None
    ) -> float:
        """Return the loss; put its gradient with respect to parameters and X into what is not None."""
        if isinstance(self.loss, Custom):
            function: OnBackend | Weighted = OnBackend(self.module, self.plan, self.loss, SGD(), dict(np.geterr()))
            return self._in_parts(function, parameters, gradient, input_gradient)
        if self.data.weighs_outputs:
            function = Weighted.of(self.module, self.data.X.shape[1], self.layers, self.loss, SGD())
            return self._in_parts(function, parameters, gradient, input_gradient)
        if input_gradient is None:
            return float(self.module.loss_and_gradient(self.plan, self.loss, parameters, self.data, gradient))
        return float(
            self.module.loss_and_gradient(self.plan, self.loss, parameters, self.data, gradient, input_gradient)
        )

    def _in_parts(
        self,
        function: OnBackend | Weighted,
        parameters: RealArray,
        gradient: RealArray | None,
        input_gradient: RealArray | None,
    ) -> float:
        """Compute the loss above the last layer by a function, and the rest by the backend."""
        X = self.data.X
        plan = reference.Plan(X.shape[1], self.layers)
        penalties = float(penalty(plan, parameters))
        if gradient is None and input_gradient is None:
            return function.loss(parameters, self.data) + penalties
        value = 0.0

        def head(outputs: RealArray) -> RealArray:
            nonlocal value
            value, output_gradient = function.call(outputs, self.data)
            return output_gradient

        self.module.backward(function.plan, parameters, X, head, gradient, input_gradient)
        if gradient is not None:
            add_penalty_gradient(plan, parameters, gradient)
        return value + penalties
