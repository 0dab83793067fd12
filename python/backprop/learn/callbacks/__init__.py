"""Callbacks: what `fit` calls while it trains.

A callback is an object of a class made from `Callback`. Its methods get the network, so that they can predict, save or
stop it, the number of the epoch, counted from 1 over all calls of ``fit``, and ``logs``: what the last whole epoch
recorded in the network's history, name -> float.

A method that is not overridden is not called: a callback without ``on_epoch_begin`` and ``on_epoch_end`` costs nothing,
however short the epochs are. With ``every = k`` those two are called at every k-th epoch only, and the epochs in
between run without a look into Python.

Stop rules hear of the end of an epoch first, `Checkpoint` last, and all others in between, in the order in which they
are given.
"""

from backprop.base.keywords import explain
from backprop.learn.callbacks.averages import ExponentialMovingAverage, StochasticWeightAveraging
from backprop.learn.callbacks.callback import Callback, overrides
from backprop.learn.callbacks.plateaus import EarlyStopping, Plateau, ReduceLROnPlateau
from backprop.learn.callbacks.records import Checkpoint, CSVLogger, LambdaCallback, Progress, TerminateOnNaN

__all__ = [
    "CSVLogger",
    "Callback",
    "Checkpoint",
    "EarlyStopping",
    "ExponentialMovingAverage",
    "LambdaCallback",
    "Plateau",
    "Progress",
    "ReduceLROnPlateau",
    "StochasticWeightAveraging",
    "TerminateOnNaN",
    "overrides",
]

explain(
    CSVLogger, Checkpoint, EarlyStopping, ExponentialMovingAverage, LambdaCallback, Plateau, Progress,
    ReduceLROnPlateau, StochasticWeightAveraging,
)  # fmt: skip
