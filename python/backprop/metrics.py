"""Metrics by name, what `fit` measures after each epoch beside the loss; and the curves of a report."""

from typing import TYPE_CHECKING

from backprop.learn.metrics import *
from backprop.learn.ranking import *

if not TYPE_CHECKING:  # type checkers read the imports
    from backprop.learn import metrics, ranking

    __all__ = [*metrics.__all__, *ranking.__all__]
    del metrics, ranking
