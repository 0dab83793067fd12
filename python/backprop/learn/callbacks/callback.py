"""What every callback is."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

from backprop.base.keywords import meant
from backprop.base.text import listed

Logs = Mapping[str, float]
_MOMENTS = ("train", "epoch", "batch", "step", "fit", "test", "predict", "validation", "plateau")
"""What methods of callbacks are named after, here or in other libraries; any other is a helper of the user's"""


class Callback:
    """Base class: every method does nothing.

    What a method raises ends training; the network is then as the last step left it, and its history has every whole
    epoch. `on_train_end` is called for every callback whose `on_train_begin` was, however training ended;
    ``network.history.stop_reason`` tells how.

    Attributes
    ----------
    every : int
        Epochs from one call of `on_epoch_end` to the next.
    monitor : str or None
        The name of the record that the callback needs; `fit` raises if it does not have it.
    scales_learning_rate : bool
        Whether it may call `Network.scale_learning_rate`; the rates are then recorded.
    writes_checkpoints : bool
        Whether it hears of the end of an epoch, and of training, after all others, whose state goes into its file.

    Examples
    --------
    >>> import backprop as bp
    >>> class Report(bp.callbacks.Callback):
    ...     every = 2
    ...     def on_epoch_end(self, network, epoch, logs):
    ...         print(epoch, sorted(logs))
    >>> net = bp.Network(1, [bp.Dense(1)], seed=0)
    >>> history = net.fit([[0.0], [1.0]], [1.0, 3.0], epochs=4, callbacks=[Report()])
    2 ['loss']
    4 ['loss']
    """

    every: int = 1
    monitor: str | None = None
    scales_learning_rate: ClassVar[bool] = False
    writes_checkpoints: ClassVar[bool] = False

    def on_train_begin(self, network: Any, logs: Logs) -> None:
        """Called before the first epoch; `logs` is empty."""

    def on_train_end(self, network: Any, logs: Logs) -> None:
        """Called when training has ended, in whatever way."""

    def on_epoch_begin(self, network: Any, epoch: int, logs: Logs) -> None:
        """Called before epochs 1, 1 + `every`, ...; `logs` are those of the epoch before."""

    def on_epoch_end(self, network: Any, epoch: int, logs: Logs) -> None:
        """Called after epochs `every`, 2 * `every`, ..."""

    def of_member(self, member: int) -> Self:
        """Return the callback for one member of a fleet: a copy, as shallow as `copy.copy` makes it."""
        return copy.copy(self)

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint must keep for training to go on as if it had not stopped: numbers, texts, arrays."""
        return {}

    def resume(self, state: dict[str, Any]) -> None:
        """Take up what `state` returned; called after `on_train_begin` where `fit` resumes.

        Where the run that is to go on is over, it is called alone.
        """


# --- when there is no progress -------------------------------------------------------------------------------------


def overrides(callback: Callback, name: str) -> bool:
    """Whether the callback has a method of its own with this name."""
    return getattr(getattr(callback, name), "__func__", None) is not getattr(Callback, name)


def check_hooks(where: str, callback: Callback) -> None:
    """Raise TypeError for a method of the user's that looks as if training called it."""
    cls = type(callback)
    ours = [each for each in cls.__mro__ if each.__module__.startswith("backprop.")]
    hooks = {name: 0 for each in ours for name in vars(each) if name.startswith("on_")}
    for name in dir(cls):
        if not name.startswith("on_") or name in hooks or not callable(getattr(cls, name)):
            continue
        if name.split("_")[1] in _MOMENTS or meant(name, hooks):
            raise TypeError(f"{where}: needs methods among {listed(hooks)}, got {name}{meant(name, hooks)}")


def resume_all(callbacks: Sequence[Callback], kept: Sequence[tuple[str, dict[str, Any]]]) -> None:
    """Give callbacks back what those of the same class in their places had kept; those that are new have none."""
    for callback, (kind, state) in zip(callbacks, kept, strict=False):
        if kind == type(callback).__name__ and state:
            callback.resume(state)
