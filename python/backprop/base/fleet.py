"""What a fleet of networks of one shape is trained on, and what its training changes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from backprop.base import random
from backprop.base.state import TrainingState
from backprop.base.types import Data, RealArray

MEMBER = np.dtype(
    [
        ("random", np.uint64, (4,)),  # PCG64: state and increment, the upper half of each first
        ("epoch_random", np.uint64, (2,)),  # the state at the start of the epoch, from which its order of rows follows
        ("step", np.int64),
        ("epoch", np.int64),
        ("cursor", np.int64),
        ("loss_sum", np.float64),
        ("weight_sum", np.float64),
        ("best_loss", np.float64),
        ("best_epoch", np.int64),
        ("stale_epochs", np.int64),
        ("first_epoch", np.int64),
        ("rate_scale", np.float64),
        ("status", np.int64),  # a `Status`
        ("diverged_epoch", np.int64),  # the value of `epoch` at the end of the epoch that diverged
        ("position", np.int64),  # of the next step in the table of factors on the learning rate
    ]
)
"""The numbers of `TrainingState`, one record for each member. The compiled cores know them as a C struct."""

STATE_NUMBERS = (
    "step", "epoch", "cursor", "loss_sum", "weight_sum", "best_loss", "best_epoch", "stale_epochs", "first_epoch",
    "rate_scale",
)  # fmt: skip
"""Those of `MEMBER` that `TrainingState` has by the same names."""

NO_AVERAGE, AVERAGED, SWAPPED = 0, 1, 2
"""Of a member: whether it has an average, and whether it has exchanged it with the parameters of the last step"""

RUNNING, TOLERANCE, DIVERGED, DIVERGING, ENDING = 0, 1, 2, 3, 4
Status: TypeAlias = Literal[0, 1, 2, 3, 4]
"""Whether a member trains on, and if not, why; one that is not finite in the middle of an epoch is diverging; in a
checkpoint, ending is one of whose end callbacks have not heard"""


class FleetData:
    """Rows for each member of a fleet: checked, C-contiguous, of the fleet's dtype.

    Parameters
    ----------
    size
        The number of members.
    X
        The same rows for all members (n, n_inputs); as many for each, (size, n, n_inputs); or any number for each, a
        sequence of `size` arrays (n_k, n_inputs).
    targets
        In the same form: (n, n_outputs) or (n,) labels for all; with one more axis in front; or a sequence of arrays.
    sample_weight
        In the same form, (n,) for all; or None.
    """

    __slots__ = ("X", "n_rows", "sample_weight", "size", "targets")

    def __init__(self, size: int, X: Any, targets: Any, sample_weight: Any = None) -> None:
        self.size, self.X, self.targets, self.sample_weight = size, X, targets, sample_weight
        self.n_rows: NDArray[np.int64]
        """(size,)"""
        if isinstance(X, np.ndarray):
            self.n_rows = np.broadcast_to(np.int64(X.shape[-2]), (size,))
        else:
            self.n_rows = np.fromiter(map(len, X), np.int64, size)

    @property
    def is_shared(self) -> bool:
        """Whether all members have the same rows."""
        return isinstance(self.X, np.ndarray) and self.X.ndim == 2

    @property
    def has_labels(self) -> bool:
        """Whether targets are class labels."""
        first = self.targets if isinstance(self.targets, np.ndarray) else self.targets[0]
        return bool(first.dtype.kind == "i")

    @property
    def shares_targets(self) -> bool:
        """Whether all members have the same targets; those of shared rows may be each member's own."""
        n_axes = 1 if self.has_labels else 2
        return self.is_shared and isinstance(self.targets, np.ndarray) and self.targets.ndim == n_axes

    @property
    def shares_weight(self) -> bool:
        """Whether all members have the same weights."""
        return self.is_shared and isinstance(self.sample_weight, np.ndarray) and self.sample_weight.ndim == 1

    def of(self, k: int) -> Data:
        """Return the rows of member k."""
        weight = self.sample_weight
        if weight is not None and not self.shares_weight:
            weight = weight[k]
        return Data(self.X if self.is_shared else self.X[k], self.targets_of(k), weight)

    def targets_of(self, k: int) -> Any:
        """Return the targets of member k."""
        return self.targets if self.shares_targets else self.targets[k]

    def part(self, members: NDArray[np.int64]) -> FleetData:
        """Return the rows of some members, without copying rows that they share."""

        def some(arrays: Any, shared: bool) -> Any:
            if arrays is None or shared:
                return arrays
            return arrays[members] if isinstance(arrays, np.ndarray) else [arrays[k] for k in members]

        X, targets = some(self.X, self.is_shared), some(self.targets, self.shares_targets)
        return FleetData(len(members), X, targets, some(self.sample_weight, self.shares_weight))


