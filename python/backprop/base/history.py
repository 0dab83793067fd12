"""What training has done so far."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backprop.base.frames import frame

MOST_EXPECTED = 1 << 22
"""Epochs for which room is made ahead of time, at most; memory that is never written to costs nothing."""


def recorded(arrays: Mapping[str, NDArray[np.float64]], name: str) -> NDArray[np.float64]:
    """Return what was recorded under a name; KeyError says under which there is something."""
    if name not in arrays:
        raise KeyError(f"name: needs one that was recorded, {', '.join(map(repr, arrays))}; got {name!r}")
    return arrays[name]


class History(Mapping[str, NDArray[np.float64]]):
    """The record of all epochs of a network, over all calls of `fit`.

    A mapping from names to one number per epoch: ``history["loss"]``, shape (epochs,), float64, read-only. The loss of
    an epoch is the mean of the losses of its batches, each taken before its step and weighted as the loss's reduction
    weights it, penalties included.

    Beside ``"loss"`` there are, where `fit` was asked for them, ``"val_loss"``, the metrics, those of the validation
    set as ``"val_..."``, and ``"learning_rate"``: the rate of the epoch's last step. An epoch that did not record one
    of them has NaN there.

    Attributes
    ----------
    epochs : int
        Number of epochs recorded.
    stop_reason : str or None
        Why the last `fit` ended: ``"epochs"`` (all were done), ``"tolerance"`` (what was watched stopped improving),
        ``"stopped"`` (`Network.stop`), ``"diverged"`` or ``"interrupted"`` (Ctrl-C, or another exception); None before
        the first.
    elapsed : float
        Seconds spent in training, over all calls.

    Examples
    --------
    >>> import backprop as bp
    >>> net = bp.Network(1, [bp.Dense(1)], seed=0)
    >>> history = net.fit([[0.0], [1.0]], [1.0, 3.0], epochs=3)
    >>> history.epochs, history.stop_reason, history["loss"].shape
    (3, 'epochs', (3,))
    """

    def __init__(self) -> None:
        self.stop_reason: str | None = None
        self.elapsed = 0.0
        self._epochs = 0
        self._expected = 0
        # Each array has room to grow: its first `_epochs` numbers count.
        self._arrays: dict[str, NDArray[np.float64]] = {"loss": np.empty(0)}
        self._views: dict[str, NDArray[np.float64]] = {}

    @property
    def loss(self) -> NDArray[np.float64]:
        """The loss of each epoch, (epochs,)."""
        return self["loss"]

    @property
    def epochs(self) -> int:
        """How many epochs are recorded."""
        return self._epochs

    def expect(self, n_epochs: int) -> None:
        """Prepare for so many more epochs: growing arrays cost a 2-2-1 network up to 10 % of its time."""
        self._expected = self._epochs + min(n_epochs, MOST_EXPECTED)

    def extend(self, n_epochs: int, values: Mapping[str, NDArray[np.float64]]) -> None:
        """Add epochs, with an array (n_epochs,) for each name; what is not named gets NaN."""
        start, end = self._epochs, self._epochs + n_epochs
        for name in values:
            if name not in self._arrays:
                self._arrays[name] = np.full(start, np.nan)
        for name, array in self._arrays.items():
            if end > len(array):
                # Doubling copies every number twice at most in the long run. What is only expected gets no room in an
                # empty history: the first training may stop early.
                grown = np.empty(max(end, 2 * len(array), self._expected if start else 0))
                grown[:start] = array[:start]
                self._arrays[name] = array = grown
            array[start:end] = values.get(name, np.nan)
        self._epochs = end
        self._views.clear()

    def forget(self, n_epochs: int) -> None:
        """Take back the epochs after the first so many."""
        self._epochs = n_epochs
        self._views.clear()

    def to_frame(self, backend: str = "pandas") -> Any:
        """Return a table with a row for each epoch: ``"epoch"``, from 1, and all that is recorded.

        Parameters
        ----------
        backend
            The library whose table it is to be: ``"pandas"``, ``"polars"`` or ``"pyarrow"``.

        Raises
        ------
        ValueError
            If it is none of these.
        ImportError
            If the library is not installed.

        Examples
        --------
        >>> import backprop as bp
        >>> net = bp.Network(1, [bp.Dense(1)], seed=0)
        >>> history = net.fit([[0.0], [1.0]], [1.0, 3.0], epochs=2, metrics="r2")
        >>> history.to_frame().columns.tolist(), len(history.to_frame())
        (['epoch', 'loss', 'r2'], 2)
        """
        return frame({"epoch": np.arange(1, self.epochs + 1), **self}, backend)

    def __getitem__(self, name: str) -> NDArray[np.float64]:
        view = self._views.get(name)
        if view is None:
            view = recorded(self._arrays, name)[: self._epochs]
            view.setflags(write=False)
            self._views[name] = view
        return view

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the views and the room to grow."""
        arrays = {name: array[: self._epochs].copy() for name, array in self._arrays.items()}
        return {**self.__dict__, "_expected": 0, "_arrays": arrays, "_views": {}}

    # Two histories are the same only if they are one: comparing arrays gives arrays.
    __eq__ = object.__eq__
    __hash__ = object.__hash__

    def __repr__(self) -> str:
        if not self.epochs:
            return "History(epochs=0)"
        return (
            f"History(epochs={self.epochs}, loss={self.loss[-1]:.6g}, "
            f"stop_reason={self.stop_reason!r}, elapsed={self.elapsed:.3g})"
        )
