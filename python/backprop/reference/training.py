"""The training loop: epochs of mini-batches, one optimizer step for each. Start reading at `Loop.run`."""

from __future__ import annotations

import math
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from backprop.base.random import shuffled
from backprop.reference.losses.loss import denominator
from backprop.reference.passes import Plan, add_penalty_gradient, data_loss, penalty
from backprop.reference.step import clip, limit_norms, update

if TYPE_CHECKING:
    from backprop.base.state import TrainingState
    from backprop.base.types import Data, RealArray, StopReason, TrainingSettings
    from backprop.reference.losses import Loss
    from backprop.reference.losses.loss import Reduced
    from backprop.reference.optimizers import Optimizer


def close_epoch(
    state: TrainingState, settings: TrainingSettings, monitored: float, is_finite: bool, parameters: RealArray
) -> StopReason | None:
    """End an epoch with this loss, which `parameters` have, and apply the stop rules."""
    state.epoch += 1
    state.cursor = 0
    state.loss_sum = state.weight_sum = 0.0
    if not is_finite:
        return "diverged"
    if settings.tolerance is not None:
        progress = monitored < state.best_loss or settings.equal_is_progress
        enough = monitored <= state.best_loss - settings.tolerance
        state.stale_epochs = 0 if progress and enough else state.stale_epochs + 1
    if monitored < state.best_loss:
        state.best_loss, state.best_epoch = monitored, state.epoch
        if settings.keep_best:
            state.best_parameters[:] = parameters
    if settings.tolerance is not None and state.stale_epochs >= settings.patience:
        return "tolerance"
    return None


class Computation(Protocol):
    """What a step is made of; penalties, clipping and norms apart."""

    def loss(self, parameters: RealArray, data: Data) -> float:
        """Return the loss of the data, without dropout."""

    def loss_and_gradient(
        self, parameters: RealArray, batch: Data, gradient: RealArray, dropout_key: int | None
    ) -> float:
        """Return the loss of a batch and put its gradient into `gradient`."""

    def update(
        self, parameters: RealArray, gradient: RealArray, slots: RealArray, step: int, learning_rate: float
    ) -> None:
        """Do one optimizer step."""


@dataclass(frozen=True, slots=True)
class InNumPy:
    """A loss of the library, computed here."""

    plan: Plan
    function: Loss
    optimizer: Optimizer

    def loss(self, parameters: RealArray, data: Data) -> float:
        """Return the loss of the data, without dropout."""
        return float(data_loss(self.plan, self.function, parameters, data))

    def loss_and_gradient(
        self, parameters: RealArray, batch: Data, gradient: RealArray, dropout_key: int | None
    ) -> float:
        """Return the loss of a batch and put its gradient into `gradient`."""
        return float(data_loss(self.plan, self.function, parameters, batch, gradient, dropout_key=dropout_key))

    def update(
        self, parameters: RealArray, gradient: RealArray, slots: RealArray, step: int, learning_rate: float
    ) -> None:
        """Do one optimizer step."""
        update(self.plan, self.optimizer, parameters, gradient, slots, step, learning_rate)


