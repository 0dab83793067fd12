"""Losses of the user's own, on any backend: one call, and a training run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backprop.backends.contract import Core
from backprop.backends.custom import Custom
from backprop.backends.on_backend import OnBackend
from backprop.base.state import TrainingState
from backprop.base.types import Data, RealArray, TrainingSettings
from backprop.reference.dense import Dense
from backprop.reference.optimizers import Optimizer
from backprop.reference.passes import Plan
from backprop.reference.training import Loop


@dataclass(frozen=True, slots=True)
class CustomHead:
    """A custom loss above the last layer.

    The function is called with outputs that are finite only; for others the loss is NaN. As with the losses of the
    library, rows whose weights sum to zero have the loss 0 and the gradient 0.
    """

    function: Custom
    errors: Mapping[str, Any]
    """how floating-point errors in the function are to be treated, as `numpy.geterr` has it"""

    def __call__(self, outputs: RealArray, data: Data) -> tuple[float, RealArray]:
        """Call the function, with copies of the rows: whatever it does to them, the data stay as they are."""
        _, targets, weights = data
        if not np.isfinite(outputs).all():
            return math.nan, np.full_like(outputs, math.nan)
        if weights is not None and not weights.any():
            return 0.0, np.zeros_like(outputs)
        with np.errstate(**self.errors):
            return self.function(outputs, targets.copy(), None if weights is None else weights.copy())


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
        head = CustomHead(loss, dict(np.geterr()))
        computation = OnBackend(module, module.Plan(n_inputs, layers), head, optimizer)
        plan = Plan(n_inputs, layers)
        super().__init__(plan, loss, computation, settings, data, state, learning_rates, validation)
