"""Training a fleet on the workers of an executor: the fleet is cut into pieces, each of which is a fleet itself.

This process brings every member to where training begins; a worker gets some members in that state, with their rows,
goes on from there and sends them back. So what has not come back, because of Ctrl-C, can be resumed like any run that
was interrupted; and a piece that is sent twice gives the same bits twice.
"""

from __future__ import annotations

import copy
import math
import os
import pickle
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from backprop.base import checks as check
from backprop.base import executors
from backprop.base.fleet import FleetData
from backprop.base.fleet_history import FleetHistory
from backprop.learn import fleet_fit
from backprop.learn.divergence import DivergedError
from backprop.learn.fleet_divergence import FleetDivergedError
from backprop.learn.fleet_fit import Begun
from backprop.model import fleet_rows
from backprop.model.fleet import FleetModel, Group
from backprop.model.fleet_parts import part_of

if TYPE_CHECKING:
    from concurrent.futures import Executor

PIECES_PER_WORKER = 4
"""More pieces balance the load better, and less is lost with a worker; but each has its way there and back."""
LANES = 16
"""A piece has a multiple of so many members where that leaves no worker without one: networks in full vectors"""
MOST_BYTES = 8 << 20
"""What the members of a piece have of their own, where they are several, at most"""

_PER_MEMBER = ("learning_rate", "l1", "l2", "dropout")
_FOUND = ("best", "best_epoch", "n_averaged", "swapped")  # of callbacks, as arrays with a number for each member

_interrupted: deque[str] = deque(maxlen=16)
"""Runs of which Ctrl-C has ended a piece in this worker: pieces that have come already are not begun any more."""


def fit(fleet: FleetModel, X: Any, y: Any, executor: Any, arguments: Mapping[str, Any]) -> FleetHistory:
    """Train a fleet on an executor; `backprop.Fleet.fit` documents the arguments."""
    once = {name: list(arguments[name]) for name in ("callbacks", "metrics") if isinstance(arguments[name], Iterator)}
    arguments = {**arguments, **once}
    run = PiecesRun(fleet, executors.checked("executor", executor), arguments)
    return fleet_fit.fit(fleet, X, y, elsewhere=run.train, **arguments)


@dataclass(slots=True, eq=False)
class Piece:
    """Some members of one shape, on their way to a worker."""

    run: str
    """the same for all pieces of a call of `fit`, and for no others"""
    fleet: FleetModel
    group: int
    rows: NDArray[np.int64]
    """in the group that they are from"""
    members: NDArray[np.int64]
    """their places in the fleet that they are from"""
    X: Any
    y: Any
    arguments: dict[str, Any]

    def __dask_tokenize__(self) -> str:
        """Tell Dask that no two pieces are the same: it need not look into them, nor keep results for another time."""
        return f"{self.run} {self.members[0]} {time.time_ns()}"


@dataclass(slots=True, eq=False)
class Trained:
    """The same members on their way back."""

    piece: Piece
    """without rows"""
    errors: dict[int, DivergedError] = field(default_factory=dict)
    """of those that diverged, by their places in the fleet that they are from"""
    found: list[dict[str, NDArray[Any]]] = field(default_factory=list)
    """what each callback has found"""


def train(piece: Piece) -> Trained:
    """Train a piece. This is what a worker does."""
    if piece.run in _interrupted:
        raise KeyboardInterrupt
    fleet, members = piece.fleet, piece.members
    fleet._numbers = members
    callbacks = [copy.copy(each) for each in piece.arguments["callbacks"]]  # in a thread, others have the same ones
    arguments = {**piece.arguments, "callbacks": callbacks}
    trained = Trained(replace(piece, X=None, y=None, arguments={}))
    try:
        fleet_fit.fit(fleet, piece.X, piece.y, **arguments)
    except FleetDivergedError as error:
        trained.errors = {int(members[k]): each for k, each in error.errors.items()}
    except KeyboardInterrupt:
        _interrupted.append(piece.run)
        raise
    for each in callbacks:
        attributes = {name: vars(each).get(name) for name in _FOUND}
        trained.found.append({name: value for name, value in attributes.items() if isinstance(value, np.ndarray)})
    return trained


