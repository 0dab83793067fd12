"""Metrics by name: what `fit` measures after each epoch beside the loss."""

from typing import TYPE_CHECKING

from backprop.learn.metrics import *

if not TYPE_CHECKING:  # type checkers read the imports
    from backprop.learn import metrics

    __all__ = metrics.__all__
    del metrics
