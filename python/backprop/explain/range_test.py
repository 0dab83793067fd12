"""The learning-rate range test: which rates train a network, found out in one short run."""

from __future__ import annotations

import math
from copy import deepcopy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from backprop.backends.custom import LossLike
from backprop.base import checks as check
from backprop.base import threads
from backprop.base.interrupts import HeldInterrupts
from backprop.base.keywords import explained
from backprop.base.random import shuffled
from backprop.base.types import Data, TrainingSettings
from backprop.learn.fit import checked_threads
from backprop.learn.job import Job
from backprop.learn.start import begin
from backprop.model.model import Model
from backprop.model.objective import Objective
from backprop.model.records import RangeRecord
from backprop.reference.optimizers import OPTIMIZERS, Optimizer, Rprop

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SMOOTHING = 0.98
DIVERGED = 4.0
"""The test ends where the smoothed loss is so many times its lowest value."""
SHARE = 0.1
"""of the rate with the lowest smoothed loss that is suggested"""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class RangeTest(RangeRecord):
    """What `find_learning_rate` found; k counts the steps that were done.

    Attributes
    ----------
    rates : ndarray
        The learning rate of each step, (k,), float64.
    losses : ndarray
        The loss of each step's batch before it, without dropout, (k,).
    smoothed : ndarray
        Where the loss has come to, (k,): the moving average ``m = 0.98 m + 0.02 d`` from 0, divided by ``1 - 0.98**k``,
        k from 1, of what training has changed, ``d = loss - loss of the same batch at the start``, plus the mean of the
        latter. So it does not matter that some batches are harder than others.
    suggestion : float
        A tenth of the rate at which `smoothed` is lowest.
    diverged : bool
        Whether the test ended because the smoothed loss had risen to 4 times its lowest value, or was not finite. If
        not, larger rates may be as good.
    """

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw losses over rates; see `backprop.plotting.plot_range_test`."""
        from backprop.plotting import plot_range_test

        return plot_range_test(self, ax)

    def __repr__(self) -> str:
        end = "diverged" if self.diverged else "did not diverge"
        return (
            f"RangeTest(suggestion={self.suggestion:.2g}, {len(self.rates)} steps, {self.rates[0]:.2g} to "
            f"{self.rates[-1]:.2g}, {end})"
        )


@explained
def find_learning_rate(
    network: Model,
    X: ArrayLike,
    y: ArrayLike,
    *,
    optimizer: str | Optimizer = "adam",
    loss: LossLike = "auto",
    batch_size: int | None = 32,
    sample_weight: ArrayLike | None = None,
    lowest: float = 1e-6,
    highest: float = 10.0,
    steps: int = 100,
    n_threads: int | str = "auto",
) -> RangeTest:
    """Train a copy of a network with a learning rate that rises step by step, and suggest one; nothing is changed.

    ::

        rate_k = lowest * (highest / lowest) ** (k / (steps - 1)),    k = 0, 1, ... until the loss explodes

    As L. N. Smith has it, "Cyclical learning rates for training neural networks", WACV 2017, with exponentially rising
    rates, as in fastai. Where the rate is too small nothing happens, then the loss falls, and in the end it explodes.
    The rate with the lowest smoothed loss is already on the way up: a tenth of it is suggested.

    Parameters
    ----------
    network
        What the copy is made of, with its parameters; what an optimizer remembers is left out.
    X, y, loss, sample_weight, batch_size, n_threads
        As in `Network.fit`. Batches are drawn as there, epoch after epoch.
    optimizer
        A name or an object from `backprop.optimizers`, but `Rprop`, whose steps do not depend on the rate. Its own
        ``learning_rate`` does not count.
    lowest, highest
        From where to where the rates go, > 0.
    steps
        How many steps there are at most, >= 10; each takes one batch.

    Returns
    -------
    RangeTest
        Rates, losses, the suggestion; its ``plot()`` draws them. The same network, rows and arguments give the same
        numbers, by the network's seed.

    Raises
    ------
    TypeError, ValueError
        If an argument is wrong, the loss of the first step is not finite, or no rate makes it fall.

    Notes
    -----
    The test is short, so it says what is good for the first steps. With batches that differ a lot, take more steps or
    larger batches. For a schedule that goes down, such as `schedules.OneCycle`, start somewhat higher.

    Examples
    --------
    >>> import numpy as np
    >>> import backprop as bp
    >>> X = np.linspace(-1, 1, 200)[:, None]
    >>> net = bp.mlp([1, 16, 1], hidden="tanh", dtype="float64", seed=0)
    >>> test = bp.find_learning_rate(net, X, np.sin(3 * X))
    >>> 0.001 < test.suggestion < 1.0
    True
    >>> history = net.fit(X, np.sin(3 * X), optimizer=bp.Adam(learning_rate=test.suggestion), epochs=400)
    >>> bool(history.loss[-1] < 0.1 * history.loss[0])
    True
    """
    if not isinstance(network, Model):
        raise TypeError(f"network: needs a Network, got {check.shown(network)}")
    if not any(array.trainable for array in network._layout):
        raise ValueError("network: needs at least one layer that is trainable, got none")
    optimizer = check.setting("optimizer", optimizer, Optimizer, OPTIMIZERS)
    if isinstance(optimizer, Rprop):
        raise ValueError("optimizer: needs one whose steps depend on the learning rate, got Rprop")
    lowest = check.number("lowest", lowest, above=0)
    highest = check.number("highest", highest, above=lowest)
    steps = check.integer("steps", steps, at_least=10)
    checked, data = network._data(X, y, loss, sample_weight, custom=True)
    n_rows = len(data.X)
    if batch_size is None or check.integer("batch_size", batch_size, at_least=1, clipped=True) > n_rows:
        batch_size = n_rows
    used = checked_threads(n_threads, 6.0 * network.n_parameters * batch_size, network._core.MAX_THREADS)
    settings = TrainingSettings(n_threads=used, fixed_threads=threads.are_fixed())
    rates = np.geomspace(lowest, highest, steps)
    found = _found(deepcopy(network), checked, data, optimizer, settings, batch_size, rates)
    if not found.losses:
        raise ValueError("find_learning_rate: needs a start where the loss is finite: look at X, y and the parameters")
    smoothed = found.smoothed()
    if min(found.changed) >= 0:
        raise ValueError(
            f"find_learning_rate: needs a rate at which the loss falls, there is none from {lowest:g} to "
            f"{rates[len(smoothed) - 1]:g}: lower rates, or a network that has something to learn"
        )
    return RangeTest(
        rates=rates[: len(smoothed)], losses=np.array(found.losses), smoothed=smoothed,
        diverged=len(smoothed) < steps or found.exploded(), suggestion=SHARE * float(rates[int(smoothed.argmin())]),
    )  # fmt: skip


@dataclass(slots=True)
class Found:
    """The losses of the steps that were done, and the moving average of what training has changed."""

    losses: list[float] = field(default_factory=list)
    changed: list[float] = field(default_factory=list)
    mean: float = 0.0
    lowest: float = math.inf
    at_start: float = 0.0
    """the sum of the losses of the same batches with the parameters at the start"""

    def add(self, loss: float, before: float) -> None:
        """Enter the loss of a step's batch, and that of the same batch at the start."""
        self.losses.append(loss)
        self.mean = SMOOTHING * self.mean + (1 - SMOOTHING) * (loss - before)
        changed = self.mean / (1 - SMOOTHING ** len(self.losses))  # without the bias of its beginning at 0
        self.changed.append(changed)
        self.lowest = min(self.lowest, changed)
        self.at_start += before

    def smoothed(self) -> NDArray[np.float64]:
        """Return where the loss has come to, beside the mean loss at the start."""
        return np.array(self.changed) + self.at_start / len(self.losses)

    def exploded(self) -> bool:
        """Whether the last of these is far above the lowest."""
        level = self.at_start / len(self.losses)
        last = self.changed[-1] + level
        return last > DIVERGED * abs(self.lowest + level) and last > self.changed[0] + level


