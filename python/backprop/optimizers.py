"""Optimizers; the docstring of each has its formula."""

from typing import TYPE_CHECKING

from backprop.reference.optimizers import *

if not TYPE_CHECKING:  # type checkers read the imports
    from backprop.reference import optimizers

    __all__ = optimizers.__all__
    del optimizers
