"""Schedules of the learning rate: factors on the optimizer's ``learning_rate``, one for each step.

A schedule is a formula in ``t``, which counts from 0: steps (``every="step"``) or whole epochs (``every="epoch"``). It
goes on over several calls of ``fit``; ``fit(..., initial_epoch=0)`` starts it again. The factors are worked out for
many steps at a time and handed to the core as arrays, so that a schedule of this module costs next to nothing.

>>> import numpy as np
>>> import backprop as bp
>>> warm = bp.schedules.Warmup(length=2, start=0.5)
>>> falling = bp.schedules.Exponential(decay=0.1)
>>> bp.schedules.Sequential(parts=(warm, falling), lengths=(2,)).factors(np.arange(5))
array([0.5 , 0.75, 1.  , 0.1 , 0.01])
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from backprop.base import checks as check

__all__ = [
    "SCHEDULES",
    "UNITS",
    "Constant",
    "Cosine",
    "Custom",
    "Exponential",
    "InverseScaling",
    "OneCycle",
    "Product",
    "Schedule",
    "Sequential",
    "StepDecay",
    "Warmup",
    "as_schedule",
]

Unit = Literal["step", "epoch"]
UNITS = ("step", "epoch")


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """What the schedules share. A class of one's own overrides `formula`.

    Parameters
    ----------
    every
        What ``t`` and all lengths count: ``"step"`` or ``"epoch"``.

    Examples
    --------
    >>> import numpy as np
    >>> from dataclasses import dataclass
    >>> @dataclass(frozen=True, kw_only=True)
    ... class Hyperbolic(Schedule):
    ...     def formula(self, t):
    ...         return 1 / (1 + t)
    >>> Hyperbolic(every="epoch").factors(np.arange(4), steps_per_epoch=2)
    array([1. , 1. , 0.5, 0.5])
    """

    every: Unit = "step"

    def __post_init__(self) -> None:
        check.choice("every", self.every, UNITS)

    def formula(self, t: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the factors at `t`, which counts what `every` says."""
        raise NotImplementedError

    def factors(self, steps: NDArray[np.int64], steps_per_epoch: int = 1) -> NDArray[np.float64]:
        """Return the factors at these steps, which count from 0."""
        return self.formula(self.units(steps, steps_per_epoch))

    def units(self, steps: NDArray[np.int64], steps_per_epoch: int) -> NDArray[np.int64]:
        """Return `steps` in the schedule's own unit."""
        return steps if self.every == "step" else steps // steps_per_epoch

    def __mul__(self, other: Schedule) -> Product:
        return Product(parts=(self, other)) if isinstance(other, Schedule) else NotImplemented


# dataclass(slots=True) makes a second class, which super() without arguments does not know before Python 3.14;
# therefore the __post_init__ of the base class is called by its name.


