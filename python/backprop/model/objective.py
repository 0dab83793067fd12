"""The loss over all rows and its gradients, for any loss on any backend."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from backprop import reference
from backprop.backends.contract import Core, Plan
from backprop.backends.custom import Custom
from backprop.backends.custom_training import CustomHead
from backprop.backends.on_backend import OnBackend
from backprop.backends.output_weights import weighted
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
        if input_gradient is not None and self.loss.sees_derivatives:
            raise ValueError(f"loss: needs one of the outputs alone for gradients by X, got {self.loss.name}")
        if isinstance(self.loss, Custom):
            head = CustomHead(self.loss, dict(np.geterr()))
            on_backend = OnBackend(self.module, self.plan, head, SGD())  # of which no step is done
            return self._in_parts(on_backend, parameters, gradient, input_gradient)
        if self.data.weighs_outputs:
            on_backend = weighted(self.module, self.data.X.shape[1], self.layers, self.loss, SGD())
            return self._in_parts(on_backend, parameters, gradient, input_gradient)
        if input_gradient is None:
            return float(self.module.loss_and_gradient(self.plan, self.loss, parameters, self.data, gradient))
        return float(
            self.module.loss_and_gradient(self.plan, self.loss, parameters, self.data, gradient, input_gradient)
        )

    def of(self, data: Data) -> Objective:
        """Return the same loss over other rows."""
        return Objective(self.module, self.plan, self.layers, self.loss, data)

    def _in_parts(
        self,
        on_backend: OnBackend,
        parameters: RealArray,
        gradient: RealArray | None,
        input_gradient: RealArray | None,
    ) -> float:
        """Compute the loss above the last layer in Python, and the rest by the backend."""
        plan = reference.Plan(self.data.X.shape[1], self.layers)
        penalties = float(penalty(plan, parameters))
        if gradient is None and input_gradient is None:
            return on_backend.loss(parameters, self.data) + penalties
        value = on_backend.loss_and_gradient(parameters, self.data, gradient, None, input_gradient)
        if gradient is not None:
            add_penalty_gradient(plan, parameters, gradient)
        return value + penalties
