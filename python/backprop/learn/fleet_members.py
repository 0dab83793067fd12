"""Members of a fleet as networks while they train, for callbacks; and each member's own callbacks."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np

from backprop.base import random
from backprop.base.fleet import STATE_NUMBERS
from backprop.base.fleet_history import FleetHistory
from backprop.base.types import RealArray
from backprop.learn.callbacks import Callback, overrides
from backprop.learn.fleet_part import Part
from backprop.model.fleet import FleetModel
from backprop.model.model import Model


class Training(Protocol):
    """The run of a part, as far as callbacks ask something of it."""

    def stop_member(self, row: int, reason: str) -> None:
        """End a member's training soon."""

    def callback_states(self, row: int) -> list[tuple[str, dict[str, Any]]]:
        """Return class and state of each of a member's callbacks."""

    def wanted_of(self, row: int) -> str | None:
        """Return the stop reason that was asked for one member, if any was."""

    def measured_of(self, row: int) -> RealArray | None:
        """Return what `model.run.Run.measured` is of one member."""

    def evaluated_of(self, row: int) -> RealArray:
        """Return what `model.run.Run.evaluated` is of one member."""


class MemberRun:
    """What a member's `fit` is to its network."""

    def __init__(self, training: Training, part: Part, row: int, network: Model) -> None:
        self.training, self.part, self.row, self.network = training, part, row, network

    @property
    def measured(self) -> RealArray | None:
        """The parameters that had the training loss of the epoch, where that is known."""
        return self.training.measured_of(self.row)

    def evaluated(self) -> RealArray:
        """Return the parameters of which the validation loss and the metrics are."""
        return self.training.evaluated_of(self.row)

    def stop(self, reason: str) -> None:
        """End the member's training as soon as its callbacks have been called."""
        self.training.stop_member(self.row, reason)

    def scale_learning_rate(self, factor: float) -> None:
        """Multiply the rates of all later steps."""
        self.part.state.members["rate_scale"][self.row] *= factor

    def note_callbacks(self) -> None:
        """Put the states of the callbacks where a checkpoint finds them."""
        assert self.network._state is not None
        self.network._state.callbacks = self.training.callback_states(self.row)
        self.network._state.ending = self.training.wanted_of(self.row)


class Networks:
    """The members of a part as networks, which share parameters and optimizer memory with the run."""

    def __init__(self, fleet: FleetModel, part: Part, history: FleetHistory, training: Training) -> None:
        self.fleet, self.part, self.history, self.training = fleet, part, history, training
        self.found: dict[int, Model] = {}

    def of(self, row: int) -> Model:
        """Return a member as it is now."""
        network = self.found.get(row)
        if network is None:
            network = self.found[row] = self.new(row)
            network._run = MemberRun(self.training, self.part, row, network)
        self.refresh(network, row)
        return network

    def new(self, row: int) -> Model:
        """Return a member with its state, without history."""
        part = self.part
        network = self.fleet._member(int(part.members[row]), part.layers[row % len(part.layers)])
        network._parameters = part.state.parameters[row]
        network._state = part.state.of(row, part.n_shuffled_of(row))
        network._state.parameters = network._parameters
        network._optimizer = replace(part.optimizer_of(row), learning_rate=float(part.base_rates[row]))
        return network

    def refresh(self, network: Model, row: int) -> None:
        """Bring state and history of a member up to date."""
        record, state, k = self.part.state.members[row], network._state, int(self.part.members[row])
        assert state is not None
        if record["cursor"]:  # the order of the rows counts
            network._state = self.part.state.of(row, self.part.n_shuffled_of(row))
            network._state.parameters = network._parameters
        else:
            for name in STATE_NUMBERS:
                setattr(state, name, record[name].item())
            random.set_words(state.bit_generator, record["random"])
            state.swapped = len(state.average) > 0 and bool(self.part.state.is_swapped[row])
        have, n_epochs = network.history.epochs, int(self.history.epochs[k])
        if n_epochs > have:
            network.history.extend(n_epochs - have, self.history.columns(k, have, n_epochs))
        network.history.stop_reason, network.history.elapsed = self.history.stop_reason[k], self.history.elapsed

    def logs(self, row: int) -> dict[str, float]:
        """Return what the last epoch of a member recorded; nothing before its first."""
        k = int(self.part.members[row])
        n_epochs = int(self.history.epochs[k])
        return self.history.at(k, n_epochs - 1) if n_epochs else {}


class MemberCallbacks:
    """A callback of the user's, and its copies for the members of a part.

    The one whose stop rule the core applies is not told of the ends of epochs.
    """

    def __init__(self, given: Callback, members: Sequence[int], in_core: bool) -> None:
        self.given, self.every, self.in_core = given, min(given.every, sys.maxsize), in_core
        self.called = {
            name for name in ("on_train_begin", "on_train_end", "on_epoch_begin", "on_epoch_end")
            if overrides(given, name) and not (in_core and name == "on_epoch_end")
        }  # fmt: skip
        self.copies = [given.of_member(k) for k in members] if self.called or in_core else []

    def state_of(self, row: int) -> dict[str, Any]:
        """Return what a checkpoint must keep of one member's copy."""
        return self.copies[row].state() if self.copies else {}

    def states(self) -> list[dict[str, Any]]:
        """Return what a checkpoint must keep of each member's copy."""
        return [each.state() for each in self.copies]

    def resume(self, states: Sequence[dict[str, Any]]) -> None:
        """Give the copies back what they had; those that are new have none."""
        for each, state in zip(self.copies, states, strict=False):
            if state:
                each.resume(state)

    def report(self, members: np.ndarray[Any, Any], size: int) -> None:
        """Let the user's own object have arrays of what a plateau's copies have found."""
        report(self.given, self.copies, members, size)


def report(given: Any, copies: Sequence[Any], members: Any, size: int, *, anew: bool = False) -> None:
    """Let a callback of the user's have arrays, (size,), of what its copies for some members have found.

    The others keep what is there; `anew`, or where there is nothing, they have found nothing.
    """
    for name in ("best", "best_epoch"):
        if copies and hasattr(copies[0], name):
            values = getattr(given, name, None)
            if anew or not (isinstance(values, np.ndarray) and len(values) == size):
                values = np.full(size, copies[0].sign * math.inf if name == "best" else 0)
            values[members] = [getattr(each, name) for each in copies]
            setattr(given, name, values)