class PiecesRun:
    """A `fit` whose members are trained by the workers of an executor."""

    def __init__(self, fleet: FleetModel, executor: Executor, arguments: Mapping[str, Any]) -> None:
        self.fleet, self.executor, self.name = fleet, executor, os.urandom(8).hex()
        n_threads = arguments["n_threads"]
        self.arguments = {
            **arguments,
            "n_threads": 1 if isinstance(n_threads, str) else n_threads,
            "on_divergence": "raise",
            "progress": False,
            "validation_split": 0.0,  # the rows have been split
            "initial_epoch": None,
            "resume": True,
        }
        self.errors: dict[int, DivergedError] = {}
        self.n_done, self.loss = 0, math.nan
        self.wanted: str | None = None

    def stop(self, members: Any, reason: str) -> None:
        """End the training of all members that have not come back."""
        if members is not None:
            raise ValueError("members: needs None with an executor, whose workers cannot be asked to stop some of them")
        self.wanted = reason

    def note_state(self) -> None:
        """Do nothing: what has come back is in its place."""

    def train(self, begun: Begun) -> dict[int, DivergedError]:
        """Train all members that have something to do; return the errors of those that diverged."""
        fleet, history, start = self.fleet, self.fleet.history, time.perf_counter()
        self.begun = begun
        self.n_done = len(fleet) - int(begun.active.sum())
        history.stop_reason[begun.active & ~begun.ending] = "interrupted"
        fleet._run = self
        begun.bar.begin(len(fleet), "member")
        try:
            executors.run(self.executor, train, self.pieces(), self.take, self.pause, self.train_here)
        except _Stopped:
            history.stop_reason[begun.active & (history.stop_reason == "interrupted")] = self.wanted
        except (AttributeError, TypeError, pickle.PicklingError) as error:
            # Dask says "serialize", Python 3.13 "Can't get local object".
            if not any(words in str(error) for words in ("pickle", "serialize", "local object")):
                raise
            name, value = next(unpicklable(self.arguments), ("executor", self.executor))
            wanted = "what the executor can pickle: of functions and classes those that a module has by name"
            raise TypeError(f"{name}: needs {wanted}, got {check.shown(value)} ({error})") from error
        finally:
            fleet._run = None
            history.elapsed += time.perf_counter() - start
            begun.bar.close(self.n_done, self.loss)
        return self.errors

    def train_here(self, function: Callable[[Piece], Trained], piece: Piece) -> Trained:
        """Train what was lost with a worker from its beginning: one in this process may have trained the piece."""
        trained: Trained = self.begun.interrupts.call(function, self.piece(piece.group, piece.rows))
        return trained

    def pause(self) -> None:
        """Look at what others want, many times in a second."""
        self.begun.interrupts.deliver()
        if self.wanted is not None:
            raise _Stopped
        self.begun.bar.show(self.n_done, self.loss)

    # --- to the workers ---

    def pieces(self) -> Iterator[Piece]:
        """Cut the fleet into pieces."""
        n_workers = executors.n_workers(self.executor)
        for g, (group, data, validation) in enumerate(self.begun.groups):
            rows = np.flatnonzero(self.begun.active[group.members])
            size = piece_size(len(rows), n_workers, _bytes_per_member(group, data, validation))
            for first in range(0, len(rows), size):
                yield self.piece(g, rows[first : first + size])

    def piece(self, g: int, rows: NDArray[np.int64]) -> Piece:
        """Return some members of a group, with their rows and what they are trained with."""
        group, data, validation = self.begun.groups[g]
        members = group.members[rows]
        fleet = part_of(self.fleet, members)
        loss = self.arguments.get("loss")
        X, y, weight = _given(data.part(rows), group, loss)
        arguments = {**self.arguments, "sample_weight": weight}
        if validation is not None:
            arguments["validation_data"] = _given(validation.part(rows), group, loss)
        for name in _PER_MEMBER:
            value = arguments.get(name)
            if value is not None and np.ndim(value) == 1:
                arguments[name] = np.asarray(value)[members]
        optimizer = arguments.get("optimizer")
        if isinstance(optimizer, Sequence) and not isinstance(optimizer, str):
            arguments["optimizer"] = [optimizer[k] for k in members]
        return Piece(self.name, fleet, g, rows, members, X, y, arguments)

    # --- and back ---

    def take(self, trained: Trained) -> None:
        """Put members that have come back in their places."""
        piece = trained.piece
        self.take_state(piece)
        self.take_history(piece)
        self.take_callbacks(piece, trained.found)
        self.errors.update(trained.errors)
        self.n_done += len(piece.members)

    def take_state(self, piece: Piece) -> None:
        """Take over parameters and training state."""
        whole, rows = self.fleet._groups[piece.group], piece.rows
        (own,) = piece.fleet._groups
        assert whole.state is not None
        assert own.state is not None
        whole.state.take(rows, own.state)

    def take_history(self, piece: Piece) -> None:
        """Take over what was recorded."""
        history, own, members = self.fleet.history, piece.fleet.history, piece.members
        n_epochs = len(own.loss)
        history.room(list(own), n_epochs)
        for name, array in own.items():
            history.put(name, slice(n_epochs), members, array)
        history.epochs[members], history.stop_reason[members] = own.epochs, own.stop_reason
        last = own.loss[own.epochs - 1, np.arange(len(members))] if n_epochs else own.loss
        self.loss = float(last.mean()) if last.size else math.nan

    def take_callbacks(self, piece: Piece, found: Sequence[dict[str, NDArray[Any]]]) -> None:
        """Take over the states of the callbacks, and what they have found, into arrays for all members."""
        size, fleet = len(self.fleet), self.fleet
        if not fleet._callbacks:
            fleet._callbacks = [(kind, []) for kind, _ in piece.fleet._callbacks]
        for (_, whole), (_, states) in zip(fleet._callbacks, piece.fleet._callbacks, strict=False):
            if states and not whole:
                whole.extend({} for _ in range(size))
            for k, state in zip(piece.members.tolist(), states, strict=False):
                whole[k] = state
        for callback, arrays in zip(self.arguments["callbacks"], found, strict=True):
            for name, array in arrays.items():
                values = getattr(callback, name, None)
                if not (isinstance(values, np.ndarray) and len(values) == size):
                    values = np.zeros(size, array.dtype)
                    setattr(callback, name, values)
                values[piece.members] = array


