"""Callbacks that watch a number for progress."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import KW_ONLY, dataclass
from functools import partial
from typing import Any, ClassVar, Literal, TypeGuard

from backprop.base import checks as check
from backprop.base.types import RealArray, TrainingSettings
from backprop.learn.callbacks.callback import Callback, Logs
from backprop.learn.metrics import HIGHER_IS_BETTER, METRICS

Mode = Literal["auto", "min", "max"]


@dataclass(eq=False)
class Plateau(Callback):
    """Watches a number and acts when it has stopped improving; a class made from it overrides `on_plateau`.

    It improves when it is better than the best one so far, and by `min_delta` at least. On ``"loss"`` and
    ``"val_loss"`` the rule runs inside the core, and thousands of epochs pass without a look into Python.

    Parameters
    ----------
    monitor
        What to watch: a name in `History`.
    patience
        How many epochs in a row may pass without improvement, >= 1.
    min_delta
        The least improvement that counts, >= 0; with 0, any.
    mode
        ``"min"`` if less is better, ``"max"`` if more is; ``"auto"`` knows for the losses and for the metrics that have
        a name.

    Attributes
    ----------
    best : float
        The best number so far in this training.
    best_epoch : int
        The epoch that had it.

    Raises
    ------
    TypeError, ValueError
        If a parameter is wrong; the message says which.

    Examples
    --------
    >>> import backprop as bp
    >>> class Tell(bp.callbacks.Plateau):
    ...     def on_plateau(self, network, epoch, logs):
    ...         print("nothing new since epoch", self.best_epoch)
    >>> net = bp.Network(1, [bp.Dense(1)], seed=0)
    >>> tell = Tell("loss", patience=4, min_delta=100.0)
    >>> history = net.fit([[0.0]], [1.0], epochs=5, optimizer=bp.SGD(learning_rate=0.1), callbacks=[tell])
    nothing new since epoch 5
    """

    monitor: str = "val_loss"
    _: KW_ONLY
    patience: int = 10
    min_delta: float = 0.0
    mode: Mode = "auto"

    keeps_best: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check.make_plain(self)
        self.patience = check.integer("patience", self.patience, at_least=1, clipped=True)
        check.number("min_delta", self.min_delta, at_least=0)
        self.sign = sign(self.mode, self.monitor)
        self.forget()

    def forget(self) -> None:
        """Begin anew."""
        self.best, self.best_epoch, self.stale_epochs = self.sign * math.inf, 0, 0
        self.best_parameters: RealArray | None = None
        self.measured: RealArray | None = None
        """`model.run.Run.measured`, of a run that was interrupted between the step of a full batch and its end"""

    def state(self) -> dict[str, Any]:
        """Return the best yet and how long ago that was."""
        state = {"best": float(self.best), "best_epoch": self.best_epoch, "stale_epochs": self.stale_epochs}
        arrays = {"best_parameters": self.best_parameters, "measured": self.measured}
        return state | {name: array for name, array in arrays.items() if array is not None}

    def resume(self, state: dict[str, Any]) -> None:
        """Take up what `state` returned."""
        self.best, self.best_epoch, self.stale_epochs = state["best"], state["best_epoch"], state["stale_epochs"]
        self.best_parameters, self.measured = state.get("best_parameters"), state.get("measured")

    def suits_core(self) -> bool:
        """Whether the core's own rule does the same as `on_epoch_end`."""
        return (
            self.monitor in ("loss", "val_loss")
            and self.sign == 1
            and self.every == 1
            and type(self).on_train_begin is Plateau.on_train_begin
            and type(self).on_epoch_end is Plateau.on_epoch_end
        )

    def on_train_begin(self, network: Any, logs: Logs) -> None:
        """Begin anew."""
        self.forget()

    def on_epoch_end(self, network: Any, epoch: int, logs: Logs) -> None:
        """Compare with the best one so far; a NaN is no improvement."""
        value, best = self.sign * logs[self.monitor], self.sign * self.best
        self.stale_epochs = 0 if value < best and value <= best - self.min_delta else self.stale_epochs + 1
        if value < best:
            self.best, self.best_epoch = logs[self.monitor], epoch
            if self.keeps_best:
                self.best_parameters = self.parameters_of(network).copy()
        if self.stale_epochs >= self.patience:
            self.stale_epochs = 0
            self.on_plateau(network, epoch, logs)

    def parameters_of(self, network: Any) -> RealArray:
        """Return the parameters that have the number of this epoch."""
        run = network._run
        found: RealArray | None = None
        if run is not None:
            found = run.measured if keeps_measured(self) else run.evaluated()
        return network.parameters if found is None else found

    def on_plateau(self, network: Any, epoch: int, logs: Logs) -> None:
        """Called when `patience` epochs in a row have not improved; the count then starts again."""


