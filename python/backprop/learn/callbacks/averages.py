"""Callbacks that average the parameters over the steps of a run, inside the core."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any

import numpy as np

from backprop.base import checks as check
from backprop.base.state import TrainingState, n_averaged
from backprop.base.types import Average
from backprop.learn import pace
from backprop.learn.callbacks.callback import Callback

_MINIMISED = "swap: needs the parameters of the training that was averaged, but minimize has changed them since"


@dataclass(eq=False)
class WeightAveraging(Callback):
    """What `ExponentialMovingAverage` and `StochasticWeightAveraging` share; they document it."""

    _: KW_ONLY
    start: float = 0
    every_steps: int | None = 1
    evaluate: bool = True
    restore: bool = True

    def __post_init__(self) -> None:
        check.make_plain(self)
        self.start = _checked_start(self.start)
        if self.every_steps is not None:
            self.every_steps = check.integer("every_steps", self.every_steps, at_least=1, clipped=True)
        self.evaluate = check.boolean("evaluate", self.evaluate)
        self.restore = check.boolean("restore", self.restore)
        self.forget()

    def forget(self) -> None:
        """Begin anew."""
        self.n_averaged: Any = 0
        self.swapped: Any = False

    def average(self, epochs: int) -> Average:
        """Return what the core does in a run of so many epochs."""
        start = math.floor(self.start * epochs) if isinstance(self.start, float) else self.start
        return Average(start=start, every=self.every_steps, measured=self.evaluate)

    def note(self, average: Average, state: TrainingState, n_rows: int, batch_size: int) -> None:
        """Know how many are averaged in a network's training, and where the average is."""
        epochs = state.epoch - state.first_epoch
        self.n_averaged = int(n_averaged(average, epochs, state.cursor, n_rows, batch_size))
        self.swapped = state.swapped

    def swap(self, network: Any) -> None:
        """Let a network and its training state exchange the parameters of the last step and the average.

        So do, in a fleet, all members that have an average. After a later `minimize` it does not belong to the
        parameters any more, and ValueError is raised.
        """
        if not np.any(self.n_averaged):
            raise ValueError("swap: needs an average, which begins after the first step that counts")
        from backprop.model.fleet import FleetModel

        if isinstance(network, FleetModel):
            self._swap_members(network)
            return
        state = network._state
        if isinstance(self.n_averaged, np.ndarray) or state is None or len(state.average) != len(network.parameters):
            raise ValueError("swap: needs the network, or the fleet, whose training this callback has averaged last")
        if network._optimizer is None:
            raise ValueError(_MINIMISED)
        state.swap()
        self.swapped = state.swapped

    def _swap_members(self, fleet: Any) -> None:
        counts, states = self.n_averaged, [group.state for group in fleet._groups]
        averaged = all(state is not None and len(state.average) for state in states)
        if not (isinstance(counts, np.ndarray) and len(counts) == len(fleet) and averaged):
            raise ValueError("swap: needs the network, or the fleet, whose training this callback has averaged last")
        if any(optimizer is None for group in fleet._groups for optimizer in group.optimizers):
            raise ValueError(_MINIMISED)
        for group in fleet._groups:
            group.state.swap(np.flatnonzero(counts[group.members] > 0))
            self.swapped[group.members] = group.state.is_swapped

    def finish(self, state: TrainingState) -> None:
        """Give the network the average, if that is wanted and there is one; called where training was not cut short."""
        if self.restore and self.n_averaged and not state.swapped:
            state.swap()
        self.swapped = state.swapped


def _checked_start(start: Any) -> float:
    """Return a share of the epochs, which is a float, or a number of them, which is none."""
    is_share, is_count = isinstance(start, (float, np.floating)), isinstance(start, (int, np.integer))
    if is_share and 0 < start < 1:
        return float(start)
    if is_count and not isinstance(start, bool) and start >= 0:
        return min(int(start), pace.MOST_EPOCHS)
    error = ValueError if is_share or is_count else TypeError
    needed = "a number of epochs, an integer >= 0, or a share of them, a float > 0 and < 1"
    raise error(f"start: needs {needed}, got {check.shown(start)}")


