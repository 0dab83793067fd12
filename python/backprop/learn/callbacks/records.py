"""Callbacks that write, show or call something."""

from __future__ import annotations

import copy
import csv
import math
import os
import re
import sys
import time
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, field
from typing import IO, Any, ClassVar, Self

from backprop.base import checks as check
from backprop.base.atomic import path_name
from backprop.learn.callbacks.callback import Callback, Logs
from backprop.learn.callbacks.plateaus import Mode, sign


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


_FIELD = re.compile(r"\{(\w+)(:[^{}]*)?\}")


def _filled(path: str | os.PathLike[str], **values: int) -> str:
    """Return a path with these values of fields."""
    name = os.fsdecode(path)
    try:
        return _FIELD.sub(lambda field: field[0].format(**values) if field[1] in values else field[0], name)
    except ValueError as error:
        raise ValueError(f"path: needs formats of integers, got {name!r} ({error})") from error


def _check_fields(path: str | os.PathLike[str], **values: int) -> None:
    """Raise unless it is a path without other fields."""
    path_name(path)
    if (other := _FIELD.search(_filled(path, **values))) is not None:
        known = " but " * bool(values) + " and ".join(f"{{{name}}}" for name in values)
        way = ", which is for fleets" if other[1] == "member" else ""
        raise ValueError(f"path: needs no field{known}, got {other[0]}{way}")


class _OwnPath(Callback):
    """A callback whose copies for members have paths of their own."""

    path: str | os.PathLike[str]

    def of_member(self, member: int) -> Self:
        """Return the callback for one member of a fleet, with a path of its own."""
        own, path = copy.copy(self), os.fsdecode(self.path)
        own.path = _filled(path, member=member)
        if own.path == path:
            kind = type(self).__name__
            raise ValueError(f"callbacks: {kind} needs a path with the field {{member}} for a fleet, got {path!r}")
        return own


@dataclass(eq=False)
class Checkpoint(_OwnPath):
    """Saves the network and its training every few epochs and when training ends, or whenever a number is the best yet.

    What it writes are checkpoints (`Network.save_checkpoint`): `backprop.resume` goes on from them, bit for bit, and
    `backprop.load` takes the network alone. The file is replaced in one piece, so that there is a whole one at any
    moment, and never by parameters that are not finite.

    Parameters
    ----------
    path
        The file; one for each epoch with a field ``{epoch}`` or ``{epoch:04}``. For a fleet with a field ``{member}``,
        in whose place each member's number comes.
    every
        Epochs from one to the next.
    monitor
        With a name in `History`, the file is written after those of these epochs that are the best yet, and only then.
    mode
        See `Plateau`.

    Raises
    ------
    TypeError, ValueError
        If a parameter is wrong; the message says which.

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

    writes_checkpoints: ClassVar[bool] = True

    path: str | os.PathLike[str]
    _: KW_ONLY
    every: int = 1
    monitor: str | None = None
    mode: Mode = "auto"

    def __post_init__(self) -> None:
        _check_fields(self.path, member=0, epoch=0)
        self.every = check.integer("every", self.every, at_least=1, clipped=True)
        self.sign = 1 if self.monitor is None else sign(self.mode, self.monitor)
        self.best = self.sign * math.inf

    def on_train_begin(self, network: Any, logs: Logs) -> None:
        """Nothing is the best yet."""
        _check_fields(self.path, epoch=0)
        self.best = self.sign * math.inf

    def on_epoch_end(self, network: Any, epoch: int, logs: Logs) -> None:
        """Save, or only if it is the best yet."""
        if self.monitor is not None:
            if not self.sign * logs[self.monitor] < self.sign * self.best:
                return
            self.best = logs[self.monitor]
        self.save(network)

    def on_train_end(self, network: Any, logs: Logs) -> None:
        """Save what has been learned since the last time."""
        if self.monitor is None:
            self.save(network)

    def save(self, network: Any) -> None:
        """Write the file."""
        epoch = network.history.epochs if network._optimizer is None else network._state.epoch
        network.save_checkpoint(_filled(self.path, epoch=epoch))

    def state(self) -> dict[str, Any]:
        """Return the best yet."""
        return {"best": float(self.best)}

    def resume(self, state: dict[str, Any]) -> None:
        """Take up the best yet."""
        self.best = state["best"]


@dataclass(eq=False)
class CSVLogger(_OwnPath):
    """Writes what is recorded to a CSV file, a line for each epoch: its number, then the numbers of `History`.

    Parameters
    ----------
    path
        The file; for a fleet with a field ``{member}``, in whose place each member's number comes.
    every
        Epochs from one line to the next.
    append
        Whether to go on in a file that is there, which must have the same columns, or to replace it.

    Raises
    ------
    TypeError, ValueError
        If a parameter is wrong; the message says which.

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
        _check_fields(self.path, member=0)
        self.every = check.integer("every", self.every, at_least=1, clipped=True)
        check.boolean("append", self.append)

    def on_train_begin(self, network: Any, logs: Logs) -> None:
        """Open the file."""
        _check_fields(self.path)
        self._header: list[str] | None = None
        is_cut = False
        if self.append and os.path.isfile(self.path):  # reading a pipe might wait for ever
            with open(self.path, newline="", encoding="utf-8") as file:
                self._header = next(csv.reader(file), None)
            is_cut = _ends_within_a_line(self.path)
        self._file = open(self.path, "a" if self.append else "w", newline="", encoding="utf-8")  # noqa: SIM115
        if is_cut:
            self._file.write("\n")

    def on_epoch_end(self, network: Any, epoch: int, logs: Logs) -> None:
        """Write a line, after the header if there is none."""
        assert self._file is not None
        lines = csv.writer(self._file, lineterminator="\n")
        header = ["epoch", *logs]
        if self._header is None:
            lines.writerow(header)
            self._header = header
        elif self._header != header:
            raise ValueError(f"{path_name(self.path)}: needs the columns {header}, has {self._header}")
        lines.writerow([epoch, *logs.values()])
        self._file.flush()  # whoever reads along sees whole lines

    def on_train_end(self, network: Any, logs: Logs) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None