@dataclass(eq=False)
class EarlyStopping(Plateau):
    """Stops training when a number has stopped improving; ``stop_reason`` is then ``"tolerance"``.

    On ``"loss"`` and ``"val_loss"`` the rule runs inside the core.

    Parameters
    ----------
    monitor, patience, min_delta, mode
        See `Plateau`.
    restore_best
        Whether the network gets the parameters of the best epoch when training ends; after Ctrl-C and other exceptions
        before its end it keeps the last ones. The ``"loss"`` of a full batch is measured before its step, and the
        network gets the parameters that have this loss; all else gives the parameters from the end of the epoch.

    Raises
    ------
    TypeError, ValueError
        If a parameter is wrong; the message says which.

    Examples
    --------
    >>> import backprop as bp
    >>> X, y = [[0.0], [1.0], [2.0], [3.0]], [0.0, 1.0, 2.0, 9.0]
    >>> net = bp.Network(1, [bp.Dense(1)], seed=0)
    >>> stopping = bp.callbacks.EarlyStopping("val_loss", patience=20, restore_best=True)
    >>> history = net.fit(X, y, validation_split=0.25, epochs=10_000, callbacks=[stopping])
    >>> history.stop_reason, history.epochs < 10_000
    ('tolerance', True)
    >>> bool(stopping.best == history["val_loss"].min())
    True
    """

    _: KW_ONLY
    restore_best: bool = False

    def __post_init__(self) -> None:
        Plateau.__post_init__(self)
        self.restore_best = check.boolean("restore_best", self.restore_best)

    @property
    def keeps_best(self) -> bool:  # type: ignore[override]
        """Whether the best parameters are kept."""
        return self.restore_best

    def on_plateau(self, network: Any, epoch: int, logs: Logs) -> None:
        """Stop."""
        network.stop("tolerance")

    def on_train_end(self, network: Any, logs: Logs) -> None:
        """Restore the best parameters if that is wanted."""
        if self.best_parameters is not None and network.history.stop_reason != "interrupted":
            network.parameters[...] = self.best_parameters


@dataclass(eq=False)
class ReduceLROnPlateau(Plateau):
    """Lowers the learning rate when a number has stopped improving.

    The rates of all later steps of this call of `fit` are multiplied with `factor`, those of a schedule too. On
    ``"loss"`` and ``"val_loss"`` the rule runs inside the core. scikit-learn's ``"adaptive"`` rate is
    ``ReduceLROnPlateau("loss", factor=0.2, patience=n_iter_no_change + 1, min_delta=tol, stop_rate=1e-6)``.

    Parameters
    ----------
    monitor, patience, min_delta, mode
        See `Plateau`.
    factor
        What the rate is multiplied with, 0 < factor < 1.
    cooldown
        How many epochs longer the patience is right after a reduction, >= 0.
    min_rate
        The rate is not made lower than this, >= 0.
    stop_rate
        Training stops, with the reason ``"tolerance"``, where the rate would be lowered and is not above this any more.

    Raises
    ------
    TypeError, ValueError
        If a parameter is wrong; the message says which.

    Examples
    --------
    >>> import backprop as bp
    >>> net = bp.Network(1, [bp.Dense(1)], dtype="float64", seed=0)
    >>> lower = bp.callbacks.ReduceLROnPlateau("loss", factor=0.5, patience=5)
    >>> sgd = bp.SGD(learning_rate=0.4)
    >>> history = net.fit([[1.0], [2.0]], [1.0, 2.0], optimizer=sgd, epochs=500, callbacks=[lower])
    >>> bool(history["learning_rate"][-1] < 0.4)
    True
    """

    scales_learning_rate: ClassVar[bool] = True

    _: KW_ONLY
    factor: float = 0.1
    cooldown: int = 0
    min_rate: float = 0.0
    stop_rate: float | None = None

    def __post_init__(self) -> None:
        Plateau.__post_init__(self)
        check.number("factor", self.factor, above=0, below=1)
        self.cooldown = check.integer("cooldown", self.cooldown, at_least=0, clipped=True)
        check.number("min_rate", self.min_rate, at_least=0)
        if self.stop_rate is not None:
            check.number("stop_rate", self.stop_rate, at_least=0)

    def on_plateau(self, network: Any, epoch: int, logs: Logs) -> None:
        """Lower the rate."""
        rate = logs["learning_rate"]
        if self.stop_rate is not None and rate <= self.stop_rate:
            network.stop("tolerance")
        elif rate > self.min_rate:
            network.scale_learning_rate(max(self.factor, self.min_rate / rate))
            self.stale_epochs = -self.cooldown


