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

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from backprop.base import checks as check
from backprop.base.keywords import explain
from backprop.learn.schedules.schedule import UNITS, Custom, Product, Schedule, Sequential
from backprop.learn.schedules.shapes import (
    Constant,
    Cosine,
    Exponential,
    InverseScaling,
    OneCycle,
    StepDecay,
    Warmup,
)

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
explain(*SCHEDULES.values())


def as_schedule(name: str, value: Any) -> Schedule:
    """Return a schedule: the one given, or one made of a function of the step number."""
    if isinstance(value, Schedule):
        return value
    if isinstance(value, type) and issubclass(value, Schedule):
        raise TypeError(f"{name}: needs an object, got the class {value.__name__}; write {value.__name__}(...)")
    if callable(value):
        return Custom(function=value)
    kinds = ", ".join(kind.__name__ for kind in SCHEDULES.values())
    rate = "; a rate itself is the learning_rate of an optimizer, the learning_rate_init of an estimator"
    raise TypeError(
        f"{name}: needs None, a function of the step number or one of {kinds}, got {check.shown(value)}"
        f"{rate if isinstance(value, (int, float)) else ''}"
    )