@dataclass(frozen=True, slots=True, kw_only=True)
class Constant(Schedule):
    """``factor``, always.

    Parameters
    ----------
    factor
        The factor, > 0.
    every
        Without effect here.

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
        check.integer("length", self.length, at_least=1)
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
        check.integer("length", self.length, at_least=1)
        check.number("end", self.end, at_least=0)
        check.boolean("restarts", self.restarts)
        check.integer("growth", self.growth, at_least=1)
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
        check.integer("length", self.length, at_least=1)
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
        check.integer("length", self.length, at_least=2)
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Product(Schedule):
    """The product of other schedules; ``a * b`` makes it of two.

    Parameters
    ----------
    parts
        The schedules, at least one; each counts in its own unit.
    every
        Without effect here.

    Examples
    --------
    >>> import numpy as np
    >>> both = Warmup(length=2, start=0.5) * StepDecay(length=3, decay=0.1)
    >>> both.factors(np.arange(5))
    array([0.5 , 0.75, 1.  , 0.1 , 0.1 ])
    """

    parts: Sequence[Schedule]

    def __post_init__(self) -> None:
        Schedule.__post_init__(self)
        object.__setattr__(self, "parts", _parts(self.parts))

    def factors(self, steps: NDArray[np.int64], steps_per_epoch: int = 1) -> NDArray[np.float64]:
        """Return the factors at these steps."""
        factors = np.ones(steps.shape)
        for part in self.parts:
            factors *= part.factors(steps, steps_per_epoch)
        return factors


@dataclass(frozen=True, slots=True, kw_only=True)
class Sequential(Schedule):
    """One schedule after the other, each from its own beginning. PyTorch's ``SequentialLR``.

    Parameters
    ----------
    parts
        The schedules, at least one; each counts in its own unit.
    lengths
        How long each of them lasts, except for the last one, which goes on.
    every
        The unit of `lengths`.

    Examples
    --------
    >>> import numpy as np
    >>> parts = (Warmup(length=2, start=0.5), Cosine(length=2))
    >>> Sequential(parts=parts, lengths=(2,)).factors(np.arange(6)).round(3)
    array([0.5 , 0.75, 1.  , 0.5 , 0.  , 0.  ])
    """

    parts: Sequence[Schedule]
    lengths: Sequence[int]

    def __post_init__(self) -> None:
        Schedule.__post_init__(self)
        object.__setattr__(self, "parts", _parts(self.parts))
        if isinstance(self.lengths, str) or not isinstance(self.lengths, Sequence):
            raise TypeError(f"lengths: needs a sequence of integers, got {check.shown(self.lengths)}")
        lengths = tuple(check.integer(f"lengths[{k}]", length, at_least=1) for k, length in enumerate(self.lengths))
        if len(lengths) != len(self.parts) - 1:
            raise ValueError(
                f"lengths: needs {len(self.parts) - 1}, one for each part but the last, got {len(lengths)}"
            )
        object.__setattr__(self, "lengths", lengths)

    def factors(self, steps: NDArray[np.int64], steps_per_epoch: int = 1) -> NDArray[np.float64]:
        """Return the factors at these steps."""
        unit = 1 if self.every == "step" else steps_per_epoch
        starts = np.cumsum([0, *self.lengths]) * unit
        turns = np.searchsorted(starts, steps, side="right") - 1
        factors = np.empty(steps.shape)
        for turn, (part, start) in enumerate(zip(self.parts, starts, strict=True)):
            now = turns == turn
            if now.any():
                factors[now] = part.factors(steps[now] - start, steps_per_epoch)
        return factors


@dataclass(frozen=True, slots=True, kw_only=True)
class Custom(Schedule):
    """Any function of one number ``t``; it is called once for every step or epoch.

    Parameters
    ----------
    function
        Takes ``t`` as an integer and returns the factor, finite and >= 0.
    every
        ``"step"`` or ``"epoch"``. A function that is given to ``fit`` as it is counts steps.

    Examples
    --------
    >>> import numpy as np
    >>> Custom(function=lambda t: 1.0 if t < 2 else 0.1).factors(np.arange(4))
    array([1. , 1. , 0.1, 0.1])
    """

    function: Callable[[int], float]

    def __post_init__(self) -> None:
        Schedule.__post_init__(self)
        if not callable(self.function):
            raise TypeError(f"function: needs a function, got {check.shown(self.function)}")

    def formula(self, t: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the factors at `t`."""
        different, where = np.unique(t, return_inverse=True)
        values = [check.number(f"schedule({k})", self.function(k), at_least=0) for k in different.tolist()]
        return np.array(values, np.float64)[where]


SCHEDULES: Mapping[str, type[Schedule]] = MappingProxyType(
    {
        "constant": Constant,
        "step_decay": StepDecay,
        "exponential": Exponential,
        "inverse_scaling": InverseScaling,
        "cosine": Cosine,
        "warmup": Warmup,
        "one_cycle": OneCycle,
        "product": Product,
        "sequential": Sequential,
        "custom": Custom,
    }
)


def as_schedule(name: str, value: Any) -> Schedule:
    """Return a schedule: the one given, or one made of a function of the step number."""
    if isinstance(value, Schedule):
        return value
    if isinstance(value, type) and issubclass(value, Schedule):
        raise TypeError(f"{name}: needs an object, got the class {value.__name__}; write {value.__name__}(...)")
    if callable(value):
        return Custom(function=value)
    kinds = ", ".join(kind.__name__ for kind in SCHEDULES.values())
    raise TypeError(f"{name}: needs None, a function of the step number or one of {kinds}, got {check.shown(value)}")


def _parts(parts: Any) -> tuple[Schedule, ...]:
    if not isinstance(parts, Sequence) or not parts:
        raise TypeError(f"parts: needs a sequence of at least one schedule, got {check.shown(parts)}")
    for k, part in enumerate(parts):
        if not isinstance(part, Schedule):
            raise TypeError(f"parts[{k}]: needs a schedule, got {check.shown(part)}")
    return tuple(parts)


def _line(start: float, end: float, done: NDArray[np.float64]) -> NDArray[np.float64]:
    return start + (end - start) * done


def _cosine(start: float, end: float, done: NDArray[np.float64]) -> NDArray[np.float64]:
    return end + (start - end) / 2 * (1 + np.cos(np.pi * done))
