"""Training on sparse rows that would not fit into memory as dense ones."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backprop.base.random import shuffled
from backprop.base.state import TrainingState
from backprop.base.types import Data, StopReason, TrainingSettings
from backprop.reference.training import close_epoch

# So many numbers are dense at a time, if a batch does not need more.
DENSE_NUMBERS = 1 << 22


class SparseTraining:
    """A training run over rows of a CSR matrix, with the `run` and the side effects of a backend's `Training`.

    A few batches at a time are made dense and handed to a run of the backend. The order of the rows and the steps are
    those of a run over dense rows, to the last bit. The loss needs the reduction ``"mean"``.
    """

    def __init__(
        self,
        make: Callable[[TrainingSettings, Data, TrainingState, NDArray[np.float64], Data | None], Any],
        settings: TrainingSettings,
        data: Data,
        state: TrainingState,
        learning_rates: NDArray[np.float64],
        validation: Data | None,
    ) -> None:
        """`make` returns a backend's run over dense rows."""
        self.make, self.settings, self.data, self.state, self.validation = make, settings, data, state, validation
        self.n_rows, n_columns = data.X.shape
        batch_size = settings.batch_size or self.n_rows
        self.at_once = batch_size * max(1, DENSE_NUMBERS // (batch_size * n_columns))
        self.order: NDArray[np.int64] = np.arange(self.n_rows)
        self.piece_settings = replace(settings, shuffle=False, tolerance=None)
        self.set_learning_rates(learning_rates)

    def set_learning_rates(self, learning_rates: NDArray[np.float64]) -> None:
        """`learning_rates[k]` is used for the k-th step from here; the last one is used from there on."""
        self.learning_rates, self.first_step = learning_rates, self.state.step

    def run(
        self,
        last_epoch: int,
        seconds: float,
        losses: NDArray[np.float64],
        validation_losses: NDArray[np.float64] | None = None,
    ) -> StopReason:
        """Train until `state.epoch == last_epoch`, a stop rule fires or the time is over; as a `Training` does."""
        end, state = time.perf_counter() + seconds, self.state
        first_epoch = state.epoch
        while state.epoch < last_epoch:
            i = state.epoch - first_epoch
            diverged = self.piece(None if validation_losses is None else validation_losses[i:])
            if diverged or state.cursor == self.n_rows:
                loss = math.nan if diverged else state.loss_sum / state.weight_sum if state.weight_sum else 0.0
                losses[i] = loss
                if (
                    reason := close_epoch(state, self.settings, loss, math.isfinite(loss), state.parameters)
                ) is not None:
                    return reason
            if state.epoch < last_epoch and time.perf_counter() >= end:
                return "time"
        return "epochs"

    def piece(self, validation_losses: NDArray[np.float64] | None) -> bool:
        """Train on the next rows of this epoch; returns whether that diverged."""
        state = self.state
        X: Any = self.data.X
        targets, weights = self.data.targets, self.data.sample_weight
        if state.cursor == 0 and self.settings.shuffle and self.settings.batch_size is not None:
            self.order = shuffled(self.n_rows, state.bit_generator)
        rows = self.order[state.cursor : state.cursor + self.at_once]
        dense = Data(X[rows].toarray(), targets[rows], None if weights is None else weights[rows])
        done = state.step - self.first_step
        rates = self.learning_rates[min(done, len(self.learning_rates) - 1) :]
        inner = TrainingState(state.parameters, state.slots, state.bit_generator, step=state.step)
        is_last = state.cursor + len(rows) == self.n_rows
        run = self.make(self.piece_settings, dense, inner, rates, self.validation if is_last else None)
        loss = np.empty(1)
        reason = run.run(1, math.inf, loss, validation_losses)
        weight = len(rows) if dense.sample_weight is None else float(dense.sample_weight.sum(dtype=np.float64))
        state.loss_sum += float(loss[0]) * weight
        state.weight_sum += weight
        state.step, state.cursor = inner.step, state.cursor + len(rows)
        return bool(reason == "diverged")
