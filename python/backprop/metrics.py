"""Metrics by name: what `fit` measures after each epoch beside the loss."""

from backprop.learn.metrics import (
    CLASSIFICATION,
    HIGHER_IS_BETTER,
    METRICS,
    accuracy,
    balanced_accuracy,
    bound,
    f1,
    mean_absolute_error,
    mean_squared_error,
    precision,
    r2,
    recall,
    resolved,
    root_mean_squared_error,
)

__all__ = [
    "CLASSIFICATION",
    "HIGHER_IS_BETTER",
    "METRICS",
    "accuracy",
    "balanced_accuracy",
    "bound",
    "f1",
    "mean_absolute_error",
    "mean_squared_error",
    "precision",
    "r2",
    "recall",
    "resolved",
    "root_mean_squared_error",
]
