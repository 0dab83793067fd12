"""The training loop: epochs of mini-batches, one optimizer step for each."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from backprop.reference.layers import Plan, objective
from backprop.reference.losses import denominator
from backprop.reference.optimizers import clip, update

if TYPE_CHECKING:
    from backprop._types import Data, StopReason, TrainingSettings, TrainingState
    from backprop.losses import Loss
    from backprop.optimizers import Optimizer


class Training:
    """A training run over fixed data: changes `state` in place.

    `learning_rates[k]` is used for the k-th step of this run; the last one is used from there on.
    """

    def __init__(
        self,
        plan: Plan,
        loss: Loss,
        optimizer: Optimizer,
        settings: TrainingSettings,
        data: Data,
        state: TrainingState,
        learning_rates: NDArray[np.float64],
    ) -> None:
        self.plan, self.loss, self.optimizer = plan, loss, optimizer
        self.settings, self.data, self.state = settings, data, state
        self.learning_rates = learning_rates
        self.n_rows = len(data.X)
        self.batch_size = min(settings.batch_size or self.n_rows, self.n_rows)
        self.shuffle = settings.shuffle and self.batch_size < self.n_rows
        self.first_step, self.first_epoch = state.step, state.epoch
        self.gradient = np.zeros_like(state.parameters)
        if self.shuffle and len(state.permutation) != self.n_rows:
            state.permutation = np.arange(self.n_rows, dtype=np.int64)

    def run(self, last_epoch: int, seconds: float, losses: NDArray[np.float64]) -> StopReason:
        """Train until `state.epoch == last_epoch`, a stop rule fires, or about `seconds` have passed.

        `losses[e]` receives the loss of the e-th epoch finished in this run (counted from the making of the
        `Training`). The clock is looked at after each step, so that every call makes some progress. When several
        reasons to stop come together, the first of "diverged", "tolerance", "epochs", "time" is returned.
        """
        end = time.perf_counter() + seconds
        state = self.state
        with np.errstate(all="ignore"):
            while state.epoch < last_epoch:
                if state.cursor == 0 and self.shuffle:
                    state.permutation[:] = shuffled(self.n_rows, state.bit_generator)
                self.step()
                if state.cursor == self.n_rows:
                    reason = self.end_epoch(losses)
                    if reason is not None:
                        return reason
                if state.epoch < last_epoch and time.perf_counter() >= end:
                    return "time"
        return "epochs"

    def step(self) -> None:
        """One optimizer step on the next batch."""
        state, settings = self.state, self.settings
        batch = self.next_batch()
        data_loss, penalty = objective(self.plan, self.loss, state.parameters, batch, self.gradient)
        n_rows = len(batch.X)
        if self.loss.reduction == "sum":
            # Data losses add up; the penalties, which every batch has whole, count by its share of the rows.
            state.loss_sum += float(data_loss + penalty * n_rows / self.n_rows)
            state.weight_sum = 1.0
        else:
            weight = denominator(self.loss, batch.sample_weight, n_rows, self.plan.n_outputs)
            state.loss_sum += float(data_loss + penalty) * weight
            state.weight_sum += weight
        clip(self.plan, self.gradient, settings.clip_value, settings.clip_norm)
        learning_rate = float(self.learning_rates[min(state.step - self.first_step, len(self.learning_rates) - 1)])
        state.step += 1
        update(self.plan, self.optimizer, state.parameters, self.gradient, state.slots, state.step, learning_rate)

    def next_batch(self) -> Data:
        """Take the next rows of this epoch; the last batch may be short."""
        state, data = self.state, self.data
        start = state.cursor
        state.cursor = min(start + self.batch_size, self.n_rows)
        rows = slice(start, state.cursor) if not self.shuffle else state.permutation[start : state.cursor]
        weights = None if data.sample_weight is None else data.sample_weight[rows]
        return data._replace(X=data.X[rows], targets=data.targets[rows], sample_weight=weights)

    def end_epoch(self, losses: NDArray[np.float64]) -> StopReason | None:
        """Record the epoch's loss and apply the stop rules."""
        state, settings = self.state, self.settings
        loss = state.loss_sum / state.weight_sum if state.weight_sum != 0 else 0.0
        losses[state.epoch - self.first_epoch] = loss
        state.epoch += 1
        state.cursor = 0
        state.loss_sum = state.weight_sum = 0.0
        if not math.isfinite(loss):
            return "diverged"
        if settings.tolerance is not None:
            stale = loss > state.best_loss - settings.tolerance
            state.stale_epochs = state.stale_epochs + 1 if stale else 0
        state.best_loss = min(state.best_loss, loss)
        if settings.tolerance is not None and state.stale_epochs >= settings.patience:
            return "tolerance"
        return None


def shuffled(n: int, bit_generator: np.random.PCG64) -> NDArray[np.int64]:
    """Put the numbers 0 to n - 1 in random order, each order equally likely (Fisher and Yates).

    Each swap takes one raw 64-bit number, whose upper half picks a place j <= i.
    """
    order = list(range(n))
    raw = bit_generator.random_raw(n - 1).tolist()
    for i, r in zip(range(n - 1, 0, -1), raw, strict=True):
        j = ((r >> 32) * (i + 1)) >> 32
        order[i], order[j] = order[j], order[i]
    return np.array(order, np.int64)
