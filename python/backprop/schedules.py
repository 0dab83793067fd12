"""Schedules of the learning rate: factors on the optimizer's ``learning_rate``, one for each step."""

from typing import TYPE_CHECKING

from backprop.learn.schedules import *

if not TYPE_CHECKING:  # type checkers read the imports
    from backprop.learn import schedules

    __all__ = schedules.__all__
    del schedules
