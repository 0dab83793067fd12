"""What one call of the core trains: members of one shape, and the state with which their training begins."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backprop.backends.contract import Core, FleetTraining
from backprop.backends.custom import Custom
from backprop.base import random, threads
from backprop.base.fleet import AVERAGED, MEMBER, NO_AVERAGE, RUNNING, FleetData, FleetRates, FleetState
from backprop.base.state import n_averaged
from backprop.base.types import RealArray, TrainingSettings
from backprop.model import rows
from backprop.model.fleet import Group
from backprop.reference.dense import Dense
from backprop.reference.losses import Loss
from backprop.reference.optimizers import Optimizer


@dataclass(slots=True, eq=False)
class Part:
    """Members of a group that one call of the core trains together, and on what."""

    group: Group
    rows: NDArray[np.int64]
    """which rows of the group, (size,)"""
    layers: Sequence[tuple[Dense, ...]]
    loss: Loss | Custom
    optimizers: tuple[Optimizer, ...]
    base_rates: NDArray[np.float64]
    settings: TrainingSettings
    data: FleetData
    """whose weights are multiplied with those of the classes"""
    measured: FleetData
    """the same without"""
    validation: FleetData | None
    state: FleetState = field(init=False)
    """the group's, or a copy of some rows"""
    batch_sizes: NDArray[np.int64] = field(init=False)
    steps_per_epoch: NDArray[np.int64] = field(init=False)
    members: NDArray[np.int64] = field(init=False)
    """their places in the fleet"""

    def __post_init__(self) -> None:
        self.members = self.group.members[self.rows]
        n_rows = np.asarray(self.data.n_rows)
        self.batch_sizes = n_rows if self.settings.batch_size is None else np.minimum(n_rows, self.settings.batch_size)
        self.steps_per_epoch = -(-n_rows // self.batch_sizes)

    def __len__(self) -> int:
        return len(self.rows)

    def n_shuffled_of(self, row: int) -> int:
        """Return how many rows one member takes in random order."""
        assert self.group.n_shuffled is not None
        return int(self.group.n_shuffled[self.rows[row]])

    def optimizer_of(self, row: int) -> Optimizer:
        """Return the optimizer of one member."""
        return self.optimizers[row % len(self.optimizers)]

    def open(self) -> None:
        """Take the state: the group's own where the backend can train on it as it is."""
        whole, n_slots = self.group.state, self.optimizers[0].n_slots
        assert whole is not None
        if len(self.rows) == len(self.group) and whole.slots.shape[1] == n_slots and _in_order(whole):
            self.state = whole
        else:
            self.state = whole.part(self.rows)
            self.state.slots = self.state.slots[:, :n_slots].copy()

    def close(self) -> None:
        """Put a copy of the state back."""
        whole = self.group.state
        assert whole is not None
        if self.state is not whole:
            whole.take(self.rows, self.state)

    def n_averaged(self, rows: Any = slice(None)) -> Any:
        """Return how many sets of parameters are in the average of a member, or in those of several, (len(rows),)."""
        members, average = self.state.members[rows], self.settings.average
        assert average is not None
        epochs, n_rows = members["epoch"] - members["first_epoch"], self.data.n_rows[rows]
        return n_averaged(average, epochs, members["cursor"], n_rows, self.batch_sizes[rows])

    def evaluated(self, row: int) -> RealArray:
        """Return the parameters of which a member's validation loss and metrics are."""
        average = self.settings.average
        averages = average is not None and average.measured and self.n_averaged(row) > 0
        parameters: RealArray = (self.state.average if averages else self.state.parameters)[row]
        return parameters

    def training(self, core: Core[Any], rates: FleetRates) -> FleetTraining:
        """Make the backend's object for the run."""
        n_inputs = self.group.n_inputs
        if isinstance(self.loss, Custom) or self.loss.sees_derivatives:
            return self._one_by_one(core, rates)
        return core.FleetTraining(
            n_inputs, self.layers, self.loss, self.optimizers, self.settings, self.data, self.state, rates,
            self.validation,
        )  # fmt: skip

    def _one_by_one(self, core: Core[Any], rates: FleetRates) -> FleetTraining:
        """Return the same for a loss that no backend's fleets know: each member as a network alone."""
        from backprop.backends.custom_training import CustomTraining
        from backprop.reference.fleet import FleetLoop

        def make(k: int, state: Any, learning_rates: NDArray[np.float64]) -> Any:
            layers, optimizer = self.layers[k % len(self.layers)], self.optimizer_of(k)
            validation = None if self.validation is None else self.validation.of(k)
            settings = self.settings
            rest = (self.data.of(k), state, learning_rates, validation)
            if isinstance(self.loss, Custom):
                return CustomTraining(core, layers, self.loss, optimizer, settings, *rest)
            flops = rows.flops(self.loss, self.group.n_inputs, len(state.parameters), float(self.batch_sizes[k]))
            if threads.are_few(flops):  # threads share a member's steps
                settings = replace(settings, n_threads=1)
            return core.Training(core.Plan(self.group.n_inputs, layers), self.loss, optimizer, settings, *rest)

        return FleetLoop(make, self.settings, self.data, self.state, rates)


def _in_order(state: FleetState) -> bool:
    return all(array.flags.c_contiguous for array in (state.parameters, state.slots, state.members))


# --- how training begins -------------------------------------------------------------------------------------------


def begin(
    group: Group,
    optimizers: tuple[Optimizer, ...],
    n_shuffled: NDArray[np.int64],
    settings: TrainingSettings,
    initial_epoch: int | None,
    resumed: NDArray[np.bool_],
) -> None:
    """Bring a group's state to the start of an epoch, or leave it where it is for members that are resumed."""
    size, n_parameters = group.parameters.shape
    dtype = group.parameters.dtype
    state = group.state
    if state is None:
        members = np.zeros(size, MEMBER)
        members["random"] = random.words_of_seeds(group.seeds, random.TRAINING)
        nothing = np.empty((0, n_parameters), dtype)
        state = group.state = FleetState(group.parameters, np.empty((size, 0, n_parameters), dtype), members, nothing)
    _renew_slots(group, state, optimizers)
    members, begins = state.members, ~resumed
    if initial_epoch is not None:
        members["epoch"][begins] = initial_epoch
    members["first_epoch"][begins] = members["epoch"][begins]
    members["rate_scale"][begins], members["best_loss"][begins] = 1.0, math.inf
    for name in ("cursor", "loss_sum", "weight_sum", "best_epoch", "stale_epochs"):
        members[name][begins] = 0
    members["epoch_random"][begins] = members["random"][begins, :2]
    members["status"] = RUNNING
    n_best, n_averages = size * settings.keep_best, size * (settings.average is not None)
    if len(state.best_parameters) != n_best:
        state.best_parameters = np.empty((n_best, n_parameters), dtype)
    if len(state.average) != n_averages:
        state.average, state.averaged = np.zeros((n_averages, n_parameters), dtype), np.empty(n_averages, np.int8)
    if n_averages:
        state.averaged[begins] = AVERAGED
    group.n_shuffled = n_shuffled


def _renew_slots(group: Group, state: FleetState, optimizers: tuple[Optimizer, ...]) -> None:
    """Let members whose optimizer is another one than the last time begin with it."""
    size, n_parameters = group.parameters.shape
    n_slots = max(optimizer.n_slots for optimizer in optimizers)
    fresh = differs(group, optimizers)
    old = state.slots
    if old.shape[1] != n_slots:
        state.slots = np.zeros((size, n_slots, n_parameters), old.dtype)
        if not fresh.all():
            common = min(n_slots, old.shape[1])
            state.slots[~fresh, :common] = old[~fresh, :common]
    state.members["step"][fresh] = 0
    for optimizer in optimizers[:1] if len(optimizers) == 1 else ():
        if fresh.any():
            slots = optimizer.new_slots(n_parameters, old.dtype)
            if old.shape[1] == n_slots or slots.any():  # else they are 0 already
                state.slots[fresh] = slots
    if len(optimizers) > 1:
        for row in np.flatnonzero(fresh).tolist():
            slots = optimizers[row].new_slots(n_parameters, old.dtype)
            state.slots[row, : len(slots)] = slots


def differs(group: Group, optimizers: tuple[Optimizer, ...]) -> NDArray[np.bool_]:
    """Return which members had another optimizer, or other hyperparameters but for the learning rate, the last time."""
    last = group.optimizers

    def differ(row: int) -> bool:
        now, before = optimizers[row % len(optimizers)], last[row % len(last)]
        return type(now) is not type(before) or now.hyperparameters != before.hyperparameters

    if len(last) == len(optimizers) == 1:
        return np.full(len(group), differ(0))
    return np.fromiter(map(differ, range(len(group))), np.bool_, len(group))


def resumable(
    group: Group,
    optimizers: tuple[Optimizer, ...],
    n_shuffled: NDArray[np.int64],
    n_rows: NDArray[np.int64],
    settings: TrainingSettings,
) -> NDArray[np.bool_]:
    """Return which members have a run to go on with; ValueError where one cannot, with these arguments."""
    size = len(group)
    trained = np.fromiter(
        (group.optimizers[row % len(group.optimizers)] is not None for row in range(size)), bool, size
    )
    if group.state is None or not trained.any():
        return np.zeros(size, np.bool_)
    for row in np.flatnonzero(trained & differs(group, optimizers)).tolist():
        last, got = group.optimizer_of(row), optimizers[row % len(optimizers)]
        raise ValueError(
            f"optimizer: needs that of the run to be resumed, {last!r}, got {got!r} (member {group.members[row]})"
        )
    had = np.zeros(size, np.int64) if group.n_shuffled is None else group.n_shuffled
    for row in np.flatnonzero(trained & ((had != n_shuffled) | (group.state.members["cursor"] > n_rows))).tolist():
        raise ValueError(
            f"resume: needs the data and the batch_size of the run to be resumed, {had[row]} shuffled rows, "
            f"got {n_shuffled[row]} (member {group.members[row]})"
        )
    if settings.keep_best and not len(group.state.best_parameters):
        raise ValueError("resume: needs the callbacks of the run to be resumed, which kept no best parameters")
    averaged = group.state.averaged if len(group.state.averaged) else np.full(size, NO_AVERAGE)
    for row in np.flatnonzero(trained & ((averaged != NO_AVERAGE) != (settings.average is not None))).tolist():
        what = "averaged" if averaged[row] != NO_AVERAGE else "did not average"
        raise ValueError(
            f"resume: needs the callbacks of the run to be resumed, which {what} the parameters "
            f"(member {group.members[row]})"
        )
    return trained
