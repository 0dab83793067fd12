"""What a training step does beside the gradient: clipping, the optimizer's update, bounds of norms."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from backprop.reference.activations import Array

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
        for part, shape in plan.trainable_parts:
            p, g = parameters[part].reshape(shape), gradient[part].reshape(shape)
            optimizer.update(p, g, slots[:, part].reshape(len(slots), *shape), step, float(learning_rate))


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
    for layer in plan.layers:
        if layer.max_norm is not None and layer.weights_trainable:
            W = layer.weights(parameters)
            norms = np.sqrt(np.square(W, dtype=np.float64).sum(axis=0))
            W *= np.where(norms > layer.max_norm, layer.max_norm / norms, 1)
