"""Losses and metrics of a fleet's members, each over all its rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backprop.backends.contract import Core
from backprop.backends.custom import Custom
from backprop.base import checks as check
from backprop.base.fleet import FleetData
from backprop.base.fleet_history import FleetHistory
from backprop.base.types import Data, RealArray
from backprop.learn import metrics as metric_functions
from backprop.learn.callbacks.plateaus import sign
from backprop.model.fleet import FleetModel, Group
from backprop.model.objective import Objective
from backprop.reference.losses import Loss


class FleetMeasures:
    """Metrics of the members of a group, on rows of theirs or rows that they share."""

    def __init__(
        self,
        core: Core[Any],
        group: Group,
        loss: Loss | Custom,
        functions: Mapping[str, Callable[..., float] | None],
        sets: Mapping[str, FleetData],
    ) -> None:
        self.core, self.loss, self.functions, self.sets = core, loss, functions, sets
        self.plan = core.Plan(group.n_inputs, group.layers[0]) if functions else None
        self.n_outputs = group.n_outputs
        self.names = [prefix + name for prefix in sets for name in functions]

    def check(self) -> None:
        """Raise where a member's targets do not suit the metrics."""
        for data in self.sets.values() if self.functions else ():
            for row in range(data.size):
                self.bound(data.of(row))
                if data.shares_targets:
                    break

    def bound(self, data: Data) -> Mapping[str, Callable[[RealArray], float]]:
        """Return the metrics as functions of the outputs for these rows."""
        targets = data.targets[:, : self.n_outputs] if self.loss.sees_derivatives else data.targets
        return metric_functions.bound(self.functions, self.loss, targets, data.sample_weight)

    def __call__(self, row: int, parameters: RealArray) -> dict[str, float]:
        """Measure all of them for one member with these parameters."""
        values: dict[str, float] = {}
        for prefix, data in self.sets.items() if self.functions else ():
            own = data.of(row)
            outputs: RealArray = np.empty((len(own.X), self.n_outputs), own.X.dtype)
            self.core.forward(self.plan, parameters, own.X, outputs)
            values.update((prefix + name, function(outputs)) for name, function in self.bound(own).items())
        return values


def losses(
    fleet: FleetModel, X: Any, y: Any, loss: Any, sample_weight: Any, gradients: RealArray | None = None
) -> NDArray[np.float64]:
    """Return the loss of each member over all its rows, (size,); members of one shape may have gradients."""
    values = np.empty(len(fleet))
    for group, checked, data in fleet._data(X, y, loss, sample_weight):
        plans = [fleet._core.Plan(group.n_inputs, layers) for layers in group.layers]
        for row, k in enumerate(group.members.tolist()):
            objective = Objective(fleet._core, plans[row % len(plans)], group.layers_of(row), checked, data.of(row))
            values[k] = objective(group.parameters[row], None if gradients is None else gradients[row])
    return values


def evaluate(
    fleet: FleetModel, X: Any, y: Any, loss: Any, metrics: Any, sample_weight: Any
) -> dict[str, NDArray[np.float64]]:
    """Return losses and metrics over all rows, (size,) each; `backprop.Fleet.evaluate` documents it."""
    functions = metric_functions.resolved(metrics)
    values = {"loss": losses(fleet, X, y, loss, sample_weight)}
    values.update((name, np.empty(len(fleet))) for name in functions)
    for group, checked, data in fleet._data(X, y, loss, sample_weight) if functions else ():
        measures = FleetMeasures(fleet._core, group, checked, functions, {"": data})
        for row, k in enumerate(group.members.tolist()):
            for name, value in measures(row, group.parameters[row]).items():
                values[name][k] = value
    return values


def best(history: FleetHistory, monitor: str, mode: Any) -> int:
    """Return the member with the best number in its last epoch; `backprop.Fleet.best` documents it."""
    if monitor not in history:
        raise ValueError(f"monitor: needs one of {', '.join(map(repr, history))}, got {check.shown(monitor)}")
    direction, members = sign(mode, monitor), np.flatnonzero(history.epochs)
    values = np.full(len(history.epochs), np.nan)
    values[members] = history[monitor][history.epochs[members] - 1, members]
    if np.isnan(values).all():
        raise ValueError(f"monitor: needs a number of some member's last epoch, there is no {monitor!r}")
    return int(np.nanargmin(direction * values))
