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
from backprop.backends.on_backend import OnBackend
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
class WeightedHead:
    """A loss of the library above the last layer, with weights of outputs.

    Where the loss is computed from raw scores, `plan_below` gives these as outputs.
    """

    function: Loss
    activation: str
    """of the last layer"""

    def __call__(self, outputs: RealArray, data: Data) -> tuple[float, RealArray]:
        """Return the loss of rows with these outputs, or scores, and its gradient with respect to them."""
        loss, Y = self.function, data.targets
        factors = row_factors(loss, data.sample_weight, len(outputs), outputs.shape[1], outputs.dtype)
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


def plan_below(module: Core[Any], n_inputs: int, layers: Sequence[Dense], loss: Loss) -> contract.Plan:
    """Return the backend's plan of the layers, without the last activation where the loss is computed from scores."""
    *rest, last = layers
    if loss.from_scores(last.activation):
        last = replace(last, activation="identity", weight_init="auto", bias_init="auto")
    plan: contract.Plan = module.Plan(n_inputs, [*rest, last])
    return plan


def weighted(module: Core[Any], n_inputs: int, layers: Sequence[Dense], loss: Loss, optimizer: Optimizer) -> OnBackend:
    """Return what a step of a network with these layers is made of."""
    head = WeightedHead(loss, layers[-1].activation)
    return OnBackend(module, plan_below(module, n_inputs, layers, loss), head, optimizer)


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
        computation = weighted(module, n_inputs, layers, loss, optimizer)
        super().__init__(
            Plan(n_inputs, layers), loss, computation, settings, data, state, learning_rates, validation
        )  # fmt: skip