class _Stopped(Exception):
    """Raised where a run was asked to stop."""


def unpicklable(arguments: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Return the arguments of which there is no pickle."""
    for name, value in arguments.items():
        try:
            pickle.dumps(value)
        except (AttributeError, TypeError, pickle.PicklingError):
            yield name, value


def piece_size(n_members: int, n_workers: int, bytes_per_member: float) -> int:
    """Return how many members a piece shall have."""
    size = -(-n_members // (PIECES_PER_WORKER * n_workers))
    size = min(-(-size // LANES) * LANES, -(-n_members // n_workers))
    return max(1, min(size, int(MOST_BYTES / max(1.0, bytes_per_member))))


def _bytes_per_member(group: Group, data: FleetData, validation: FleetData | None) -> float:
    """Return how much of what is sent belongs to one member alone."""
    n_bytes = group.parameters.nbytes + (0 if group.state is None else group.state.slots.nbytes)
    for each in (data, validation):
        if each is not None and not each.is_shared:
            n_bytes += sum(array.nbytes for array in each.X)
    return n_bytes / len(group)


def _given(data: FleetData, group: Group, loss: Any) -> tuple[Any, Any, Any]:
    """Return rows in a form in which users give them, which says without doubt whose targets they are."""
    if not data.is_shared or data.shares_targets:
        return data.X, fleet_rows.as_given(data.targets, group, loss), data.sample_weight
    members = [data.of(k) for k in range(data.size)]  # a pickle holds the rows that they share once
    weights = None if data.sample_weight is None else [each.sample_weight for each in members]
    return [each.X for each in members], fleet_rows.as_given([each.targets for each in members], group, loss), weights
