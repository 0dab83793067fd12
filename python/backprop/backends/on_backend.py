"""A step whose loss above the last layer is computed in Python, and all else by any backend."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from backprop.backends import contract
from backprop.backends.contract import Core
from backprop.base.types import Data, RealArray
from backprop.reference.optimizers import Optimizer


class Head(Protocol):
    """What happens above the last layer."""

    def __call__(self, outputs: RealArray, data: Data) -> tuple[float, RealArray]:
        """Return the loss of rows with these outputs, and its gradient with respect to them."""


@dataclass(frozen=True, slots=True)
class OnBackend:
    """What a step of a `reference.training.Loop` is made of.

    `module` is the backend's, as `contract` has it, and `plan` its plan of the layers whose outputs the head gets.
    """

    module: Core[Any]
    plan: contract.Plan
    head: Head
    optimizer: Optimizer

    def loss(self, parameters: RealArray, data: Data) -> float:
        """Return the loss of the data, without dropout."""
        outputs: RealArray = np.empty((len(data.X), self.plan.n_outputs), parameters.dtype)
        self.module.forward(self.plan, parameters, data.X, outputs)
        return self.head(outputs, data)[0]

    def loss_and_gradient(
        self,
        parameters: RealArray,
        batch: Data,
        gradient: RealArray | None,
        dropout_key: int | None,
        input_gradient: RealArray | None = None,
    ) -> float:
        """Return the loss of a batch; put its gradient with respect to parameters and X into what is not None."""
        value = 0.0

        def head(outputs: RealArray) -> RealArray:
            nonlocal value
            value, output_gradient = self.head(outputs, batch)
            return output_gradient

        self.module.backward(self.plan, parameters, batch.X, head, gradient, input_gradient, dropout_key)
        return value

    def update(
        self, parameters: RealArray, gradient: RealArray, slots: RealArray, step: int, learning_rate: float
    ) -> None:
        """Do one optimizer step."""
        self.module.update(self.plan, self.optimizer, parameters, gradient, slots, step, learning_rate)