def is_ours(callback: Callback) -> bool:
    """Whether this is a rule all of which is the library's: it takes no time, and Ctrl-C must not cut it in half."""
    names = ("on_train_begin", "on_epoch_begin", "on_epoch_end", "on_plateau", "on_train_end")
    return isinstance(callback, Plateau) and all(
        getattr(type(callback), name).__module__.startswith("backprop.") for name in names
    )


def called_by(call: Callable[..., Any], callback: Callback, name: str) -> Callable[..., Any]:
    """Return a method of a callback, called by `call`, which lets Ctrl-C interrupt it; but not where it is ours."""
    method = getattr(callback, name)
    return method if is_ours(callback) else partial(call, method)


def tell_all(
    due: Iterable[tuple[Callback, Callable[..., Any]]],
    network: Any,
    epoch: int,
    logs: Logs,
    error: BaseException | None,
) -> BaseException | None:
    """Tell callbacks of the end of an epoch, by these methods; return what was raised first, or an `error` before.

    After an error only those are told that count epochs.
    """
    for callback, on_epoch_end in due:
        if error is None or (counts(callback) and callback.monitor in logs):
            try:
                on_epoch_end(network, epoch, logs)
            except BaseException as raised:
                error = error or raised
    return error


def rank(callback: Callback) -> int:
    """Return the place of a callback among those that hear of the end of an epoch: rules first, `Checkpoint` last.

    So files that are written then have what is known of the epoch.
    """
    return callback.writes_checkpoints - counts(callback)


def counts(callback: Callback) -> bool:
    """Whether a callback counts epochs by the rule of `Plateau`."""
    return isinstance(callback, Plateau) and type(callback).on_epoch_end is Plateau.on_epoch_end


def keeps_measured(callback: Callback) -> TypeGuard[Plateau]:
    """Whether a callback keeps the parameters of the best training loss: of a full batch those from before its step."""
    return isinstance(callback, Plateau) and callback.keeps_best and callback.monitor == "loss"


def keeps_loss(settings: TrainingSettings) -> bool:
    """Whether the core keeps the parameters of the best training loss: those from the end of the epoch."""
    return settings.keep_best and settings.monitor == "loss"


def sign(mode: Any, monitor: Any) -> Literal[1, -1]:
    """Return 1 where less is better and -1 where more is."""
    if not isinstance(monitor, str):
        raise TypeError(f"monitor: needs a name, got {check.shown(monitor)}")
    if check.choice("mode", mode, ("auto", "min", "max")) == "auto":
        name = monitor.removeprefix("val_")
        if name != "loss" and name not in METRICS:
            raise ValueError(f"mode: needs 'min' or 'max' for {monitor!r}, which is no loss and no metric of ours")
        mode = "max" if name in HIGHER_IS_BETTER else "min"
    return 1 if mode == "min" else -1
