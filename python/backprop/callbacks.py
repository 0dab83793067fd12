"""Callbacks: what `fit` calls while it trains."""

from typing import TYPE_CHECKING

from backprop.learn.callbacks import *

if not TYPE_CHECKING:  # type checkers read the imports
    from backprop.learn import callbacks

    __all__ = callbacks.__all__
    del callbacks
