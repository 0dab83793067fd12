"""What a run trains, and on what."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from backprop.backends.contract import Training
from backprop.backends.custom import Custom
from backprop.base.state import TrainingState
from backprop.base.types import Data, TrainingSettings
from backprop.model.model import Model
from backprop.reference.losses import Loss
from backprop.reference.optimizers import Optimizer


class Job:
    """What is trained, on what."""

    def __init__(
        self,
        network: Model,
        loss: Loss | Custom,
        optimizer: Optimizer,
        settings: TrainingSettings,
        data: Data,
        state: TrainingState,
        validation: Data | None,
    ) -> None:
        self.network, self.loss, self.optimizer, self.settings = network, loss, optimizer, settings
        self.data, self.state, self.validation = data, state, validation

    def training(self, rates: NDArray[np.float64]) -> Training:
        """Make the backend's object for a run."""
        rest = (self.optimizer, self.settings, self.data, self.state, rates, self.validation)
        if isinstance(self.loss, Custom):
            from backprop.backends.custom_training import CustomTraining

            return CustomTraining(self.network._core, self.network.layers, self.loss, *rest)
        if any(rows is not None and rows.weighs_outputs for rows in (self.data, self.validation)):
            from backprop.backends.output_weights import WeightedTraining

            return WeightedTraining(self.network._core, self.network.layers, self.loss, *rest)
        network = self.network
        core, plan = network._core, network._plan
        widths, n_rows = [layer.units for layer in network.layers], len(self.data.X)
        batch_size = self.settings.batch_size or n_rows
        n_validation = len(self.validation.X) if self.validation is not None and batch_size >= n_rows else 0
        backend = network._backend.for_batches(batch_size, n_validation, widths, network.dtype)
        if backend != network._backend:
            core = backend.module(network.dtype)
            plan = core.Plan(network.n_inputs, network.layers)
        training: Training = core.Training(plan, self.loss, *rest)
        return training

    def batch(self, start: int) -> Data:
        """Return the batch of this epoch that begins with the start-th row."""
        X, targets, weights = self.data
        end = start + (self.settings.batch_size or len(X))
        rows: Any = self.state.permutation[start:end] if len(self.state.permutation) else slice(start, end)
        return Data(X[rows], targets[rows], None if weights is None else weights[rows])
