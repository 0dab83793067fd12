"""Initial weights and biases."""

from typing import TYPE_CHECKING

from backprop.reference.initializers import *

if not TYPE_CHECKING:  # type checkers read the imports
    from backprop.reference import initializers

    __all__ = initializers.__all__
    del initializers
