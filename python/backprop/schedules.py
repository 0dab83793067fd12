"""Schedules of the learning rate: factors on the optimizer's ``learning_rate``, one for each step."""

from backprop.learn.schedules import (
    SCHEDULES,
    UNITS,
    Constant,
    Cosine,
    Custom,
    Exponential,
    InverseScaling,
    OneCycle,
    Product,
    Schedule,
    Sequential,
    StepDecay,
    Warmup,
    as_schedule,
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
