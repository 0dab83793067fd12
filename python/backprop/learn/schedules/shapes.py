"""Schedules with a formula."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from backprop.base import checks as check
from backprop.learn.schedules.schedule import Schedule, checked_length


@dataclass(frozen=True, slots=True, kw_only=True)
class Constant(Schedule):
    """``factor``, always.

    Parameters
    ----------
    factor
        The factor, > 0.
    every
        Without effect here.

    Raises
    ------
    TypeError, ValueError
        If a parameter is wrong; the message says which.

    Examples
    --------
    >>> import numpy as np
    >>> Constant(factor=0.5).factors(np.arange(3))
    array([0.5, 0.5, 0.5])
    """

    factor: float = 1.0

    def __post_init__(self) -> None:
        Schedule.__post_init__(self)
        check.number("factor", self.factor, above=0)

    def formula(self, t: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the factors at `t`."""
        return np.full(t.shape, float(self.factor))


@dataclass(frozen=True, slots=True, kw_only=True)
class StepDecay(Schedule):
    """``decay ** floor(t / length)``: a drop after every `length`. PyTorch's ``StepLR``.

    Parameters
    ----------
    length
        How long each stair is, >= 1.
    decay
        Factor between one stair and the next, > 0.
    every
        ``"step"`` or ``"epoch"``.

    Raises
    ------
    TypeError, ValueError
        If a parameter is wrong; the message says which.

    Examples
    --------
    >>> import numpy as np
    >>> StepDecay(length=2, decay=0.5).factors(np.arange(5))
    array([1.  , 1.  , 0.5 , 0.5 , 0.25])
    """

    length: int
    decay: float = 0.1

    def __post_init__(self) -> None:
        Schedule.__post_init__(self)
        checked_length("length", self.length)
        check.number("decay", self.decay, above=0)

    def formula(self, t: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the factors at `t`."""
        return np.power(float(self.decay), t // self.length)


@dataclass(frozen=True, slots=True, kw_only=True)
class Exponential(Schedule):
    """``decay ** t``. PyTorch's ``ExponentialLR``.

    Parameters
    ----------
    decay
        Factor between one step or epoch and the next, > 0.
    every
        ``"step"`` or ``"epoch"``.

    Raises
    ------
    TypeError, ValueError
        If a parameter is wrong; the message says which.

    Examples
    --------
    >>> import numpy as np
    >>> Exponential(decay=0.5).factors(np.arange(4))
    array([1.   , 0.5  , 0.25 , 0.125])
    """

    decay: float

    def __post_init__(self) -> None:
        Schedule.__post_init__(self)
        check.number("decay", self.decay, above=0)

    def formula(self, t: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the factors at `t`."""
        return np.power(float(self.decay), t)


@dataclass(frozen=True, slots=True, kw_only=True)
class InverseScaling(Schedule):
    """``(1 + rate * t) ** -power``.

    scikit-learn's ``"invscaling"`` is ``InverseScaling(power=power_t, rate=n_rows, every="epoch")``.

    Parameters
    ----------
    power
        How fast it falls in the end, > 0.
    rate
        How soon it begins to fall, > 0.
    every
        ``"step"`` or ``"epoch"``.

    Raises
    ------
    TypeError, ValueError
        If a parameter is wrong; the message says which.

    Examples
    --------
    >>> import numpy as np
    >>> InverseScaling(power=0.5).factors(np.array([0, 3, 99]))
    array([1. , 0.5, 0.1])
    """

    power: float = 0.5
    rate: float = 1.0

    def __post_init__(self) -> None:
        Schedule.__post_init__(self)
        check.number("power", self.power, above=0)
        check.number("rate", self.rate, above=0)

    def formula(self, t: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the factors at `t`."""
        factors: NDArray[np.float64] = np.power(1.0 + self.rate * t, -float(self.power))
        return factors


@dataclass(frozen=True, slots=True, kw_only=True)
class Cosine(Schedule):
    """``end + (1 - end) / 2 * (1 + cos(pi * t / length))`` up to `length`, and `end` from there on.

    With ``restarts`` it begins again at 1 each time the end is reached, and each time takes `growth` times as long as
    the last. PyTorch's ``CosineAnnealingLR``, which swings up again in place of staying, and
    ``CosineAnnealingWarmRestarts``. From I. Loshchilov and F. Hutter, "SGDR: Stochastic gradient descent with warm
    restarts", ICLR 2017.

    Parameters
    ----------
    length
        How long the (first) descent takes, >= 1.
    end
        The factor at its end, >= 0.
    restarts
        Whether it begins again.
    growth
        By how much each descent is longer than the last, an integer >= 1.
    every
        ``"step"`` or ``"epoch"``.

    Raises
    ------
    TypeError, ValueError
        If a parameter is wrong; the message says which.

    Examples
    --------
    >>> import numpy as np
    >>> Cosine(length=4).factors(np.arange(6)).round(3)
    array([1.   , 0.854, 0.5  , 0.146, 0.   , 0.   ])
    >>> Cosine(length=2, restarts=True, growth=2).factors(np.arange(7)).round(3)
    array([1.   , 0.5  , 1.   , 0.854, 0.5  , 0.146, 1.   ])
    """

    length: int
    end: float = 0.0
    restarts: bool = False
    growth: int = 1

    def __post_init__(self) -> None:
        Schedule.__post_init__(self)
        checked_length("length", self.length)
        check.number("end", self.end, at_least=0)
        check.boolean("restarts", self.restarts)
        checked_length("growth", self.growth)
        if self.growth > 1 and not self.restarts:
            raise ValueError(f"growth: needs restarts=True, got {self.growth}")

    def formula(self, t: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the factors at `t`."""
        if not self.restarts:
            done = np.minimum(t, self.length) / self.length
        elif self.growth == 1:
            done = t % self.length / self.length
        else:
            starts, lengths = [0], [self.length]
            while starts[-1] + lengths[-1] <= t.max(initial=0):
                starts.append(starts[-1] + lengths[-1])
                lengths.append(lengths[-1] * self.growth)
            descent = np.searchsorted(starts, t, side="right") - 1
            done = (t - np.array(starts)[descent]) / np.array(lengths, float)[descent]
        return _cosine(1.0, self.end, done)


@dataclass(frozen=True, slots=True, kw_only=True)
class Warmup(Schedule):
    """A straight line from `start` to 1 over `length`, and 1 from there on. PyTorch's ``LinearLR``.

    Parameters
    ----------
    length
        How long it takes, >= 1.
    start
        The factor at ``t = 0``, >= 0.
    every
        ``"step"`` or ``"epoch"``.

    Raises
    ------
    TypeError, ValueError
        If a parameter is wrong; the message says which.

    Examples
    --------
    >>> import numpy as np
    >>> Warmup(length=4, start=0.0).factors(np.arange(6))
    array([0.  , 0.25, 0.5 , 0.75, 1.  , 1.  ])
    """

    length: int
    start: float = 0.01

    def __post_init__(self) -> None:
        Schedule.__post_init__(self)
        checked_length("length", self.length)
        check.number("start", self.start, at_least=0)

    def formula(self, t: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the factors at `t`."""
        return _line(float(self.start), 1.0, np.minimum(t, self.length) / self.length)


@dataclass(frozen=True, slots=True, kw_only=True)
class OneCycle(Schedule):
    """Up from `start` to 1, then down to `end`, over `length` in all; `end` from there on.

    The optimizer's ``learning_rate`` is the highest one. With the defaults PyTorch's ``OneCycleLR``, which also moves
    the momentum if told to. From L. N. Smith and N. Topin, "Super-convergence: very fast training of neural networks
    using large learning rates" (2018).

    Parameters
    ----------
    length
        How long all of it takes, >= 2.
    peak
        The share of `length` after which 1 is reached, 0 < peak < 1.
    start, end
        The factors at the beginning, > 0, and at the end, >= 0.
    shape
        ``"cosine"`` or ``"linear"``.
    every
        ``"step"`` or ``"epoch"``.

    Raises
    ------
    TypeError, ValueError
        If a parameter is wrong; the message says which.

    Examples
    --------
    >>> import numpy as np
    >>> OneCycle(length=6, peak=0.5, start=0.5, end=0.1, shape="linear").factors(np.arange(7))
    array([0.5 , 0.75, 1.  , 0.7 , 0.4 , 0.1 , 0.1 ])
    """

    length: int
    peak: float = 0.3
    start: float = 1 / 25
    end: float = 1 / 25e4
    shape: Literal["cosine", "linear"] = "cosine"

    def __post_init__(self) -> None:
        Schedule.__post_init__(self)
        checked_length("length", self.length, at_least=2)
        check.number("peak", self.peak, above=0, below=1)
        check.number("start", self.start, above=0)
        check.number("end", self.end, at_least=0)
        check.choice("shape", self.shape, ("cosine", "linear"))

    def formula(self, t: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the factors at `t`."""
        between = _cosine if self.shape == "cosine" else _line
        last = self.length - 1
        top = max(self.peak * self.length - 1, 0.0)
        down = between(1.0, self.end, np.clip((t - top) / (last - top), 0, 1))
        if top == 0:
            return down
        return np.where(t <= top, between(self.start, 1.0, np.minimum(t / top, 1)), down)


def _line(start: float, end: float, done: NDArray[np.float64]) -> NDArray[np.float64]:
    return start + (end - start) * done


def _cosine(start: float, end: float, done: NDArray[np.float64]) -> NDArray[np.float64]:
    return end + (start - end) / 2 * (1 + np.cos(np.pi * done))