def _ends_within_a_line(path: str | os.PathLike[str]) -> bool:
    """Whether a file lacks its last line end, because the disk was full, say: the next line would go on with it."""
    with open(path, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 1))
        return file.read() not in (b"", b"\n", b"\r")


@dataclass(eq=False)
class Progress(Callback):
    """A progress bar on stderr: what ``fit(..., progress=True)`` shows.

    It is brought up to date about 20 times a second, not after each epoch.

    Parameters
    ----------
    after
        Seconds of training before it appears; shorter ones show nothing, and 0 shows it in any case.

    Raises
    ------
    TypeError, ValueError
        If a parameter is wrong; the message says which.

    Examples
    --------
    >>> import backprop as bp
    >>> net = bp.Network(1, [bp.Dense(1)], seed=0)
    >>> history = net.fit([[1.0]], [1.0], callbacks=[bp.callbacks.Progress(after=10.0)])
    """

    after: float = 0.0

    def __post_init__(self) -> None:
        if self.after != math.inf:  # never
            check.number("after", self.after, at_least=0)
        self._bar: Any = None

    def begin(self, epochs: int, unit: str = "epoch") -> None:
        """Start the clock; where nothing is to be done, nothing is shown."""
        self._epochs, self._unit, self._start = epochs, unit, time.perf_counter()

    def show(self, done: int, loss: float) -> None:
        """Bring the bar up to date."""
        if self._bar is None:
            took = time.perf_counter() - self._start
            if took < self.after or not self._epochs:
                return
            from tqdm import tqdm

            # without tqdm's thread, which cannot be started everywhere: each call looks at the clock
            kind: Any = type("Bar", (tqdm,), {"monitor_interval": 0})
            self._bar = kind(
                total=self._epochs, unit=self._unit, mininterval=0.5, miniters=1, smoothing=0, file=sys.stderr
            )
            self._bar.start_t -= took  # the epochs before the bar took time as well
        if done:
            self._bar.set_postfix(loss=f"{loss:.4g}", refresh=False)
        self._bar.update(done - self._bar.n)

    def close(self, done: int, loss: float) -> None:
        """Leave the bar as it stands; one that was asked for appears now at the latest."""
        if self._bar is not None or self.after == 0:
            self.show(done, loss)
        if self._bar is not None:
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

    Raises
    ------
    TypeError, ValueError
        If a parameter is wrong; the message says which.

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
        on_train_begin: Callable[[Any, Logs], Any] | None = None,
        on_train_end: Callable[[Any, Logs], Any] | None = None,
        on_epoch_begin: Callable[[Any, int, Logs], Any] | None = None,
        on_epoch_end: Callable[[Any, int, Logs], Any] | None = None,
        every: int = 1,
    ) -> None:
        self.every = check.integer("every", every, at_least=1, clipped=True)
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
