"""When a member of a fleet diverges: the others go on, and it ends with its last finite parameters."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from backprop.base.fleet import DIVERGED
from backprop.base.history import History
from backprop.base.interrupts import HeldInterrupts
from backprop.learn.callbacks import Plateau, Progress
from backprop.learn.callbacks.averages import WeightAveraging
from backprop.learn.divergence import DivergedError
from backprop.learn.fleet_members import Networks
from backprop.learn.fleet_part import Part
from backprop.learn.fleet_rule import acts_in_arrays
from backprop.learn.job import Job
from backprop.learn.measures import Measures
from backprop.learn.rates import Rates
from backprop.learn.run import Run
from backprop.learn.schedules import Schedule


class FleetDivergedError(ArithmeticError):
    """Members of a fleet have diverged; all others are done.

    Each of them has its last finite parameters, as after `DivergedError`.

    Attributes
    ----------
    members : tuple of int
        Which ones.
    errors : dict
        The `DivergedError` of each: its epoch, loss, batch and layer.

    Examples
    --------
    >>> import backprop as bp
    >>> fleet = bp.Fleet(1, [bp.Dense(1)], size=3, seed=0)
    >>> try:
    ...     history = fleet.fit([[1.0]], [1.0], optimizer=bp.SGD(), learning_rate=[0.1, 1e30, 0.2])
    ... except bp.FleetDivergedError as error:
    ...     print(error.members, fleet.history.stop_reason)
    (1,) ['epochs' 'diverged' 'epochs']
    """

    def __init__(self, errors: Mapping[int, DivergedError]) -> None:
        self.errors = dict(sorted(errors.items()))
        self.members = tuple(self.errors)
        super().__init__(self.errors)

    def __str__(self) -> str:
        first = self.members[0]
        listed = ", ".join(map(str, self.members[:10])) + (", ..." if len(self.members) > 10 else "")
        members = "1 member" if len(self.members) == 1 else f"{len(self.members)} members"
        return f"{members} diverged ({listed}); member {first}: {self.errors[first]}"


@dataclass(frozen=True, slots=True)
class Repetition:
    """What is needed to train one member of a part alone, from where the core has taken it back to."""

    networks: Networks
    part: Part
    schedule: Schedule | None
    metrics: Any
    rule: Plateau | None
    averaging: WeightAveraging | None
    records_rate: bool
    interrupts: HeldInterrupts

    def recover(self, row: int, loss: float) -> tuple[DivergedError, int, Mapping[str, Sequence[float]]]:
        """Bring a member that has diverged to its last finite parameters, as `fit` of the network alone does.

        Returns the error, the epoch from which on the records count, and these. Whatever interrupts leaves the member
        where the core has taken it back to.
        """
        part, state = self.part, self.part.state
        arrays = [state.parameters, state.slots, state.members, state.best_parameters, state.average]
        arrays = [array for array in arrays if len(array)]
        kept = [array[row].copy() for array in arrays]
        first, last = int(state.members["epoch"][row]), int(state.members["diverged_epoch"][row])
        network = self.networks.new(row)
        network.history, member = History(), network._state
        assert member is not None
        try:
            run = self.run(row, network, last)
            run.train()
        except BaseException:
            for array, values in zip(arrays, kept, strict=True):
                array[row] = values
            raise
        error = run.error
        if error is None or member.epoch != last:
            for array, values in zip(arrays, kept, strict=True):
                array[row] = values
            error = DivergedError(last, loss, float(part.base_rates[row]))
            state.members["epoch"][row], state.members["cursor"][row] = last, 0
            state.members["loss_sum"][row] = state.members["weight_sum"][row] = 0.0
            records: Mapping[str, Sequence[float]] = {}
        else:
            state.put(row, member, None)
            records = {name: values.tolist() for name, values in network.history.items()}
        state.members["status"][row], state.members["diverged_epoch"][row] = DIVERGED, last
        return error, first, records

    def run(self, row: int, network: Any, last: int) -> Run:
        """Return the training of one member up to an epoch."""
        part, state = self.part, network._state
        data, n_rows = part.data.of(row), int(part.data.n_rows[row])
        batch_size = int(part.batch_sizes[row])
        settings = replace(part.settings, batch_size=None if batch_size >= n_rows else batch_size)
        validation = None if part.validation is None else part.validation.of(row)
        job = Job(network, part.loss, network._optimizer, settings, data, state, validation)
        rates = Rates(float(part.base_rates[row]), self.schedule, n_rows, batch_size, state.rate_scale)
        measures = Measures(network, part.loss, self.metrics, part.measured.of(row), validation)
        rule = self.rule
        if rule is not None:
            if acts_in_arrays(rule):
                rule = copy.copy(rule)
                rule.forget()
            else:  # what it does has been done
                rule = Plateau(rule.monitor, patience=rule.patience, min_delta=rule.min_delta)
        averaging, bar = copy.copy(self.averaging), Progress(after=math.inf)
        if averaging is not None:
            averaging.restore = False  # where it does not diverge again, all is put back
        return Run(job, rates, measures, [], rule, averaging, bar, self.interrupts, last, self.records_rate, False)