@dataclass(eq=False)
class ExponentialMovingAverage(WeightAveraging):
    """Averages the parameters over the steps, later ones counting more.

    ::

        average = parameters                                                (the first step that counts)
        average += (1 - decay) * (parameters - average)                     (each later one)

    As PyTorch's ``AveragedModel`` with ``get_ema_multi_avg_fn``. The average is that of the last ``1 / (1 - decay)``
    steps or so; it is less noisy than the parameters and often predicts better. From B. T. Polyak and A. B. Juditsky,
    "Acceleration of stochastic approximation by averaging", SIAM J. Control Optim. 1992, and, with the decay, from
    PyTorch's, TensorFlow's and others' training of large networks.

    Parameters
    ----------
    decay
        How much of the average is kept at each step, 0 < decay < 1.
    start
        When it begins: a number of epochs of this call of `fit` that are left out, >= 0, or as a float the share of all
        of them, in (0, 1).
    every_steps
        Steps from one that counts to the next, >= 1, counted from `start`; None for the last one of each epoch.
    evaluate
        Whether ``"val_loss"`` and the metrics, and with them `EarlyStopping` and the like, are of the average, once
        there is one. ``"loss"`` always is that of the steps.
    restore
        Whether the network has the average when training ends. After Ctrl-C and other exceptions, and where training
        diverges, it keeps the last parameters. The best ones of ``EarlyStopping(restore_best=True)`` come before both.

    Attributes
    ----------
    n_averaged : int
        How many sets of parameters are in the average, when training has ended; of a fleet an array, (size,).
    swapped : bool
        Whether the network has the average, and its training state the parameters of the last step; `swap` exchanges
        the two. Of a fleet an array, (size,).

    Raises
    ------
    TypeError, ValueError
        If a parameter is wrong; the message says which.

    Notes
    -----
    Each call of `fit` begins a new average, from the parameters that the network has, unless it resumes. Then it goes
    on from the parameters of the last step, whatever was restored. There can be one average in a call. Dropout,
    penalties and bounds of norms belong to the steps. The average has the dtype of the network.

    `Fleet.fit` averages each member as `Network.fit` does. The estimators keep the average as what they have learned,
    and their validation scores are of it; `partial_fit`, each call of which is one epoch, refuses averages.

    Examples
    --------
    >>> import backprop as bp
    >>> X, y = [[0.0], [1.0], [2.0]], [1.0, 3.1, 4.9]
    >>> net = bp.Network(1, [bp.Dense(1)], dtype="float64", seed=0)
    >>> average = bp.callbacks.ExponentialMovingAverage(decay=0.99, start=0.5)
    >>> history = net.fit(X, y, optimizer=bp.SGD(learning_rate=0.1), batch_size=1, epochs=400, callbacks=[average])
    >>> average.n_averaged, average.swapped
    (600, True)
    >>> smooth = net.loss(X, y)
    >>> average.swap(net)  # the parameters of the last step
    >>> smooth < net.loss(X, y)
    True
    """

    decay: float = 0.999

    def __post_init__(self) -> None:
        WeightAveraging.__post_init__(self)
        self.decay = check.number("decay", self.decay, above=0, below=1)

    def average(self, epochs: int) -> Average:
        """Return what the core does in a run of so many epochs."""
        rule = WeightAveraging.average(self, epochs)
        return Average(decay=self.decay, start=rule.start, every=rule.every, measured=rule.measured)


@dataclass(eq=False)
class StochasticWeightAveraging(WeightAveraging):
    """Averages the parameters of the last part of a run, all of them counting the same.

    ::

        average += (parameters - average) / n                               (the n-th that counts, from 1)

    By default once at the end of each epoch of the last quarter, as P. Izmailov et al. have it, "Averaging weights
    leads to wider optima and better generalization", UAI 2018, and as PyTorch's ``AveragedModel`` does. They keep the
    learning rate high there: let a schedule end at `start`, with a factor that stays.

    Parameters
    ----------
    start, every_steps, evaluate, restore
        See `ExponentialMovingAverage`.

    Attributes
    ----------
    n_averaged, swapped
        See `ExponentialMovingAverage`.

    Raises
    ------
    TypeError, ValueError
        If a parameter is wrong; the message says which.

    Notes
    -----
    The average has the dtype of the network, as PyTorch's. In float32, each set of parameters that comes in rounds it:
    after 100,000 of them it is right to about 1e-5. One for each epoch, the default, or ``every_steps=100`` brings far
    fewer in.

    Examples
    --------
    >>> import backprop as bp
    >>> X, y = [[0.0], [1.0], [2.0]], [1.0, 3.1, 4.9]
    >>> net = bp.Network(1, [bp.Dense(1)], dtype="float64", seed=0)
    >>> average = bp.callbacks.StochasticWeightAveraging()
    >>> history = net.fit(X, y, optimizer=bp.SGD(learning_rate=0.1), batch_size=1, epochs=400, callbacks=[average])
    >>> average.n_averaged
    100
    """

    _: KW_ONLY
    start: float = 0.75
    every_steps: int | None = None


def only_averages(callback: Callback) -> bool:
    """Whether a callback does nothing but average: all of its work is inside the core."""
    return type(callback) in (ExponentialMovingAverage, StochasticWeightAveraging)


def only_average(callbacks: Sequence[Callback]) -> WeightAveraging | None:
    """Return the one that averages, if any."""
    found = [callback for callback in callbacks if isinstance(callback, WeightAveraging)]
    if len(found) > 1:
        raise ValueError(f"callbacks: needs at most one that averages the parameters, got {len(found)}")
    return found[0] if found else None
