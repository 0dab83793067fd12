"""What training has done so far."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray


class History(Mapping[str, NDArray[np.float64]]):
    """The record of all epochs of a network, over all calls of `fit`.

    A mapping from names to one number per epoch: ``history["loss"]``, shape (epochs,), float64, read-only. The loss of
    an epoch is the mean of the losses of its batches, each taken before its step and weighted as the loss's reduction
    weights it, penalties included.

    Attributes
    ----------
    epochs : int
        Number of epochs recorded.
    stop_reason : str or None
        Why the last `fit` ended: ``"epochs"`` (all were done), ``"tolerance"`` (the loss stopped falling),
        ``"diverged"`` or ``"interrupted"``; None before the first.
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
        self._loss: NDArray[np.float64] = np.empty(0)
        self._loss.setflags(write=False)

    @property
    def loss(self) -> NDArray[np.float64]:
        """The loss of each epoch, (epochs,)."""
        return self._loss

    @property
    def epochs(self) -> int:
        """How many epochs are recorded."""
        return len(self._loss)

    def record(self, losses: NDArray[np.float64], stop_reason: str, elapsed: float) -> None:
        """Add the epochs of one call of `fit`."""
        self._loss = np.concatenate((self._loss, losses))
        self._loss.setflags(write=False)
        self.stop_reason = stop_reason
        self.elapsed += elapsed

    def __getitem__(self, name: str) -> NDArray[np.float64]:
        if name != "loss":
            raise KeyError(name)
        return self._loss

    def __iter__(self) -> Iterator[str]:
        return iter(("loss",))

    def __len__(self) -> int:
        return 1

    # Two histories are the same only if they are one: comparing arrays gives arrays.
    __eq__ = object.__eq__
    __hash__ = object.__hash__

    def __repr__(self) -> str:
        if not self.epochs:
            return "History(epochs=0)"
        return (
            f"History(epochs={self.epochs}, loss={self._loss[-1]:.6g}, "
            f"stop_reason={self.stop_reason!r}, elapsed={self.elapsed:.3g})"
        )
