"""Minimizers over all rows; the docstring of each has its formulas."""

from typing import TYPE_CHECKING

from backprop.learn.solution import Solution
from backprop.reference.solvers import *

if not TYPE_CHECKING:  # type checkers read the imports
    from backprop.reference import solvers

    __all__ = ["Solution", *solvers.__all__]
    del solvers
