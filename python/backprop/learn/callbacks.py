"""Callbacks: what `fit` calls while it trains.

A callback is an object of a class made from `Callback`. Its methods get the network, so that they can predict, save or
stop it, the number of the epoch, counted from 1 over all calls of ``fit``, and ``logs``: what the last whole epoch
recorded in the network's history, name -> float.

A method that is not overridden is not called: a callback without ``on_epoch_begin`` and ``on_epoch_end`` costs nothing,
however short the epochs are. With ``every = k`` those two are called at every k-th epoch only, and the epochs in
between run without a look into Python.
"""

from __future__ import annotations

import csv
import math
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass, field
from typing import IO, TYPE_CHECKING, Any, ClassVar, Literal

from backprop.base import checks as check
from backprop.base.types import RealArray
from backprop.learn.metrics import HIGHER_IS_BETTER, METRICS

if TYPE_CHECKING:
    from backprop.network import Network

__all__ = [
    "CSVLogger",
    "Callback",
    "Checkpoint",
    "EarlyStopping",
    "LambdaCallback",
    "Plateau",
    "Progress",
    "ReduceLROnPlateau",
    "TerminateOnNaN",
    "overrides",
]

Logs = Mapping[str, float]
Mode = Literal["auto", "min", "max"]


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

    def on_train_begin(self, network: Network, logs: Logs) -> None:
        """Called before the first epoch; `logs` is empty."""

    def on_train_end(self, network: Network, logs: Logs) -> None:
        """Called when training has ended, in whatever way."""

    def on_epoch_begin(self, network: Network, epoch: int, logs: Logs) -> None:
        """Called before epochs 1, 1 + `every`, ...; `logs` are those of the epoch before."""

    def on_epoch_end(self, network: Network, epoch: int, logs: Logs) -> None:
        """Called after epochs `every`, 2 * `every`, ..."""

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint must keep for training to go on as if it had not stopped: numbers, texts, arrays."""
        return {}

    def resume(self, state: dict[str, Any]) -> None:
        """Take up what `state` returned; called after `on_train_begin` where `fit` resumes."""


# --- when there is no progress -------------------------------------------------------------------------------------


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
        if not isinstance(self.monitor, str):
            raise TypeError(f"monitor: needs a name, got {check.shown(self.monitor)}")
        self.patience = min(check.integer("patience", self.patience, at_least=1), sys.maxsize)
        check.number("min_delta", self.min_delta, at_least=0)
        self.sign = _sign(self.mode, self.monitor)
        self.forget()

    def forget(self) -> None:
        """Begin anew."""
        self.best, self.best_epoch, self.stale_epochs = self.sign * math.inf, 0, 0
        self.best_parameters: RealArray | None = None

    def state(self) -> dict[str, Any]:
        """Return the best yet and how long ago that was."""
        state = {"best": float(self.best), "best_epoch": self.best_epoch, "stale_epochs": self.stale_epochs}
        return state if self.best_parameters is None else {**state, "best_parameters": self.best_parameters}

    def resume(self, state: dict[str, Any]) -> None:
        """Take up what `state` returned."""
        self.best, self.best_epoch, self.stale_epochs = state["best"], state["best_epoch"], state["stale_epochs"]
        self.best_parameters = state.get("best_parameters")

    def suits_core(self) -> bool:
        """Whether the core's own rule does the same as `on_epoch_end`."""
        return (
            self.monitor in ("loss", "val_loss")
            and self.sign == 1
            and self.every == 1
            and type(self).on_train_begin is Plateau.on_train_begin
            and type(self).on_epoch_end is Plateau.on_epoch_end
        )

    def on_train_begin(self, network: Network, logs: Logs) -> None:
        """Begin anew."""
        self.forget()

    def on_epoch_end(self, network: Network, epoch: int, logs: Logs) -> None:
        """Compare with the best one so far; a NaN is no improvement."""
        value, best = self.sign * logs[self.monitor], self.sign * self.best
        self.stale_epochs = 0 if value < best and value <= best - self.min_delta else self.stale_epochs + 1
        if value < best:
            self.best, self.best_epoch = logs[self.monitor], epoch
            if self.keeps_best:
                self.best_parameters = network.parameters.copy()
        if self.stale_epochs >= self.patience:
            self.stale_epochs = 0
            self.on_plateau(network, epoch, logs)

    def on_plateau(self, network: Network, epoch: int, logs: Logs) -> None:
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
        it keeps the last ones.

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

    restore_best: bool = False

    def __post_init__(self) -> None:
        Plateau.__post_init__(self)
        self.restore_best = check.boolean("restore_best", self.restore_best)

    @property
    def keeps_best(self) -> bool:  # type: ignore[override]
        """Whether the best parameters are kept."""
        return self.restore_best

    def on_plateau(self, network: Network, epoch: int, logs: Logs) -> None:
        """Stop."""
        network.stop("tolerance")

    def on_train_end(self, network: Network, logs: Logs) -> None:
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

    factor: float = 0.1
    cooldown: int = 0
    min_rate: float = 0.0
    stop_rate: float | None = None

    def __post_init__(self) -> None:
        Plateau.__post_init__(self)
        check.number("factor", self.factor, above=0, below=1)
        check.integer("cooldown", self.cooldown, at_least=0)
        check.number("min_rate", self.min_rate, at_least=0)
        if self.stop_rate is not None:
            check.number("stop_rate", self.stop_rate, at_least=0)

    def on_plateau(self, network: Network, epoch: int, logs: Logs) -> None:
        """Lower the rate."""
        rate = logs["learning_rate"]
        if self.stop_rate is not None and rate <= self.stop_rate:
            network.stop("tolerance")
        elif rate > self.min_rate:
            network.scale_learning_rate(max(self.factor, self.min_rate / rate))
            self.stale_epochs = -self.cooldown


