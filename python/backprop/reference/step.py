"""What a training step does beside the gradient: clipping, the optimizer's update, bounds of norms."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from backprop.base.types import Array

if TYPE_CHECKING:
    from backprop.base.types import RealArray
    from backprop.reference.optimizers import Optimizer
    from backprop.reference.passes import Plan


def update(
    plan: Plan,
    optimizer: Optimizer,
    parameters: RealArray,
    gradient: RealArray,
    slots: RealArray,
    step: int,
    learning_rate: float,
) -> None:
    """Do one optimizer step in place; `step` counts from 1. Only trainable parameters and their slots change."""
    with np.errstate(all="ignore"):
        for array in plan.arrays:
            if array.trainable:
                own_slots = array.of(slots)
                hidden_weights = len(array.shape) == 2 and array.layer < len(plan.layers) - 1
                update_array = optimizer.update_hidden_weights if hidden_weights else optimizer.update
                update_array(array.of(parameters), array.of(gradient), own_slots, step, float(learning_rate))


def clip(plan: Plan, gradient: Array, clip_value: float | None, clip_norm: float | None) -> None:
    """Limit the gradient in place: first every number of it to +-clip_value, then its Euclidean norm to clip_norm.

    What is not trainable has gradient 0 and so does not count.
    """
    if clip_value is not None:
        np.clip(gradient, -clip_value, clip_value, out=gradient)
    if clip_norm is not None:
        norm = math.sqrt(np.square(gradient, dtype=np.float64).sum())
        coefficient = float(clip_norm / (norm + 1e-6))
        if not coefficient >= 1:  # smaller, or NaN
            gradient *= coefficient


def limit_norms(plan: Plan, parameters: Array) -> None:
    """Scale the weights into each unit, a column of W, down to the Euclidean norm max_norm where they exceed it."""
    for array in plan.arrays:
        bound = plan.layers[array.layer].settings.max_norm
        if bound is not None and array.name == "weights" and array.trainable:
            W = array.of(parameters)
            with np.errstate(all="ignore"):
                norms = np.sqrt(np.square(W, dtype=np.float64).sum(axis=0))
                W *= np.where(norms > bound, bound / norms, 1)
