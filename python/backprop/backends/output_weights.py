"""Losses with a weight for each output of each row, on any backend.

The backends know a weight for each row. With weights of outputs, what happens above the last layer is computed in NumPy
by the formulas of the reference, and all else by the backend: forward, backward and the optimizer's step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backprop.backends import contract
from backprop.backends.contract import Core
from backprop.base.state import TrainingState
from backprop.base.types import Data, RealArray, TrainingSettings
from backprop.reference.activations import ACTIVATIONS
from backprop.reference.dense import Dense
from backprop.reference.losses import Loss
from backprop.reference.losses.loss import row_factors
from backprop.reference.optimizers import Optimizer
from backprop.reference.passes import Plan
from backprop.reference.training import Loop


@dataclass(frozen=True, slots=True)
class Weighted:
    """A loss of the library with weights of outputs, with the rest computed by any backend.

    `module` is the backend's, as `contract` has it. `plan` is its plan of the layers, with the raw scores as outputs
    where the loss is computed from these.
    """

    module: Core[Any]
    plan: contract.Plan
    function: Loss
    activation: str
    """of the last layer"""
    optimizer: Optimizer

    @classmethod
    def of(
        cls, module: Core[Any], n_inputs: int, layers: Sequence[Dense], loss: Loss, optimizer: Optimizer
    ) -> Weighted:
        """Return the loss of a network with these layers."""
        *rest, last = layers
        if loss.from_scores(last.activation):
            last = replace(last, activation="identity", weight_init="auto", bias_init="auto")
        return cls(module, module.Plan(n_inputs, [*rest, last]), loss, layers[-1].activation, optimizer)

    def loss(self, parameters: RealArray, data: Data) -> float:
        """Return the loss of the data, without dropout."""
        outputs: RealArray = np.empty((len(data.X), self.plan.n_outputs), parameters.dtype)
        self.module.forward(self.plan, parameters, data.X, outputs)
        return self.call(outputs, data)[0]

    def loss_and_gradient(
        self, parameters: RealArray, batch: Data, gradient: RealArray, dropout_key: int | None
    ) -> float:
        """Return the loss of a batch and put its gradient into `gradient`."""
        value = 0.0

        def head(outputs: RealArray) -> RealArray:
            nonlocal value
            value, output_gradient = self.call(outputs, batch)
            return output_gradient

        self.module.backward(self.plan, parameters, batch.X, head, gradient, None, dropout_key)
        return value

    def call(self, outputs: RealArray, data: Data) -> tuple[float, RealArray]:
        """Return the loss of rows with these outputs, or scores, and its gradient with respect to them."""
        loss, Y = self.function, data.targets
        factors = row_factors(loss, data.sample_weight, len(outputs), self.plan.n_outputs, outputs.dtype)
        with np.errstate(all="ignore"):
            if loss.from_scores(self.activation):
                values = loss.value_from_scores(outputs, Y)
                activated = ACTIVATIONS[self.activation].value(outputs, 0.0)  # none of these has a parameter
                slope = loss.gradient_from_scores(outputs, activated, Y)
            else:
                values, slope = loss.value(outputs, Y), loss.gradient(outputs, Y)
            value = float((factors * values).sum(dtype=np.float64))
            gradient: Any = np.ascontiguousarray(factors * slope, outputs.dtype)
        return value, gradient

    def update(
        self, parameters: RealArray, gradient: RealArray, slots: RealArray, step: int, learning_rate: float
    ) -> None:
        """Do one optimizer step."""
        self.module.update(self.plan, self.optimizer, parameters, gradient, slots, step, learning_rate)


class WeightedTraining(Loop):
    """A training run with weights of outputs on any backend, with the `run` and the side effects of a `Training`."""

    def __init__(
        self,
        module: Core[Any],
        layers: Sequence[Dense],
        loss: Loss,
        optimizer: Optimizer,
        settings: TrainingSettings,
        data: Data,
        state: TrainingState,
        learning_rates: NDArray[np.float64],
        validation: Data | None = None,
    ) -> None:
        n_inputs = data.X.shape[1]
        computation = Weighted.of(module, n_inputs, layers, loss, optimizer)
        super().__init__(
            Plan(n_inputs, layers), loss, computation, settings, data, state, learning_rates, validation
        )  # fmt: skip
