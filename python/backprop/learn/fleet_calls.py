"""The callbacks of a fleet's members while it trains: which of them are called when, and what they leave."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backprop.base.fleet import RUNNING
from backprop.base.interrupts import HeldInterrupts
from backprop.learn import fleet_rule
from backprop.learn.callbacks import Callback, Plateau
from backprop.learn.callbacks.averages import WeightAveraging
from backprop.learn.callbacks.plateaus import called_by, rank, tell_all
from backprop.learn.fleet_measures import FleetMeasures
from backprop.learn.fleet_members import MemberCallbacks, Networks
from backprop.learn.fleet_part import Part
from backprop.model.fleet import FleetModel


class PartCalls:
    """The callbacks of the members of a part that have something to do, and what is measured for them."""

    def __init__(
        self,
        fleet: FleetModel,
        part: Part,
        networks: Networks,
        measures: FleetMeasures,
        callbacks: Sequence[Callback],
        rule: Plateau | None,
        averaging: WeightAveraging | None,
        interrupts: HeldInterrupts,
        starting: NDArray[np.bool_],
    ) -> None:
        self.fleet, self.part, self.networks, self.measures, self.starting = fleet, part, networks, measures, starting
        self.given, self.rule, self.averaging = callbacks, rule, averaging
        self.history, self.state, self.members, self.call = fleet.history, part.state, part.members, interrupts.call
        self.begun = False
        self.in_arrays = rule is not None and fleet_rule.acts_in_arrays(rule)
        self.callbacks: list[tuple[int, MemberCallbacks]] = []
        self.by_rule: MemberCallbacks | None = None
        numbers = self.members if fleet._numbers is None else fleet._numbers[self.members]
        for c, each in enumerate(callbacks):
            if each is rule and self.in_arrays:
                continue
            own = self.call(MemberCallbacks, each, numbers.tolist(), each is rule)
            if each is rule:
                self.by_rule = own
            self.callbacks.append((c, own))
        self.told = sorted((own for _, own in self.callbacks), key=lambda own: rank(own.given))

    def states_of(self, row: int) -> list[tuple[str, dict[str, Any]]]:
        """Return class and state of each of a member's callbacks."""
        states = {c: (type(own.given).__name__, own.state_of(row)) for c, own in self.callbacks}
        for c, each in enumerate(self.given):
            if c not in states:
                assert isinstance(each, Plateau)
                states[c] = (type(each).__name__, fleet_rule.of_member(each, self.state, row).state())
        return [states[c] for c in range(len(states))]

    def first_due(self, first: int, last: int, first_epochs: NDArray[np.int64]) -> int:
        """Return the epoch of this run, at most the last, at whose end some member has a callback due.

        `first_epochs` are those of the members that train.
        """
        for _, callback in self.callbacks:
            if callback.called & {"on_epoch_begin", "on_epoch_end"}:
                every = callback.every
                phases = np.unique(first_epochs % every)
                last = min(last, min(((int(phase) + first) // every + 1) * every - int(phase) for phase in phases))
        return last

    # --- the beginning ---

    def begin(self) -> None:
        """Tell the callbacks that training begins."""
        kept = self.fleet._callbacks
        for c, callback in self.callbacks:
            for row in np.flatnonzero(self.starting).tolist() if "on_train_begin" in callback.called else ():
                self.tell(callback.copies[row], "on_train_begin", row, {})
            if c < len(kept) and kept[c][1] and kept[c][0] == type(callback.given).__name__:
                callback.resume([kept[c][1][k] for k in self.members.tolist()])
        if len(self.state.averaged):  # those that are resumed go on from the parameters of their last step
            self.state.swap(np.flatnonzero(self.starting & self.state.is_swapped))
        self.begun = True

    def tell(self, callback: Callback, name: str, row: int, *arguments: Any) -> None:
        """Call a method of a member's callback; Ctrl-C may interrupt it, unless it is ours."""
        called_by(self.call, callback, name)(self.networks.of(row), *arguments)

    # --- epochs ---

    def begin_epochs(self, due: NDArray[np.bool_]) -> None:
        """Call what is due before the next epoch."""
        epochs = self.state.members["epoch"]
        for _, callback in self.callbacks:
            if "on_epoch_begin" in callback.called:
                for row in np.flatnonzero(due & (epochs % callback.every == 0)).tolist():
                    logs = self.networks.logs(row)
                    self.tell(callback.copies[row], "on_epoch_begin", row, int(epochs[row]) + 1, logs)

    def end_epochs(self, rows: NDArray[np.int64]) -> None:
        """Measure and call what is due after some members' epochs; what one raises takes nothing from the others."""
        epochs = self.state.members["epoch"][rows]
        due = np.zeros(len(rows), np.bool_) if not self.measures.names else np.ones(len(rows), np.bool_)
        for _, callback in self.callbacks:
            if "on_epoch_end" in callback.called:
                due |= epochs % callback.every == 0
        for_each(rows[due], self.end_epoch)

    def end_epoch(self, row: int) -> None:
        """Measure a member and call what is due after its epoch."""
        epoch, error = int(self.state.members["epoch"][row]), None
        try:
            if self.measures.names:
                at = self.history.epochs[self.members[row]] - 1
                for name, value in self.call(self.measures, row, self.part.evaluated(row)).items():
                    self.history.put(name, at, self.members[row], value)
        except BaseException as raised:
            error = raised
        due = [own for own in self.told if "on_epoch_end" in own.called and epoch % own.every == 0]
        if due:
            calls = [(own.copies[row], called_by(self.call, own.copies[row], "on_epoch_end")) for own in due]
            error = tell_all(calls, self.networks.of(row), epoch, self.networks.logs(row), error)
        if error is not None:
            raise error

    # --- the stop rule ---

    def apply_in_arrays(self, rows: NDArray[np.int64], rates: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Do what the stop rule wants for members without progress, which have these rates; which members it ends."""
        assert self.rule is not None
        stops = fleet_rule.stopped_by(self.rule, self.state, rows, rates)
        self.state.members["status"][rows[~stops]] = RUNNING
        ended = np.zeros(len(self.part), np.bool_)
        ended[rows[stops]] = True
        return ended

    def call_rule(self, row: int) -> None:
        """Let a rule of the user's own do what it does where a member makes no progress."""
        assert self.by_rule is not None
        own: Any = self.by_rule.copies[row]
        fleet_rule.report(own, self.state, row)
        own.stale_epochs = 0
        self.state.members["status"][row] = RUNNING
        try:
            self.tell(own, "on_plateau", row, int(self.state.members["epoch"][row]), self.networks.logs(row))
        finally:
            self.state.members["stale_epochs"][row] = own.stale_epochs

    # --- the end ---

    def end(self) -> None:
        """Tell the callbacks that training has ended, in the opposite order, and restore the best parameters."""
        self.end_averages()
        of_callback = dict(self.callbacks)
        with ExitStack() as ends:
            for c in sorted(range(len(self.given)), key=lambda c: not self.given[c].writes_checkpoints):
                if c in of_callback:
                    ends.callback(self.end_callback, of_callback[c], ends)
                else:
                    ends.callback(self.end_rule)
        for network in self.networks.found.values():
            network._run = None

    def end_averages(self) -> None:
        """Give members their averages, unless they were interrupted or have diverged, and tell what was averaged."""
        averaging, state, size = self.averaging, self.state, len(self.fleet)
        if averaging is None:
            return
        counts, reasons = self.part.n_averaged(), self.history.stop_reason[self.members]
        if averaging.restore:
            ended = self.starting & (reasons != "interrupted") & (reasons != "diverged")
            state.swap(np.flatnonzero(ended & (counts > 0) & ~state.is_swapped))
        own: Any = averaging
        for name, values in (("n_averaged", counts), ("swapped", state.is_swapped)):
            found = getattr(own, name)
            if not (isinstance(found, np.ndarray) and len(found) == size):
                found = np.zeros(size, values.dtype)
                setattr(own, name, found)
            found[self.members] = values

    def end_rule(self) -> None:
        """Restore the best parameters of members that were not interrupted, and tell what was best."""
        state, rule = self.state, self.rule
        assert rule is not None
        if rule.keeps_best:
            ended = self.starting & (self.history.stop_reason[self.members] != "interrupted")
            rows = np.flatnonzero(ended & (state.members["best_epoch"] > 0))
            state.parameters[rows] = state.best_parameters[rows]
        fleet_rule.report_all(rule, state, self.members, len(self.fleet))

    def end_callback(self, callback: MemberCallbacks, ends: ExitStack) -> None:
        """Tell each member's copy that training has ended."""
        if callback is self.by_rule:
            for row, own in enumerate(callback.copies):
                assert isinstance(own, Plateau)
                fleet_rule.report(own, self.state, row)
        callback.report(self.members, len(self.fleet))
        for row in np.flatnonzero(self.starting).tolist() if "on_train_end" in callback.called else ():
            ends.callback(self.end_member, callback.copies[row], row)

    def end_member(self, own: Callback, row: int) -> None:
        """Tell one member's copy of a callback that training has ended."""
        self.tell(own, "on_train_end", row, self.networks.logs(row))


def for_each(rows: NDArray[np.int64], function: Callable[[int], None]) -> None:
    """Call a function for each row, for those after one that raises too; raise the first exception at the end."""
    first: BaseException | None = None
    for row in rows.tolist():
        try:
            function(row)
        except BaseException as error:
            first = first or error
    if first is not None:
        raise first