def addresses(arrays: Any, size: int, n_axes: int) -> NDArray[np.uintp]:
    """Return where each member's array begins, (size,): of one array with `n_axes` axes for all, or one for each."""
    if arrays is None:
        return np.zeros(size, np.uintp)
    if isinstance(arrays, np.ndarray):
        first, step = arrays.__array_interface__["data"][0], 0 if arrays.ndim == n_axes else arrays.strides[0]
        return np.uintp(first) + np.uintp(step) * np.arange(size, dtype=np.uintp)
    return np.fromiter((array.__array_interface__["data"][0] for array in arrays), np.uintp, size)


@dataclass(slots=True)
class FleetState:
    """Everything that training a fleet changes: `TrainingState` for all of its members."""

    parameters: RealArray
    """(size, n_parameters)"""
    slots: RealArray
    """(size, n_slots, n_parameters): what the optimizer remembers"""
    members: NDArray[Any]
    """(size,) of `MEMBER`"""
    best_parameters: RealArray
    """(size, n_parameters) where `TrainingSettings.keep_best` is set, else (0, n_parameters)"""
    average: RealArray = field(default_factory=lambda: np.empty((0, 0)))
    """(size, n_parameters) where `TrainingSettings.average` is set, else empty"""
    averaged: NDArray[np.int8] = field(default_factory=lambda: np.empty(0, np.int8))
    """(size,) likewise: NO_AVERAGE, AVERAGED or SWAPPED"""

    def __len__(self) -> int:
        return len(self.members)

    def of(self, k: int, n_shuffled: int) -> TrainingState:
        """Return the state of member k, its arrays being views of the fleet's.

        n_shuffled: the number of rows that are taken in random order, 0 where they are not.
        """
        member = self.members[k]
        state = TrainingState(
            self.parameters[k],
            self.slots[k],
            random.bit_generator(member["random"]),
            permutation=np.arange(n_shuffled, dtype=np.int64),
            **{name: member[name].item() for name in STATE_NUMBERS},
        )
        if n_shuffled and state.cursor:
            start = random.bit_generator(np.concatenate([member["epoch_random"], member["random"][2:]]))
            state.permutation = random.shuffled(n_shuffled, start)
        if len(self.best_parameters):
            state.best_parameters = self.best_parameters[k]
        if len(self.average) and self.averaged[k] != NO_AVERAGE:
            state.average, state.swapped = self.average[k], bool(self.averaged[k] == SWAPPED)
        return state

    def put(self, k: int, state: TrainingState, epoch_random: Sequence[int] | None) -> None:
        """Take over the state of member k, whose arrays may be views of the fleet's.

        epoch_random: the first two of `random.words` at the start of its epoch; None where it is at one.
        """
        member = self.members[k]
        numbers = random.words(state.bit_generator)
        member["random"], member["epoch_random"] = numbers, numbers[:2] if epoch_random is None else epoch_random
        for name in STATE_NUMBERS:
            member[name] = getattr(state, name)
        for own, its in ((self.parameters, state.parameters), (self.slots, state.slots)):
            if not np.shares_memory(own[k], its):
                own[k] = its
        if len(self.best_parameters) and len(state.best_parameters):
            self.best_parameters[k] = state.best_parameters
        if len(self.average) and len(state.average):
            self.averaged[k] = SWAPPED if state.swapped else AVERAGED
            if not np.shares_memory(self.average[k], state.average):
                self.average[k] = state.average

    @property
    def is_swapped(self) -> NDArray[np.bool_]:
        """Which members have their average, (size,), and in `average` the parameters of the last step."""
        swapped: NDArray[np.bool_] = self.averaged == SWAPPED
        return swapped

    def swap(self, rows: NDArray[np.int64]) -> None:
        """Let some members, which have an average, exchange it with the parameters of the last step."""
        last = self.parameters[rows]
        self.parameters[rows] = self.average[rows]
        self.average[rows] = last
        self.averaged[rows] = AVERAGED + SWAPPED - self.averaged[rows]

    def part(self, index: Any) -> FleetState:
        """Return copies of some members, by a slice or an array of rows."""
        arrays = (getattr(self, each.name) for each in fields(self))
        copies: list[Any] = [array[index].copy() if len(array) else array for array in arrays]
        return FleetState(*copies)

    def take(self, rows: NDArray[np.int64], part: FleetState) -> None:
        """Put some members back, whose optimizer may remember less than that of others."""
        self.parameters[rows] = part.parameters
        self.slots[rows, : part.slots.shape[1]] = part.slots
        self.members[rows] = part.members
        for own, its in (
            (self.best_parameters, part.best_parameters),
            (self.average, part.average),
            (self.averaged, part.averaged),
        ):
            if len(its):
                own[rows] = its


class FleetRates(NamedTuple):
    """The learning rates of a fleet: the next step of member k takes ``base[k] * rate_scale[k] * factor``.

    The factor is ``tables[table_of[k]][position[k]]``, the last one of the table from there on, and 1 where there are
    no tables; `rate_scale` and `position` are those of `MEMBER`.
    """

    base: NDArray[np.float64]
    """(size,)"""
    tables: Sequence[NDArray[np.float64]] = ()
    table_of: NDArray[np.int64] | None = None
    """(size,)"""