def _found(
    network: Model,
    loss: Any,
    data: Data,
    optimizer: Optimizer,
    settings: TrainingSettings,
    size: int,
    rates: NDArray[np.float64],
) -> Found:
    """Train the network, a step with each rate, until the loss explodes; return the finite losses before the steps."""
    start = network.parameters.copy()
    network._state = network._optimizer = None
    state = begin(network, optimizer, settings, len(data.X), None)
    found = Found()
    order, at, loss_of_step = np.arange(len(data.X)), len(data.X), np.empty(1)
    with HeldInterrupts() as interrupts:
        for rate in rates:
            if at >= len(order):
                order, at = shuffled(len(order), state.bit_generator) if size < len(order) else order, 0
            rows, at = order[at : at + size], at + size
            batch = data if size == len(order) else _some(data, rows)
            objective = Objective(network._core, network._plan, network.layers, loss, batch)
            now, before = objective(state.parameters), objective(start)  # without dropout, which would hide the rest
            if not (math.isfinite(now) and math.isfinite(before)):
                break
            found.add(float(now), float(before))
            job = Job(network, loss, optimizer, settings, batch, state, None)
            stop = job.training(np.array([rate])).run(state.epoch + 1, math.inf, loss_of_step)
            if stop == "diverged" or found.exploded():
                break
            interrupts.deliver()
    return found


def _some(data: Data, rows: NDArray[np.int64]) -> Data:
    weight = None if data.sample_weight is None else data.sample_weight[rows]
    return Data(data.X[rows], data.targets[rows], weight)
