"""Callbacks: what `fit` calls while it trains."""

from backprop.learn.callbacks import (
    Callback,
    Checkpoint,
    CSVLogger,
    EarlyStopping,
    LambdaCallback,
    Plateau,
    Progress,
    ReduceLROnPlateau,
    TerminateOnNaN,
    overrides,
)

__all__ = [
    "CSVLogger",
    "Callback",
    "Checkpoint",
    "EarlyStopping",
    "LambdaCallback",
    "Plateau",
    "Progress",
    "ReduceLROnPlateau",
    "TerminateOnNaN",
    "overrides",
]
