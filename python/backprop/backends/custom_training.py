"""Losses of the user's own, on any backend: one call, and a training run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backprop.backends import contract
from backprop.backends.contract import Core
from backprop.backends.custom import Custom
from backprop.base.state import TrainingState
from backprop.base.types import Data, RealArray, TrainingSettings
from backprop.reference.dense import Dense
from backprop.reference.optimizers import Optimizer
from backprop.reference.passes import Plan
from backprop.reference.training import Loop


@dataclass(frozen=True, slots=True)
class OnBackend:
    """A custom loss, with the rest computed by any backend: `module` and `plan` are the backend's.

    The function is called with outputs that are finite only; for others the loss is NaN. As with the losses of the
    library, rows whose weights sum to zero have the loss 0 and the gradient 0.
    """

    module: Core[Any]
    plan: contract.Plan
    function: Custom
    optimizer: Optimizer
    errors: Mapping[str, Any]
    """how floating-point errors in the function are to be treated, as `numpy.geterr` has it"""

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
        """Call the function, with copies of the rows: whatever it does to them, the data stay as they are."""
        _, targets, weights = data
        if not np.isfinite(outputs).all():
            return math.nan, np.full_like(outputs, math.nan)
        if weights is not None and not weights.any():
            return 0.0, np.zeros_like(outputs)
        with np.errstate(**self.errors):
            return self.function(outputs, targets.copy(), None if weights is None else weights.copy())

    def update(
        self, parameters: RealArray, gradient: RealArray, slots: RealArray, step: int, learning_rate: float
    ) -> None:
        """Do one optimizer step."""
        self.module.update(self.plan, self.optimizer, parameters, gradient, slots, step, learning_rate)


class CustomTraining(Loop):
    """A training run with a custom loss on any backend, with the `run` and the side effects of a `Training`.

    `module` is the backend's, as `contract` has it, and computes outputs, gradients and updates; `layers` are the
    network's. `data` is as for a `Training`, but the targets are any array with one row for each row of X: the loss's
    function gets rows of it. What the function raises comes through `run`, before the step has changed parameters or
    slots.
    """

    def __init__(
        self,
        module: Core[Any],
        layers: Sequence[Dense],
        loss: Custom,
        optimizer: Optimizer,
        settings: TrainingSettings,
        data: Data,
        state: TrainingState,
        learning_rates: NDArray[np.float64],
        validation: Data | None = None,
    ) -> None:
        n_inputs = data.X.shape[1]
        computation = OnBackend(module, module.Plan(n_inputs, layers), loss, optimizer, dict(np.geterr()))
        plan = Plan(n_inputs, layers)
        super().__init__(plan, loss, computation, settings, data, state, learning_rates, validation)
