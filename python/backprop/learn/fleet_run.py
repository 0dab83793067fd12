"""The loop around the core for fleets: windows of epochs, Ctrl-C, history, members that end early."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backprop.base.fleet import DIVERGED, DIVERGING, ENDING, RUNNING, TOLERANCE
from backprop.base.fleet_history import mean_loss
from backprop.base.interrupts import HeldInterrupts
from backprop.base.types import RealArray
from backprop.learn import pace
from backprop.learn.callbacks import Callback, Plateau, Progress
from backprop.learn.callbacks.averages import WeightAveraging
from backprop.learn.callbacks.plateaus import keeps_loss, keeps_measured
from backprop.learn.divergence import DivergedError
from backprop.learn.fleet_calls import PartCalls, for_each
from backprop.learn.fleet_divergence import Repetition
from backprop.learn.fleet_measures import FleetMeasures
from backprop.learn.fleet_members import Networks
from backprop.learn.fleet_part import Part
from backprop.learn.fleet_rates import RateTables
from backprop.learn.schedules import Schedule
from backprop.model.fleet import FleetModel

WINDOW_BYTES = 16 << 20
"""Losses of the epochs from one stop of all members to the next take so much memory, at most."""


class FleetRun:
    """One call of `fit` of a fleet while it trains."""

    def __init__(
        self,
        fleet: FleetModel,
        epochs: int,
        callbacks: Sequence[Callback],
        rule: Plateau | None,
        averaging: WeightAveraging | None,
        bar: Progress,
        interrupts: HeldInterrupts,
        schedule: Schedule | None,
        names: Sequence[str],
    ) -> None:
        self.fleet, self.history, self.epochs = fleet, fleet.history, epochs
        self.callbacks, self.rule, self.averaging = callbacks, rule, averaging
        self.bar, self.interrupts = bar, interrupts
        self.schedule, self.names = schedule, names
        self.size = len(fleet)
        self.parts: Sequence[PartRun] = ()
        for callback in callbacks:
            if isinstance(callback, Plateau):
                callback.forget()
        if averaging is not None:
            averaging.forget()
        self.wanted = np.full(self.size, None, object)
        self.is_wanted = False
        self.errors: dict[int, DivergedError] = {}
        self.done = np.zeros(self.size, np.int64)
        """epochs of each member that count for the progress bar"""
        self.before = 0
        """how many of these were done before it began"""
        self.next_show = 0.0

    def stop(self, members: Any, reason: str) -> None:
        """End the training of some members as soon as the core returns."""
        self.wanted[slice(None) if members is None else members] = reason
        self.is_wanted = True

    def train(self, parts: Sequence[PartRun]) -> None:
        """Train all parts, one after the other."""
        history, start = self.history, time.perf_counter()
        self.fleet._run, self.parts = self, parts
        for part in parts:
            ending = self.wanted[part.members].astype(np.bool_)
            history.stop_reason[part.members[part.active & ~ending]] = "interrupted"
            self.done[part.members] = np.where(part.active, part.recorded, self.epochs)
        self.before = int(self.done.sum())
        self.bar.begin(self.size * self.epochs - self.before, "member-epoch")
        with ExitStack() as ends:
            ends.callback(self.close)
            try:
                for part in parts:
                    ends.callback(part.calls.end)
                    part.calls.begin()
                for part in parts:
                    part.loop()
            finally:
                history.elapsed += time.perf_counter() - start
                self.bar.close(int(self.done.sum()) - self.before, mean_loss(self.history))

    def close(self) -> None:
        """Leave the fleet as training has left it."""
        self.fleet._run = None
        self.note_state()

    def note_state(self) -> None:
        """Put the states of members and callbacks where a checkpoint finds them."""
        for part in self.parts:
            ended = np.flatnonzero(part.calls.starting & ~part.active)
            lost = self.history.stop_reason[part.members[ended]] == "diverged"
            at_rest = np.where(lost, DIVERGED, TOLERANCE)
            part.state.members["status"][ended] = at_rest if self.fleet._run is None else ENDING
            part.part.close()
        self.note_callbacks(self.parts)

    def note_callbacks(self, parts: Sequence[PartRun]) -> None:
        """Put the states of members' callbacks where a run that goes on finds them."""
        if not all(part.calls.begun for part in parts):  # some began anew, and were not yet given what they had
            return
        if not any(part.calls.starting.any() for part in parts):  # nothing was left to do: what was kept stays
            return
        kept: dict[int, tuple[str, list[dict[str, Any]]]] = {}
        for part in parts:
            for c, callback in part.calls.callbacks:
                states = callback.states()
                if any(states):
                    _, all_states = kept.setdefault(c, (type(callback.given).__name__, [{} for _ in range(self.size)]))
                    for k, state in zip(part.members.tolist(), states, strict=True):
                        all_states[k] = state
        self.fleet._callbacks = [kept.get(c, (type(each).__name__, [])) for c, each in enumerate(self.callbacks)]
        if not kept:
            self.fleet._callbacks = []

    def show(self, now: float) -> None:
        """Bring the bar up to date once in a time slice."""
        if now >= self.next_show:
            self.bar.show(int(self.done.sum()) - self.before, mean_loss(self.history))
            self.next_show = now + pace.SLICE_SECONDS


