"""A line search with the strong Wolfe conditions.

From J. Moré and D. Thuente, "Line search algorithms with guaranteed sufficient decrease", ACM Transactions on
Mathematical Software 20 (1994). A search along a direction d from x finds a step s with

    f(x + s d) <= f(x) + DECREASE s f'(x; d)        abs(f'(x + s d; d)) <= CURVATURE abs(f'(x; d))

where f'(x; d) is the slope along d. It keeps an interval of steps that holds such a one, and shrinks it by cubic and
quadratic interpolation. The constants are those of L-BFGS-B, so that its path is known.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np

DECREASE = 1e-3
CURVATURE = 0.9
WIDTH = 0.1
"""The interval is narrow enough when its width is this share of its upper end."""
LONGEST = 1e10
"""The longest step, and where the first one is longer than 1, how many times that."""
_NEAR, _FAR = 1.1, 4.0
_SHRINK = 0.66

Verdict: TypeAlias = Literal["go on", "found", "exhausted"]


@dataclass(slots=True)
class End:
    """An end of the interval: a step, the function and its slope there."""

    step: float
    value: float
    slope: float

    @classmethod
    def of(cls, step: float, value: float, slope: float) -> End:
        """Return an end of NumPy's numbers, whose quotients may be infinite."""
        return cls(np.float64(step), np.float64(value), np.float64(slope))


@dataclass(slots=True)
class LineSearch:
    """A search that begins with a value, a slope below 0 and a first step; `take` tells it what was found there."""

    value: float
    slope: float
    step: float
    best: End = field(init=False)
    other: End = field(init=False)
    bracketed: bool = False
    """whether the interval holds a step that is searched for"""
    first_stage: bool = True
    lower: float = 0.0
    upper: float = field(init=False)
    most: float = field(init=False)
    width: float = field(init=False)
    width_before: float = field(init=False)

    def __post_init__(self) -> None:
        self.best = End.of(0.0, self.value, self.slope)
        self.other = End.of(0.0, self.value, self.slope)
        self.upper = self.step + _FAR * self.step
        self.most = self.width = LONGEST * max(1.0, self.step)
        self.width_before = 2 * self.width

    def take(self, value: float, slope: float) -> Verdict:
        """Enter the value and the slope at `step`; unless the search is over, `step` becomes the next one."""
        if not (math.isfinite(value) and math.isfinite(slope)):
            self.most = self.upper = self.step
            self.step = self.best.step + 0.5 * (self.step - self.best.step)
            return "go on"
        test = DECREASE * self.slope
        target = self.value + self.step * test
        if self.first_stage and value <= target and slope >= 0:
            self.first_stage = False
        if value <= target and abs(slope) <= CURVATURE * -self.slope:
            return "found"
        if self.bracketed and not (self.lower < self.step < self.upper and self._wide()):
            return "exhausted"
        if self.step == self.most and value <= target and slope <= test:
            return "exhausted"
        here = End.of(self.step, value, slope)
        if self.first_stage and target < value <= self.best.value:
            self._interpolate_above(here, test)
        else:
            self._interpolate(here)
        self._shrink()
        return "go on"

    def _wide(self) -> bool:
        return self.upper - self.lower > WIDTH * self.upper

    def _interpolate_above(self, here: End, test: float) -> None:
        """Interpolate the function above the line of sufficient decrease."""
        for end in (here, self.best, self.other):
            end.value -= end.step * test
            end.slope -= test
        self._interpolate(here)
        for end in (self.best, self.other):
            end.value += end.step * test
            end.slope += test

    def _interpolate(self, here: End) -> None:
        """Find the next step, and put `here` in place of an end of the interval."""
        best, other = self.best, self.other
        turns = here.slope * math.copysign(1.0, best.slope) < 0
        if here.value > best.value:
            cubic = _cubic(best, here)
            secant = (best.value - here.value) / (here.step - best.step) + best.slope
            parabola = best.step + best.slope / secant / 2 * (here.step - best.step)
            nearer = abs(cubic - best.step) < abs(parabola - best.step)
            step = cubic if nearer else cubic + (parabola - cubic) / 2
            self.bracketed = True
        elif turns:
            cubic, line = _cubic(here, best), _secant(here, best)
            step = cubic if abs(cubic - here.step) > abs(line - here.step) else line
            self.bracketed = True
        elif abs(here.slope) < abs(best.slope):
            step = self._beyond(here)
        elif self.bracketed:
            step = _cubic(here, other)
        else:
            step = self.upper if here.step > best.step else self.lower
        if here.value > best.value:
            self.other = here
        else:
            if turns:
                self.other = best
            self.best = here
        self.step = step

    def _beyond(self, here: End) -> float:
        """Return the next step where the slope falls and does not turn: the minimum may lie far beyond."""
        best, other = self.best, self.other
        ahead = here.step > best.step
        cubic, line = _cubic_beyond(here, best, self.upper if ahead else self.lower), _secant(here, best)
        cubic_is_nearer = abs(cubic - here.step) < abs(line - here.step)
        if self.bracketed:
            step = cubic if cubic_is_nearer else line
            bound = here.step + _SHRINK * (other.step - here.step)
            return min(bound, step) if ahead else max(bound, step)
        step = line if cubic_is_nearer or cubic == line else cubic
        return min(max(step, self.lower), self.upper)

    def _shrink(self) -> None:
        """See to it that the interval becomes shorter, and that the step lies in it."""
        best, other = self.best.step, self.other.step
        if self.bracketed:
            if abs(other - best) >= _SHRINK * self.width_before:
                self.step = best + 0.5 * (other - best)
            self.width_before, self.width = self.width, abs(other - best)
            self.lower, self.upper = min(best, other), max(best, other)
        else:
            self.lower = self.step + _NEAR * (self.step - best)
            self.upper = self.step + _FAR * (self.step - best)
        self.step = min(max(self.step, 0.0), self.most)
        if self.bracketed and not (self.lower < self.step < self.upper and self._wide()):
            self.step = best


def _terms(a: End, b: End) -> tuple[float, float]:
    """Return the terms of the cubic through two ends: the sum of differences, and the root with the sign it needs."""
    theta = 3 * (b.value - a.value) / (a.step - b.step) + a.slope + b.slope
    size = max(abs(theta), abs(a.slope), abs(b.slope))
    inside = (theta / size) ** 2 - a.slope / size * (b.slope / size)
    root = size * math.sqrt(max(inside, 0.0))
    return theta, root if b.step > a.step else -root


def _cubic(a: End, b: End) -> float:
    """Return the minimum of the cubic through two ends, reckoned from a."""
    theta, root = _terms(a, b)
    below = root - a.slope + root + b.slope
    share = (root - a.slope + theta) / below if below != 0 else 0.5
    return a.step + share * (b.step - a.step)


def _cubic_beyond(a: End, b: End, far: float) -> float:
    """Return the minimum of the cubic where it lies on the other side of a than b does, else `far`."""
    theta, root = _terms(a, b)
    below = root + (b.slope - a.slope) + root
    share = (root - a.slope + theta) / below if below != 0 else 0.0
    return a.step + share * (b.step - a.step) if share < 0 and root != 0 else far


def _secant(a: End, b: End) -> float:
    """Return where the line through the two slopes is 0."""
    return a.step + a.slope / (a.slope - b.slope) * (b.step - a.step)
