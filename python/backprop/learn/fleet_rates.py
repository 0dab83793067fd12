"""The learning rates of a fleet's members."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from backprop.base.fleet import FleetRates
from backprop.learn.fleet_part import Part
from backprop.learn.rates import Rates
from backprop.learn.schedules import Schedule

MOST_FACTORS = 1 << 20
"""Numbers in the tables of a window, at most; the tables hold one epoch at least."""


class RateTables:
    """Factors on the learning rates for a window of epochs: one table for members that take the same steps."""

    def __init__(self, part: Part, schedule: Schedule | None) -> None:
        self.part, self.schedule = part, schedule
        if schedule is not None:
            steps = np.stack([part.steps_per_epoch, part.state.members["first_epoch"]])
            self.kinds, which = np.unique(steps, axis=1, return_inverse=True)
            self.which: NDArray[np.int64] = which.reshape(-1).astype(np.int64)
            self.most_epochs = max(1, MOST_FACTORS // int(self.kinds[0].sum()))
        self.first = 0
        self.tables: list[NDArray[np.float64]] = []

    def window(self, first: int, last: int) -> FleetRates:
        """Return the rates for the epochs from the first-th of this call to before the last-th."""
        part, members = self.part, self.part.state.members
        if self.schedule is None:
            return FleetRates(part.base_rates)
        self.first = first
        self.tables = []
        for steps_per_epoch, first_epoch in self.kinds.T.tolist():
            factors = Rates(1.0, self.schedule, steps_per_epoch, 1, 1.0)
            start, end = (first_epoch + first) * steps_per_epoch, (first_epoch + last) * steps_per_epoch
            self.tables.append(factors.of_steps(np.arange(start, end)))
        done = members["epoch"] - members["first_epoch"]
        in_epoch = -(-members["cursor"] // part.batch_sizes)
        members["position"] = np.maximum(0, (done - first) * part.steps_per_epoch + in_epoch)
        return FleetRates(part.base_rates, self.tables, self.which)

    def of_epochs(self, rows: NDArray[np.int64], epochs: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the rates of the last steps of these epochs of these members, with the present scale."""
        rates: NDArray[np.float64] = self.part.base_rates[rows] * self.part.state.members["rate_scale"][rows]
        if self.schedule is not None:
            which = self.which[rows]
            last_steps = (epochs + 1 - self.first) * self.part.steps_per_epoch[rows] - 1
            for kind, table in enumerate(self.tables):
                own = which == kind
                rates[own] *= table[last_steps[own]]
        return rates