def _sign(mode: Any, monitor: str) -> Literal[1, -1]:
    """Return 1 where less is better and -1 where more is."""
    if check.choice("mode", mode, ("auto", "min", "max")) == "auto":
        name = monitor.removeprefix("val_")
        if name != "loss" and name not in METRICS:
            raise ValueError(f"mode: needs 'min' or 'max' for {monitor!r}, which is no loss and no metric of ours")
        mode = "max" if name in HIGHER_IS_BETTER else "min"
    return 1 if mode == "min" else -1


@dataclass(eq=False)
class TerminateOnNaN(Callback):
    """Lets `fit` return when training diverges, in place of raising `DivergedError`.

    The same as ``fit(..., on_divergence="stop")``: the network has its last finite parameters, and ``stop_reason`` is
    ``"diverged"``.

    Examples
    --------
    >>> import backprop as bp
    >>> net = bp.Network(1, [bp.Dense(1)], seed=0)
    >>> wild = bp.SGD(learning_rate=1e30)
    >>> net.fit([[1.0]], [1.0], optimizer=wild, callbacks=[bp.callbacks.TerminateOnNaN()]).stop_reason
    'diverged'
    """


# --- what is written and shown -------------------------------------------------------------------------------------


@dataclass(eq=False)
class Checkpoint(Callback):
    """Saves the network and its training every few epochs and when training ends, or whenever a number is the best yet.

    What it writes are checkpoints (`Network.save_checkpoint`): `backprop.resume` goes on from them, bit for bit, and
    `backprop.load` takes the network alone. The file is replaced in one piece, so that there is a whole one at any
    moment, and never by parameters that are not finite.

    Parameters
    ----------
    path
        The file.
    every
        Epochs from one to the next.
    monitor
        With a name in `History`, the file is written after those of these epochs that are the best yet, and only then.
    mode
        See `Plateau`.

    Examples
    --------
    >>> import os, tempfile
    >>> import backprop as bp
    >>> X, y = [[0.0], [1.0]], [1.0, 3.0]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "run.safetensors")
    ...     for attempt in range(2):  # the same lines begin the run and, after whatever has happened to it, go on
    ...         net = bp.resume(path) if os.path.exists(path) else bp.mlp([1, 1], seed=0)
    ...         checkpoint = bp.callbacks.Checkpoint(path, every=50)
    ...         history = net.fit(X, y, epochs=200, callbacks=[checkpoint], resume=True)
    ...     bool((bp.load(path).parameters == net.parameters).all()), history.epochs
    (True, 200)
    """

    path: str | os.PathLike[str]
    _: KW_ONLY
    every: int = 1
    monitor: str | None = None
    mode: Mode = "auto"

    def __post_init__(self) -> None:
        check.integer("every", self.every, at_least=1)
        self.sign = 1 if self.monitor is None else _sign(self.mode, self.monitor)
        self.best = self.sign * math.inf

    def on_train_begin(self, network: Network, logs: Logs) -> None:
        """Nothing is the best yet."""
        self.best = self.sign * math.inf

    def on_epoch_end(self, network: Network, epoch: int, logs: Logs) -> None:
        """Save, or only if it is the best yet."""
        if self.monitor is not None:
            if not self.sign * logs[self.monitor] < self.sign * self.best:
                return
            self.best = logs[self.monitor]
        self.save(network)

    def on_train_end(self, network: Network, logs: Logs) -> None:
        """Save what has been learned since the last time."""
        if self.monitor is None:
            self.save(network)

    def save(self, network: Network) -> None:
        """Write the file."""
        network.save_checkpoint(self.path)

    def state(self) -> dict[str, Any]:
        """Return the best yet."""
        return {"best": float(self.best)}

    def resume(self, state: dict[str, Any]) -> None:
        """Take up the best yet."""
        self.best = state["best"]