class Loop:
    """A training run over fixed data with any computation: changes `state` in place."""

    def __init__(
        self,
        plan: Plan,
        loss: Reduced,
        computation: Computation,
        settings: TrainingSettings,
        data: Data,
        state: TrainingState,
        learning_rates: NDArray[np.float64],
        validation: Data | None,
    ) -> None:
        self.plan, self.loss, self.settings, self.data, self.state = plan, loss, settings, data, state
        self.computation, self.validation = computation, validation
        self.n_rows = len(data.X)
        self.batch_size = min(settings.batch_size or self.n_rows, self.n_rows)
        self.shuffle = settings.shuffle and self.batch_size < self.n_rows
        self.steps_per_epoch = -(-self.n_rows // self.batch_size)
        self.drops = any(layer.settings.dropout > 0 for layer in plan.layers)
        self.gradient = np.zeros_like(state.parameters)
        self.set_learning_rates(learning_rates)
        if self.shuffle and len(state.permutation) != self.n_rows:
            state.permutation = np.arange(self.n_rows, dtype=np.int64)
        if settings.keep_best and len(state.best_parameters) != len(state.parameters):
            state.best_parameters = state.parameters.copy()
        if settings.average is not None and len(state.average) != len(state.parameters):
            state.average = state.parameters.copy()

    def set_learning_rates(self, learning_rates: NDArray[np.float64]) -> None:
        """`learning_rates[k]` is used for the k-th step from here; the last one is used from there on."""
        self.learning_rates, self.first_step = learning_rates, self.state.step

    def run(
        self,
        last_epoch: int,
        seconds: float,
        losses: NDArray[np.float64],
        validation_losses: NDArray[np.float64] | None = None,
        last_step: int | None = None,
    ) -> StopReason:
        """Train until `state.epoch == last_epoch`, a stop rule fires, `state.step == last_step`, or the time is over.

        `losses[i]` and `validation_losses[i]` receive what belongs to the i-th epoch finished in this call; with
        validation data the second is needed. The clock is looked at after each step, so that every call makes some
        progress. When several reasons to stop come together, the first of "diverged", "tolerance", "epochs", "time" is
        returned; "time" stands for `last_step` too.
        """
        end = time.perf_counter() + seconds
        state = self.state
        first_step, first_epoch = state.step, state.epoch
        last_step = sys.maxsize if last_step is None else last_step
        with np.errstate(all="ignore"):
            while state.epoch < last_epoch:
                if state.step >= last_step or (state.step > first_step and time.perf_counter() >= end):
                    return "time"
                if state.cursor < self.n_rows:
                    self.step()
                if state.cursor == self.n_rows:
                    reason = self.end_epoch(state.epoch - first_epoch, losses, validation_losses)
                    if reason is not None:
                        return reason
        return "epochs"

    def step(self) -> None:
        """One optimizer step on the next batch."""
        state, settings = self.state, self.settings
        if self.shuffle and state.cursor == 0:
            state.permutation[:] = shuffled(self.n_rows, state.bit_generator)
        dropout_key = state.bit_generator.random_raw() if self.drops else None
        batch = self.next_batch()

        loss = self.computation.loss_and_gradient(state.parameters, batch, self.gradient, dropout_key)
        share = self.penalty_share(batch)
        self.add_to_epoch(batch, loss, share * penalty(self.plan, state.parameters))
        add_penalty_gradient(self.plan, state.parameters, self.gradient, share)
        clip(self.plan, self.gradient, settings.clip_value, settings.clip_norm)

        learning_rate = float(self.learning_rates[min(state.step - self.first_step, len(self.learning_rates) - 1)])
        state.cursor += len(batch.X)
        state.step += 1
        self.computation.update(state.parameters, self.gradient, state.slots, state.step, learning_rate)
        limit_norms(self.plan, state.parameters)
        self.average_step()

    def steps_averaged(self) -> tuple[int, int]:
        """Return how many steps of this run have been done since the average began, and each how many-th counts."""
        average, state = self.settings.average, self.state
        if average is None:
            return 0, 1
        epochs = state.epoch - state.first_epoch - average.start
        return epochs * self.steps_per_epoch + -(
            -state.cursor // self.batch_size
        ), average.every or self.steps_per_epoch

    def average_step(self) -> None:
        """After a step: enter the parameters into the average, if it is their turn."""
        steps, between = self.steps_averaged()
        if steps > 0 and steps % between == 0:
            assert self.settings.average is not None
            count, decay = steps // between, self.settings.average.decay
            average, parameters = self.state.average, self.state.parameters
            if count == 1:
                average[...] = parameters
            else:
                average += average.dtype.type(1 / count if decay is None else 1 - decay) * (parameters - average)

    def measured_parameters(self) -> RealArray:
        """Return those whose validation loss is wanted: the average once there is one, if that is asked for."""
        steps, between = self.steps_averaged()
        average = self.settings.average
        return (
            self.state.average
            if average is not None and average.measured and steps >= between
            else self.state.parameters
        )

    def next_batch(self) -> Data:
        """Look up the next rows of this epoch; the last batch may be short."""
        state, data = self.state, self.data
        end = min(state.cursor + self.batch_size, self.n_rows)
        rows = state.permutation[state.cursor : end] if self.shuffle else slice(state.cursor, end)
        weights = None if data.sample_weight is None else data.sample_weight[rows]
        return data._replace(X=data.X[rows], targets=data.targets[rows], sample_weight=weights)

    def penalty_share(self, batch: Data) -> float:
        """What a batch's penalties are multiplied with: 1, or, counted for each row, 1 over the rows or weights."""
        if not self.settings.penalty_per_row:
            return 1.0
        rows = denominator(self.loss, batch.sample_weight, len(batch.X), n_outputs=1)
        return 1 / rows if rows > 0 else 0.0

    def add_to_epoch(self, batch: Data, loss: float, penalties: float) -> None:
        """Enter the loss of a batch into the sums of the epoch."""
        state, n_rows = self.state, len(batch.X)
        if self.loss.reduction == "sum":
            # Data losses add up; the penalties, which every batch has whole, count by its share of the rows.
            state.loss_sum += float(loss + penalties * n_rows / self.n_rows)
            state.weight_sum = 1.0
        else:
            weight = denominator(self.loss, batch.sample_weight, n_rows, self.plan.n_outputs)
            state.loss_sum += float(loss + penalties) * weight
            state.weight_sum += weight

    def end_epoch(
        self, i: int, losses: NDArray[np.float64], validation_losses: NDArray[np.float64] | None
    ) -> StopReason | None:
        """Record the losses of the epoch, the i-th of this call, and apply the stop rules."""
        state, settings = self.state, self.settings
        loss = monitored = state.loss_sum / state.weight_sum if state.weight_sum != 0 else 0.0
        losses[i] = loss
        if self.validation is not None:
            assert validation_losses is not None
            validation_losses[i] = self.validation_loss(self.validation)
            monitored = float(validation_losses[i]) if settings.monitor == "val_loss" else loss
        is_finite = math.isfinite(loss) and bool(np.isfinite(state.parameters).all())
        best = self.measured_parameters() if settings.monitor == "val_loss" else state.parameters
        return close_epoch(state, settings, monitored, is_finite, best)

    def validation_loss(self, validation: Data) -> float:
        """Compute the loss of the validation data, penalties included."""
        parameters = self.measured_parameters()
        return float(self.computation.loss(parameters, validation) + penalty(self.plan, parameters))


class Training(Loop):
    """A training run over fixed data: changes `state` in place."""

    def __init__(
        self,
        plan: Plan,
        loss: Loss,
        optimizer: Optimizer,
        settings: TrainingSettings,
        data: Data,
        state: TrainingState,
        learning_rates: NDArray[np.float64],
        validation: Data | None = None,
    ) -> None:
        """As `Loop.set_learning_rates` for the rates; `validation` is measured at the end of each epoch."""
        computation = InNumPy(plan, loss, optimizer)
        super().__init__(plan, loss, computation, settings, data, state, learning_rates, validation)