class PartRun:
    """The training of members that one call of the core trains together."""

    def __init__(
        self, run: FleetRun, part: Part, metrics: Any, measures: FleetMeasures, active: NDArray[np.bool_], alone: bool
    ) -> None:
        self.run, self.part, self.measures, self.active = run, part, measures, active
        self.history, self.state, self.call = run.history, part.state, run.interrupts.call
        self.members = part.members
        self.rates = RateTables(part, run.schedule)
        self.networks = Networks(run.fleet, part, run.history, self)
        self.calls = PartCalls(
            run.fleet, part, self.networks, measures, run.callbacks, run.rule, run.averaging, run.interrupts, active
        )
        self.records_rate = "learning_rate" in run.names
        self.in_one_step = part.steps_per_epoch == 1
        self.keeps_loss = keeps_loss(part.settings)
        self.measured: RealArray | None = None
        """the parameters of all members before the epoch at hand, where somebody wants those of the best full batch"""
        if self.in_one_step.any() and (self.keeps_loss or any(map(keeps_measured, run.callbacks))):
            self.measured = np.empty_like(self.state.parameters)
        self.repetition = Repetition(
            self.networks, part, run.schedule, metrics, run.rule, run.averaging, self.records_rate, run.interrupts
        )  # fmt: skip
        part.state.members["status"][~active] = TOLERANCE  # so the core leaves them alone
        self.places: Any = slice(None) if alone else self.members
        self.first_epoch = self.state.members["first_epoch"].copy()
        done = self.state.members["epoch"] - self.first_epoch
        self.start_row = run.history.epochs[self.members] - done
        """the row of the history in which each member's first epoch of this run is"""
        self.recorded = self.before = done
        """epochs in the history, and those at the start of the window"""
        # The core writes into the history itself where its losses lie there as it needs them.
        self.writes_history = alone and bool((self.start_row == self.start_row[0]).all())
        self.first = 0
        self.losses: dict[str, NDArray[np.float64]] = {}

    # --- asked for by callbacks ---

    def stop_member(self, row: int, reason: str) -> None:
        """End a member's training soon."""
        self.run.stop(self.members[row], reason)

    def callback_states(self, row: int) -> list[tuple[str, dict[str, Any]]]:
        """Return class and state of each of a member's callbacks."""
        return self.calls.states_of(row)

    def wanted_of(self, row: int) -> str | None:
        """Return the stop reason that was asked for one member, if any was."""
        wanted: str | None = self.run.wanted[self.members[row]]
        return wanted

    # --- the loop ---

    def loop(self) -> None:
        """Train until every member has a reason to stop."""
        training, last = None, int(self.recorded[self.active].min(initial=self.run.epochs))
        self.take_wanted()
        if self.run.rule is not None:  # a checkpoint may be from before it was asked
            waiting = (self.state.members["cursor"] == 0) & (self.recorded > 0)
            self.apply_rule(self.active & waiting & (self.state.members["stale_epochs"] >= self.run.rule.patience))
        self.finish(self.active & (self.recorded >= self.run.epochs), "epochs")
        self.begin_epochs(self.active)
        self.run.interrupts.deliver()
        while self.active.any():
            first, last = last, self.window_end(last)
            rates = self.rates.window(first, last)
            if training is None:  # which looks at the rows of each member: nothing has changed if Ctrl-C ends it
                training = self.call(self.part.training, self.run.fleet._core, rates)
            elif self.run.schedule is not None:
                training.set_rates(rates)
            self.open_window(first, last)
            self.window(training, first, last)
            self.begin_epochs(self.active & (self.before < last))

    def window_end(self, first: int) -> int:
        """Return the epoch of this run at whose end Python has something to do for some member."""
        rows = WINDOW_BYTES // (8 * len(self.part))
        last = min(self.run.epochs, first + max(1, min(pace.WINDOW, rows)))
        if self.run.schedule is not None:
            last = min(last, first + self.rates.most_epochs)
        if self.measures.names or self.measured is not None:
            return first + 1
        return self.calls.first_due(first, last, self.first_epoch[self.active])

    def open_window(self, first: int, last: int) -> None:
        """Make room for the losses of a window."""
        self.first, self.before = first, self.recorded
        if self.measured is not None:
            self.measured[...] = self.state.parameters
        row, history = int(self.start_row.max()), self.history
        history.room(self.run.names, row + last, row + self.run.epochs)
        for name in ("loss", "val_loss") if self.part.validation is not None else ("loss",):
            if self.writes_history:
                self.losses[name] = history.window(name, row + first, row + last)
            else:
                self.losses[name] = np.full((last - first, len(self.part)), np.nan)

    def window(self, training: Any, first: int, last: int) -> None:
        """Let the core train to the end of a window."""
        finished = False
        while not finished or (self.active & (self.recorded < last)).any():
            try:
                finished = training.run(
                    first, last, pace.SLICE_SECONDS, self.losses["loss"], self.losses.get("val_loss")
                )
            finally:  # what a loss of the user's raises takes no epoch away
                self.settle(last)
            self.run.show(time.perf_counter())
            self.run.interrupts.deliver()
            self.take_wanted()

    def settle(self, last: int) -> None:
        """Do what a call of the core has left to do, before anything may interrupt."""
        before = self.recorded
        # Records are far apart in memory: thousands of members are looked at as few times as can be.
        status = self.state.members["status"].copy()
        early = status == DIVERGING
        self.state.members["status"][early] = DIVERGED
        diverged = self.active & (early | (status == DIVERGED))
        self.record(diverged)
        arrived = self.active & ~diverged & (before < self.recorded) & (self.recorded == last)
        self.keep_measured(arrived)
        with ExitStack() as steps:  # the last one in is the first one out, even where another has raised
            if diverged.any():
                steps.callback(self.recover_all, np.flatnonzero(diverged), early)
            if last == self.run.epochs:
                steps.callback(self.finish, arrived, "epochs")
            steps.callback(self.take_wanted)
            if self.run.rule is not None:
                steps.callback(self.apply_rule, self.active & (status == TOLERANCE))
            if arrived.any():
                self.calls.end_epochs(np.flatnonzero(arrived))

    def measured_of(self, row: int) -> RealArray | None:
        """Return what `model.run.Run.measured` is of one member."""
        return self.measured[row] if self.measured is not None and self.in_one_step[row] else None

    def evaluated_of(self, row: int) -> RealArray:
        """Return what `model.run.Run.evaluated` is of one member."""
        return self.part.evaluated(row)

    def keep_measured(self, arrived: NDArray[np.bool_]) -> None:
        """Put parameters from before the step of a full batch in the place of those that the core has kept after it."""
        if self.measured is not None and self.keeps_loss:
            members = self.state.members
            rows = np.flatnonzero(arrived & self.in_one_step & (members["best_epoch"] == members["epoch"]))
            self.state.best_parameters[rows] = self.measured[rows]

    def begin_epochs(self, due: NDArray[np.bool_]) -> None:
        """Call what is due before the next epoch."""
        self.calls.begin_epochs(due)
        self.take_wanted()

    # --- what a call of the core leaves to do ---

    def record(self, diverged: NDArray[np.bool_]) -> None:
        """Enter what the core has done into the history, epochs that have diverged included."""
        members, start = self.state.members, self.recorded
        done = members["epoch"] - self.first_epoch
        if diverged.any():
            done[diverged] = members["diverged_epoch"][diverged] - self.first_epoch[diverged]
        new = np.maximum(0, done - start)
        new[~self.active] = 0
        if new.any():
            if self.records_rate or not self.writes_history:
                for rows, epochs in _pairs(start, new):
                    where = self.start_row[rows] + epochs, self.members[rows]
                    if not self.writes_history:
                        for name, values in self.losses.items():
                            self.history.put(name, *where, values[epochs - self.first, rows])
                    if self.records_rate:
                        self.history.put("learning_rate", *where, self.rates.of_epochs(rows, epochs))
            self.recorded = start + new
            self.history.epochs[self.places] = self.start_row + self.recorded
            self.run.done[self.places] = np.where(self.active, self.recorded, self.run.epochs)

    def apply_rule(self, due: NDArray[np.bool_]) -> None:
        """Do what the stop rule wants for members that the core has found to be without progress."""
        rows = np.flatnonzero(due)
        if not len(rows):
            return
        if not self.calls.in_arrays:
            for_each(rows, self.calls.call_rule)
            return
        rates = self.part.base_rates[rows]
        if self.records_rate:
            at = self.start_row[rows] + self.recorded[rows] - 1
            rates = self.history["learning_rate"][at, self.members[rows]]
        self.finish(self.calls.apply_in_arrays(rows, rates), "tolerance")

    def take_wanted(self) -> None:
        """End the training of members for which that was asked."""
        if self.run.is_wanted:
            wanted, at_work = self.run.wanted[self.members], self.active & (self.state.members["status"] != DIVERGED)
            for reason in set(wanted[at_work].tolist()) - {None}:
                self.finish(at_work & (wanted == reason), reason)

    def finish(self, ended: NDArray[np.bool_], reason: str) -> None:
        """End the training of some members, unless it has ended already."""
        ended = ended & self.active
        if not ended.any():
            return
        self.active = self.active & ~ended
        status = self.state.members["status"]
        status[ended & (status == RUNNING)] = TOLERANCE
        self.history.stop_reason[self.members[ended]] = reason
        self.run.done[self.members[ended]] = self.run.epochs

    def recover_all(self, rows: NDArray[np.int64], early: NDArray[np.bool_]) -> None:
        """Bring members that have diverged to their last finite parameters; after Ctrl-C, none of them any more.

        Nor those that were stopped `early`, in the middle of the epoch: to find the step could take long.
        """
        is_over = False

        def recover(row: int) -> None:
            nonlocal is_over
            try:
                if not is_over:
                    self.run.interrupts.deliver()
                    if early[row] and self.run.wanted[self.members[row]] is not None:
                        self.take_back(row)
                        self.take_wanted()
                    else:
                        self.recover(row)
            except BaseException as error:
                is_over = not isinstance(error, Exception)
                self.take_back(row)
                raise
            if is_over:
                self.take_back(row)

        for_each(rows, recover)

    def take_back(self, row: int) -> None:
        """Let a member that has diverged be running where the core has taken it back to."""
        record = self.state.members[row]
        back = int(record["epoch"] - record["first_epoch"])
        self.history.forget(int(self.members[row]), int(self.start_row[row]) + back)
        self.recorded[row] = back
        record["status"] = RUNNING

    def recover(self, row: int) -> None:
        """Bring a member that has diverged to its last finite parameters."""
        k = int(self.members[row])
        error, first, records = self.repetition.recover(row, self.networks.logs(row)["loss"])
        at = int(self.start_row[row]) + first - int(self.state.members["first_epoch"][row])
        for name, values in records.items():
            self.history.put(name, slice(at, at + len(values)), k, values)
        self.run.errors[k] = error
        ended = np.zeros(len(self.part), np.bool_)
        ended[row] = True
        self.finish(ended, "diverged")


def _pairs(start: NDArray[np.int64], new: NDArray[np.int64]) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Yield rows and epochs: for each row k those from start[k] on, new[k] of them, some hundred thousand at a time."""
    most = 1 << 18
    first = 0
    ends = np.cumsum(new)
    while first < len(new):
        before = int(ends[first - 1]) if first else 0
        last = max(first + 1, int(np.searchsorted(ends, before + most, side="right")))
        counts = new[first:last]
        rows = np.repeat(np.arange(first, last), counts)
        offsets = np.repeat(ends[first:last] - counts, counts)
        yield rows, start[rows] + np.arange(len(rows)) + before - offsets
        first = last
