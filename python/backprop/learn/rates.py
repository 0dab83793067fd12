"""The learning rate of each step."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from backprop.base import checks as check
from backprop.base.state import TrainingState
from backprop.learn import pace
from backprop.learn.schedules import Schedule


class Rates:
    """The learning rates: the optimizer's, times the schedule's factor, times what callbacks have scaled it by."""

    def __init__(
        self, learning_rate: float, schedule: Schedule | None, n_rows: int, batch_size: int, scale: float
    ) -> None:
        self.learning_rate, self.schedule, self.scale = learning_rate, schedule, scale
        self.batch_size, self.steps_per_epoch = batch_size, -(-n_rows // batch_size)

    def of_steps(self, steps: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the rates at these steps, which count from the start of epoch 0."""
        rate = self.learning_rate * self.scale
        if self.schedule is None:
            return np.full(len(steps), rate)
        factors = np.asarray(self.schedule.factors(steps, self.steps_per_epoch), np.float64)
        if factors.shape != steps.shape or not (np.isfinite(factors) & (factors >= 0)).all():
            raise ValueError(f"schedule: needs a finite factor >= 0 for each step, got {check.shown(factors)}")
        return rate * factors

    def ahead(self, state: TrainingState, last_epoch: int) -> NDArray[np.float64]:
        """Return the rates of the next steps: of a window with a schedule, else the one that stays."""
        if self.schedule is None:
            return np.array([self.learning_rate * self.scale])
        step = state.epoch * self.steps_per_epoch + -(-state.cursor // self.batch_size)
        # One at least: when all steps are done there may be validation rows left.
        end = max(step + 1, min(last_epoch * self.steps_per_epoch, step + pace.WINDOW))
        return self.of_steps(np.arange(step, end))

    def of_epochs(self, first: int, last: int) -> NDArray[np.float64]:
        """Return the rates of the last steps of the epochs after the first-th, up to the last-th."""
        return self.of_steps(np.arange(first + 1, last + 1) * self.steps_per_epoch - 1)
