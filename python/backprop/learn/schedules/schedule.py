"""What the schedules share, and those that are made of others or of a function."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from backprop.base import checks as check

Unit = Literal["step", "epoch"]
UNITS = ("step", "epoch")

# dataclass(slots=True) makes a second class, which super() without arguments does not know before Python 3.14;
# therefore the __post_init__ of the base class is called by its name.

LONGEST = 10**17
"""Of a length; steps are counted in 64 bits."""
_NEVER = 2**63 - 1
"""The start of what begins after more steps than can be counted"""


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
        check.make_plain(self)
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Product(Schedule):
    """The product of other schedules; ``a * b`` makes it of two.

    Parameters
    ----------
    parts
        The schedules, at least one; each counts in its own unit.
    every
        Without effect here.

    Raises
    ------
    TypeError, ValueError
        If a parameter is wrong; the message says which.

    Examples
    --------
    >>> import numpy as np
    >>> from backprop.schedules import StepDecay, Warmup
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

    Raises
    ------
    TypeError, ValueError
        If a parameter is wrong; the message says which.

    Examples
    --------
    >>> import numpy as np
    >>> from backprop.schedules import Cosine, Warmup
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
        lengths = tuple(checked_length(f"lengths[{k}]", length) for k, length in enumerate(self.lengths))
        if len(lengths) != len(self.parts) - 1:
            raise ValueError(
                f"lengths: needs {len(self.parts) - 1}, one for each part but the last, got {len(lengths)}"
            )
        object.__setattr__(self, "lengths", lengths)

    def factors(self, steps: NDArray[np.int64], steps_per_epoch: int = 1) -> NDArray[np.float64]:
        """Return the factors at these steps."""
        unit = 1 if self.every == "step" else steps_per_epoch
        starts = np.array([min(unit * start, _NEVER) for start in accumulate(self.lengths, initial=0)])
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

    Raises
    ------
    TypeError, ValueError
        If a parameter is wrong; the message says which.

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


def _parts(parts: Any) -> tuple[Schedule, ...]:
    if not isinstance(parts, Sequence) or not parts:
        raise TypeError(f"parts: needs a sequence of at least one schedule, got {check.shown(parts)}")
    for k, part in enumerate(parts):
        if not isinstance(part, Schedule):
            raise TypeError(f"parts[{k}]: needs a schedule, got {check.shown(part)}")
    return tuple(parts)


def checked_length(name: str, value: Any, at_least: int = 1) -> int:
    """Return a number of steps or epochs that can be counted to."""
    return check.integer(name, check.integer(name, value, at_least=at_least), at_most=LONGEST)
