"""What training has done so far, for each member of a fleet."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backprop.base.frames import frame
from backprop.base.history import History, recorded

MOST_EXPECTED = 1 << 26
"""Numbers of one name for which room is made ahead of time, at most; memory that is never written to costs nothing."""


class FleetHistory(Mapping[str, NDArray[np.float64]]):
    """The record of all epochs of a fleet, over all calls of `fit`: `History` for each member.

    A mapping from names to one number per epoch and member: ``history["loss"]``, shape (epochs, size), float64,
    read-only, with NaN after a member's last epoch. The names are those of `History`.

    Attributes
    ----------
    epochs : ndarray of int64
        Number of epochs recorded, (size,).
    stop_reason : ndarray of object
        Why each member's last training ended, (size,): as in `History`.
    elapsed : float
        Seconds spent in training the fleet, over all calls.

    Examples
    --------
    >>> import backprop as bp
    >>> fleet = bp.Fleet(1, [bp.Dense(1)], size=3, seed=0)
    >>> history = fleet.fit([[0.0], [1.0]], [1.0, 3.0], epochs=5)
    >>> history["loss"].shape, history.epochs, history.stop_reason[0]
    ((5, 3), array([5, 5, 5]), 'epochs')
    >>> history.of(1)["loss"].shape
    (5,)
    """

    def __init__(self, size: int) -> None:
        self.epochs = np.zeros(size, np.int64)
        self.stop_reason = np.full(size, None, object)
        self.elapsed = 0.0
        self._filled = 0
        # Each array has room to grow: its first `_filled` rows are NaN or recorded.
        self._arrays: dict[str, NDArray[np.float64]] = {"loss": np.empty((0, size))}

    @property
    def loss(self) -> NDArray[np.float64]:
        """The loss of each epoch, (epochs, size)."""
        return self["loss"]

    def room(self, names: Sequence[str], n_epochs: int, expected: int = 0) -> None:
        """Make room for these names and so many epochs in all, of which `expected` tells more than is needed now."""
        size = len(self.epochs)
        filled = max(n_epochs, self._filled)
        expected = min(expected, MOST_EXPECTED // max(size, 1))
        for name in (*self._arrays, *(name for name in names if name not in self._arrays)):
            array = self._arrays.get(name)
            have = 0 if array is None else self._filled
            if array is None or filled > len(array):
                grown = np.empty((max(filled, expected, 2 * have if array is not None else 0), size))
                if array is not None:
                    grown[:have] = array[:have]
                self._arrays[name] = array = grown
            array[have:filled] = np.nan
        self._filled = filled

    def put(self, name: str, rows: Any, members: Any, values: Any) -> None:
        """Enter numbers of epochs for which there is room."""
        self._arrays[name][rows, members] = values

    def window(self, name: str, first: int, last: int) -> NDArray[np.float64]:
        """Return the room for some epochs, to be written into."""
        return self._arrays[name][first:last]

    def forget(self, member: int, n_epochs: int) -> None:
        """Take back what belongs to a member's epochs after the first so many."""
        for array in self._arrays.values():
            array[n_epochs : self._filled, member] = np.nan
        self.epochs[member] = n_epochs

    def of(self, member: int) -> History:
        """Return a copy of one member's history."""
        history = History()
        n_epochs = int(self.epochs[member])
        history.extend(n_epochs, self.columns(member, 0, n_epochs))
        history.stop_reason, history.elapsed = self.stop_reason[member], self.elapsed
        return history

    def columns(self, member: int, first: int, last: int) -> dict[str, NDArray[np.float64]]:
        """Return what a member's epochs from the first to before the last recorded, counted from 0, as views."""
        return {name: array[first:last, member] for name, array in self._arrays.items()}

    def at(self, member: int, epoch: int) -> dict[str, float]:
        """Return what a member's epoch recorded, counted from 0."""
        return {name: array[epoch, member].item() for name, array in self._arrays.items()}

    def part(self, members: Any) -> FleetHistory:
        """Return a copy of some members' histories, whose places an array gives."""
        part = FleetHistory(len(members))
        part.epochs, part.stop_reason, part.elapsed = self.epochs[members], self.stop_reason[members], self.elapsed
        part._filled = int(part.epochs.max(initial=0))
        # Copies have their rows together, as the core writes them; what an array picks has its columns together.
        part._arrays = {name: array[: part._filled, members].copy() for name, array in self._arrays.items()}
        return part

    @classmethod
    def joined(cls, histories: Sequence[FleetHistory | History]) -> FleetHistory:
        """Return the histories of networks and fleets side by side."""
        sizes = [1 if isinstance(each, History) else len(each.epochs) for each in histories]
        joined = cls(sum(sizes))
        names = list(dict.fromkeys(name for each in histories for name in each))
        joined.room(names, max((int(np.max(each.epochs, initial=0)) for each in histories), default=0))
        start = 0
        for each, size in zip(histories, sizes, strict=True):
            members = slice(start, start + size)
            joined.epochs[members], joined.stop_reason[members] = each.epochs, each.stop_reason
            for name, array in each.items():
                joined._arrays[name][: len(array), members] = array.reshape(-1, size)
            joined.elapsed = max(joined.elapsed, each.elapsed)
            start += size
        return joined

    def to_frame(self, backend: str = "pandas") -> Any:
        """Return a table with a row for each epoch of each member: ``"member"``, ``"epoch"`` and all that is recorded.

        Members are counted from 0, epochs from 1; the rows of a member are together. `backend` and errors are those of
        `History.to_frame`.

        Examples
        --------
        >>> import backprop as bp
        >>> fleet = bp.Fleet(1, [bp.Dense(1)], size=3, seed=0)
        >>> history = fleet.fit([[0.0], [1.0]], [1.0, 3.0], epochs=2)
        >>> history.to_frame().groupby("member")["loss"].last().shape
        (3,)
        """
        member = np.repeat(np.arange(len(self.epochs)), self.epochs)
        epoch = np.arange(len(member)) - np.repeat(np.cumsum(self.epochs) - self.epochs, self.epochs)
        values = {name: array[epoch, member] for name, array in self.items()}
        return frame({"member": member, "epoch": epoch + 1, **values}, backend)

    def __getitem__(self, name: str) -> NDArray[np.float64]:
        view = recorded(self._arrays, name)[: self.epochs.max(initial=0)]
        view.setflags(write=False)
        return view

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the room to grow."""
        filled = int(self.epochs.max(initial=0))
        arrays = {name: array[:filled].copy() for name, array in self._arrays.items()}
        return {**self.__dict__, "_filled": filled, "_arrays": arrays}

    # Two histories are the same only if they are one: comparing arrays gives arrays.
    __eq__ = object.__eq__
    __hash__ = object.__hash__

    def __repr__(self) -> str:
        size = len(self.epochs)
        if not self.epochs.any():
            return f"FleetHistory(size={size}, epochs=0)"
        low, high = int(self.epochs.min()), int(self.epochs.max())
        epochs = f"{low}" if low == high else f"{low} to {high}"
        reasons = ", ".join(f"{name}: {(self.stop_reason == name).sum()}" for name in dict.fromkeys(self.stop_reason))
        return f"FleetHistory(size={size}, epochs={epochs}, stop_reason={{{reasons}}}, elapsed={self.elapsed:.3g})"


def mean_loss(history: FleetHistory) -> float:
    """Return the mean of some members' last losses that are finite."""
    epochs = history.epochs[:1000].copy()  # other threads may enter more
    members = np.flatnonzero(epochs)
    losses = history["loss"][epochs[members] - 1, members]
    losses = losses[np.isfinite(losses)]
    return float(losses.mean()) if len(losses) else math.nan
