"""Training a fleet member by member: what the compiled cores' fleets are compared with."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from backprop.base import random
from backprop.base.fleet import DIVERGED, DIVERGING, RUNNING, TOLERANCE
from backprop.reference.passes import Plan
from backprop.reference.training import Training

if TYPE_CHECKING:
    from backprop.base.fleet import FleetData, FleetRates, FleetState
    from backprop.base.state import TrainingState
    from backprop.base.types import Data, TrainingSettings
    from backprop.reference.dense import Dense
    from backprop.reference.losses import Loss
    from backprop.reference.optimizers import Optimizer


class MemberTraining(Protocol):
    """The run of one member: see `backprop.backends.contract.Training`."""

    def run(
        self,
        last_epoch: int,
        seconds: float,
        losses: NDArray[np.float64],
        validation_losses: NDArray[np.float64] | None = None,
        last_step: int | None = None,
    ) -> str:
        """Train until an epoch, a step, a stop rule or the end of the time."""
        ...


class Unfinished(NamedTuple):
    """A member whose epoch goes on in the next call: its run may be in the middle of a step, or of its validation."""

    member: int
    training: MemberTraining
    state: TrainingState
    epoch_random: list[int]
    kept: list[Any]
    """see `FleetLoop.copy_of`"""


class FleetLoop:
    """A fleet's training, one member after the other.

    make: returns the run of one member from its number, its state and the rates of its next steps.
    """

    def __init__(
        self,
        make: Callable[[int, TrainingState, NDArray[np.float64]], MemberTraining],
        settings: TrainingSettings,
        data: FleetData,
        state: FleetState,
        rates: FleetRates,
    ) -> None:
        self.make, self.settings, self.data, self.state, self.rates = make, settings, data, state, rates
        self.unfinished: Unfinished | None = None

    def set_rates(self, rates: FleetRates) -> None:
        """Take these rates from the next step on."""
        self.rates, self.unfinished = rates, None

    def run(
        self,
        first: int,
        last: int,
        seconds: float,
        losses: NDArray[np.float64],
        validation_losses: NDArray[np.float64] | None = None,
    ) -> bool:
        """Train until every member that is running has done `last` epochs of this fit, or the time is over."""
        end = time.perf_counter() + seconds
        members = self.state.members
        for k in range(len(self.state)):
            if members["status"][k] == RUNNING and members["epoch"][k] - members["first_epoch"][k] < last:
                self.run_member(k, first, last, end, losses, validation_losses)
                if time.perf_counter() >= end:
                    break
        done = members["epoch"] - members["first_epoch"] >= last
        return bool((done | (members["status"] != RUNNING)).all())

    def run_member(
        self,
        k: int,
        first: int,
        last: int,
        end: float,
        losses: NDArray[np.float64],
        validation_losses: NDArray[np.float64] | None,
    ) -> None:
        """Train one member until its last epoch, its end or that of the time."""
        training, state, epoch_random, kept = self.begin_member(k)
        position, step = int(self.state.members["position"][k]), state.step
        own, own_validation = np.empty(1), None if validation_losses is None else np.empty(1)
        reason = "epochs"
        try:
            while state.epoch - state.first_epoch < last and reason == "epochs":
                if state.cursor == 0:
                    epoch_random = random.words(state.bit_generator)[:2]
                    kept = self.copy_of(k)
                row = state.epoch - state.first_epoch - first
                reason = training.run(state.epoch + 1, max(0.0, end - time.perf_counter()), own, own_validation)
                if reason != "time":
                    losses[row, k] = own[0]
                    if validation_losses is not None and own_validation is not None:
                        validation_losses[row, k] = own_validation[0]
                    self.state.put(k, state, None)
                    self.state.members["position"][k] = position + state.step - step
        finally:  # a loss of the user's own may raise
            self.state.put(k, state, epoch_random if state.cursor else None)
            self.state.members["position"][k] = position + state.step - step
            if state.cursor and not self.is_finite(k):  # the epoch will diverge, but nobody may go on with it
                self.lose(k, kept, state.epoch + 1, DIVERGING)
                losses[state.epoch - state.first_epoch - first, k] = np.nan
                if validation_losses is not None:
                    validation_losses[state.epoch - state.first_epoch - first, k] = np.nan
        if reason == "time" and self.state.members["status"][k] == RUNNING:
            self.unfinished = Unfinished(k, training, state, epoch_random, kept)
        elif reason == "tolerance":
            self.state.members["status"][k] = TOLERANCE
        elif reason == "diverged":
            self.lose(k, kept, state.epoch)

    def begin_member(self, k: int) -> tuple[MemberTraining, TrainingState, list[int], list[Any]]:
        """Return the run that the last call has left in the middle, with what belongs to it, or a new one.

        A new one begins its step again: of steps that are longer than a call, none would ever be done.
        """
        last, self.unfinished = self.unfinished, None  # what a loss raises ends the run
        if last is not None and last.member == k:
            return last[1:]
        n_rows = int(self.data.n_rows[k])
        batch_size = self.settings.batch_size or n_rows
        state = self.state.of(k, n_rows if self.settings.shuffle and batch_size < n_rows else 0)
        position = int(self.state.members["position"][k])
        training = self.make(k, state, self.rates_of(k, state.rate_scale, position))
        return training, state, [int(word) for word in self.state.members["epoch_random"][k]], self.copy_of(k)

    def lose(self, k: int, kept: list[Any], epoch: int, status: int = DIVERGED) -> None:
        """Take a member that has diverged in this epoch, counted from 1, back to a copy."""
        for array, values in zip(self.arrays(), kept, strict=True):
            array[k] = values
        self.state.members["status"][k], self.state.members["diverged_epoch"][k] = status, epoch

    def is_finite(self, k: int) -> bool:
        """Whether a member's parameters and the loss of its epoch so far are."""
        loss_sum, parameters = self.state.members["loss_sum"][k], self.state.parameters[k]
        return bool(np.isfinite(loss_sum) and np.isfinite(parameters).all())

    def copy_of(self, k: int) -> list[Any]:
        """Return what a member goes back to where its next epoch diverges."""
        return [array[k].copy() for array in self.arrays()]

    def arrays(self) -> list[NDArray[Any]]:
        """Return what is copied: all that a step changes."""
        averages = [self.state.average] if self.settings.average is not None else []
        return [self.state.parameters, self.state.slots, self.state.members, *averages]

    def rates_of(self, k: int, scale: float, position: int) -> NDArray[np.float64]:
        """Return the rates of a member's next steps."""
        rate = float(self.rates.base[k]) * scale
        if self.rates.table_of is None:
            return np.array([rate])
        table = self.rates.tables[int(self.rates.table_of[k])]
        return rate * table[min(position, len(table) - 1) :]


class FleetTraining(FleetLoop):
    """A fleet's training in NumPy."""

    def __init__(
        self,
        n_inputs: int,
        layers: Sequence[tuple[Dense, ...]],
        loss: Loss,
        optimizers: Sequence[Optimizer],
        settings: TrainingSettings,
        data: FleetData,
        state: FleetState,
        rates: FleetRates,
        validation: FleetData | None = None,
        in_lanes: bool | None = None,
    ) -> None:
        def make(k: int, member: TrainingState, learning_rates: NDArray[np.float64]) -> MemberTraining:
            plan = Plan(n_inputs, layers[k % len(layers)])
            rest: tuple[Data, TrainingState, NDArray[Any], Data | None] = (
                data.of(k), member, learning_rates, None if validation is None else validation.of(k),
            )  # fmt: skip
            return Training(plan, loss, optimizers[k % len(optimizers)], settings, *rest)

        super().__init__(make, settings, data, state, rates)