@dataclass(eq=False)
class CSVLogger(Callback):
    """Writes what is recorded to a CSV file, a line for each epoch: its number, then the numbers of `History`.

    Parameters
    ----------
    path
        The file.
    every
        Epochs from one line to the next.
    append
        Whether to go on in a file that is there, which must have the same columns, or to replace it.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> import backprop as bp
    >>> net = bp.Network(1, [bp.Dense(1, weight_init=1.0)])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "log.csv")
    ...     history = net.fit([[1.0]], [3.0], epochs=1, callbacks=[bp.callbacks.CSVLogger(path)])
    ...     print(path.read_text())
    epoch,loss
    1,4.0
    """

    path: str | os.PathLike[str]
    _: KW_ONLY
    every: int = 1
    append: bool = False
    _file: IO[str] | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        check.integer("every", self.every, at_least=1)
        check.boolean("append", self.append)

    def on_train_begin(self, network: Network, logs: Logs) -> None:
        """Open the file."""
        self._header: list[str] | None = None
        if self.append and os.path.exists(self.path):
            with open(self.path, newline="", encoding="utf-8") as file:
                self._header = next(csv.reader(file), None)
        self._file = open(self.path, "a" if self.append else "w", newline="", encoding="utf-8")  # noqa: SIM115

    def on_epoch_end(self, network: Network, epoch: int, logs: Logs) -> None:
        """Write a line, after the header if there is none."""
        assert self._file is not None
        lines = csv.writer(self._file, lineterminator="\n")
        header = ["epoch", *logs]
        if self._header is None:
            lines.writerow(header)
            self._header = header
        elif self._header != header:
            raise ValueError(f"{os.fspath(self.path)}: needs the columns {header}, has {self._header}")
        lines.writerow([epoch, *logs.values()])
        self._file.flush()  # whoever reads along sees whole lines

    def on_train_end(self, network: Network, logs: Logs) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None


@dataclass(eq=False)
class Progress(Callback):
    """A progress bar on stderr: what ``fit(..., progress=True)`` shows.

    It is brought up to date about 20 times a second, not after each epoch.

    Parameters
    ----------
    after
        Seconds of training before it appears; shorter ones show nothing, and 0 shows it in any case.

    Examples
    --------
    >>> import backprop as bp
    >>> net = bp.Network(1, [bp.Dense(1)], seed=0)
    >>> history = net.fit([[1.0]], [1.0], callbacks=[bp.callbacks.Progress(after=10.0)])
    """

    after: float = 0.0

    def __post_init__(self) -> None:
        self._bar: Any = None

    def begin(self, epochs: int) -> None:
        """Start the clock."""
        self._epochs, self._start = epochs, time.perf_counter()

    def show(self, done: int, loss: float) -> None:
        """Bring the bar up to date."""
        if self._bar is None:
            took = time.perf_counter() - self._start
            if took < self.after:
                return
            from tqdm import tqdm

            self._bar = tqdm(total=self._epochs, unit="epoch", mininterval=0.5, smoothing=0, file=sys.stderr)
            self._bar.start_t -= took  # the epochs before the bar took time as well
        if done:
            self._bar.set_postfix(loss=f"{loss:.4g}", refresh=False)
        self._bar.update(done - self._bar.n)

    def close(self, done: int, loss: float) -> None:
        """Leave the bar as it stands; one that was asked for appears now at the latest."""
        if self._bar is not None or self.after == 0:
            self.show(done, loss)
            self._bar.close()
            self._bar = None


class LambdaCallback(Callback):
    """A callback made of functions.

    Parameters
    ----------
    on_train_begin, on_train_end, on_epoch_begin, on_epoch_end
        Functions with the arguments of `Callback`'s methods.
    every
        See `Callback`.

    Examples
    --------
    >>> import backprop as bp
    >>> seen = []
    >>> remember = bp.callbacks.LambdaCallback(on_epoch_end=lambda network, epoch, logs: seen.append(epoch))
    >>> history = bp.Network(1, [bp.Dense(1)], seed=0).fit([[1.0]], [1.0], epochs=3, callbacks=[remember])
    >>> seen
    [1, 2, 3]
    """

    def __init__(
        self,
        *,
        on_train_begin: Callable[[Network, Logs], Any] | None = None,
        on_train_end: Callable[[Network, Logs], Any] | None = None,
        on_epoch_begin: Callable[[Network, int, Logs], Any] | None = None,
        on_epoch_end: Callable[[Network, int, Logs], Any] | None = None,
        every: int = 1,
    ) -> None:
        self.every = check.integer("every", every, at_least=1)
        functions = {
            "on_train_begin": on_train_begin,
            "on_train_end": on_train_end,
            "on_epoch_begin": on_epoch_begin,
            "on_epoch_end": on_epoch_end,
        }
        for name, function in functions.items():
            if function is not None:
                if not callable(function):
                    raise TypeError(f"{name}: needs a function, got {check.shown(function)}")
                setattr(self, name, function)


def overrides(callback: Callback, name: str) -> bool:
    """Whether the callback has a method of its own with this name."""
    return getattr(getattr(callback, name), "__func__", None) is not getattr(Callback, name)
