"""Optimizers: each update as one function, exactly as PyTorch defines it.

An update changes the parameters ``p`` and the slots (what the optimizer remembers, one row each) in place, from the
gradient ``g``, which it leaves alone; ``t`` counts the steps from 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from backprop.reference.activations import Array

if TYPE_CHECKING:
    from backprop import optimizers
    from backprop._types import RealArray
    from backprop.reference.layers import Plan

Update: TypeAlias = Callable[[Array, Array, Array, int, float, tuple[float, ...]], None]
"""``update(p, g, slots, t, learning_rate, hyperparameters)``"""


def sgd(p: Array, g: Array, slots: Array, t: int, learning_rate: float, hyperparameters: tuple[float, ...]) -> None:
    """Step along the gradient, or, with momentum, along a decaying sum of all gradients so far."""
    momentum, dampening, weight_decay, nesterov, velocity_of_steps = hyperparameters
    g = g + weight_decay * p
    if velocity_of_steps:
        g, learning_rate = learning_rate * g, 1.0
    if momentum > 0:
        (velocity,) = slots
        velocity[:] = g if t == 1 else momentum * velocity + (1 - dampening) * g
        g = g + momentum * velocity if nesterov else velocity
    p -= learning_rate * g


def adam(p: Array, g: Array, slots: Array, t: int, learning_rate: float, hyperparameters: tuple[float, ...]) -> None:
    """Step along the mean gradient over the root of the mean squared gradient; weight decay is part of the gradient."""
    _, _, _, weight_decay, *_ = hyperparameters
    _adam(p, g + weight_decay * p, slots, t, learning_rate, hyperparameters)


def adamw(p: Array, g: Array, slots: Array, t: int, learning_rate: float, hyperparameters: tuple[float, ...]) -> None:
    """Do as `adam`, but with decoupled weight decay, which shrinks the parameters directly."""
    _, _, _, weight_decay, *_ = hyperparameters
    p *= 1 - learning_rate * weight_decay
    _adam(p, g, slots, t, learning_rate, hyperparameters)


def _adam(p: Array, g: Array, slots: Array, t: int, learning_rate: float, hyperparameters: tuple[float, ...]) -> None:
    beta_1, beta_2, epsilon, _, amsgrad, epsilon_hat = hyperparameters
    mean, square = slots[:2]
    mean += (g - mean) * (1 - beta_1)
    square[:] = beta_2 * square + (1 - beta_2) * g * g
    if amsgrad:
        largest = slots[2]
        np.maximum(largest, square, out=largest)
        square = largest
    # Both averages start at 0; the divisors make up for that.
    correction = math.sqrt(1 - beta_2**t)
    root = (np.sqrt(square) + epsilon) / correction if epsilon_hat else np.sqrt(square) / correction + epsilon
    p -= learning_rate / (1 - beta_1**t) * mean / root


def rmsprop(p: Array, g: Array, slots: Array, t: int, learning_rate: float, hyperparameters: tuple[float, ...]) -> None:
    """Step along the gradient over the root of the mean squared gradient (centered: over its standard deviation)."""
    alpha, epsilon, weight_decay, momentum, centered = hyperparameters
    g = g + weight_decay * p
    square = slots[0]
    square[:] = alpha * square + (1 - alpha) * g * g
    if centered:
        mean = slots[-1]
        mean += (g - mean) * (1 - alpha)
        root = np.sqrt(square - mean * mean) + epsilon
    else:
        root = np.sqrt(square) + epsilon
    if momentum > 0:
        velocity = slots[1]
        velocity[:] = momentum * velocity + g / root
        p -= learning_rate * velocity
    else:
        p -= learning_rate * g / root


def adagrad(p: Array, g: Array, slots: Array, t: int, learning_rate: float, hyperparameters: tuple[float, ...]) -> None:
    """Step along the gradient over the root of the sum of all squared gradients so far."""
    lr_decay, epsilon, weight_decay, _ = hyperparameters
    g = g + weight_decay * p
    (total,) = slots
    total += g * g
    p -= learning_rate / (1 + (t - 1) * lr_decay) * g / (np.sqrt(total) + epsilon)


UPDATES: Mapping[str, Update] = MappingProxyType(
    {"sgd": sgd, "adam": adam, "adamw": adamw, "rmsprop": rmsprop, "adagrad": adagrad}
)


def update(
    plan: Plan,
    optimizer: optimizers.Optimizer,
    parameters: RealArray,
    gradient: RealArray,
    slots: RealArray,
    step: int,
    learning_rate: float,
) -> None:
    """Do one optimizer step in place; `step` counts from 1. Only trainable parameters and their slots change."""
    change = UPDATES[optimizer.name]
    hyperparameters = tuple(map(float, optimizer.hyperparameters))
    with np.errstate(all="ignore"):
        for part in plan.trainable_parts:
            change(parameters[part], gradient[part], slots[:, part], step, float(learning_rate), hyperparameters)


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
