"""Adam and its relatives: steps along the mean gradient over the root of the mean squared gradient."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from backprop.base import checks as check
from backprop.reference.activations import Array
from backprop.reference.optimizers.optimizer import Optimizer

__all__ = ["Adam", "AdamW"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Adam(Optimizer):
    """Steps of about the same length for every parameter, whatever the scale of its gradient.

    ::

        g += weight_decay * p
        m = beta_1 * m + (1 - beta_1) * g
        v = beta_2 * v + (1 - beta_2) * g**2
        v_max = max(v_max, v)                           (amsgrad; it takes the place of v below)
        p -= learning_rate / (1 - beta_1**t) * m / (sqrt(v) / sqrt(1 - beta_2**t) + epsilon)

    With ``epsilon_hat`` epsilon is added before the correction of v, in place of after it, as in Keras and
    scikit-learn: ``(sqrt(v) + epsilon) / sqrt(1 - beta_2**t)``, the form that the paper writes with a hat on epsilon.

    As PyTorch's ``Adam``, with its defaults. From D. P. Kingma and J. Ba, "Adam: a method for stochastic optimization",
    ICLR 2015; amsgrad from S. J. Reddi, S. Kale and S. Kumar, "On the convergence of Adam and beyond", ICLR 2018.

    Parameters
    ----------
    learning_rate
        Factor on every step, > 0.
    beta_1, beta_2
        How slowly the mean of the gradients and of their squares are forgotten, in [0, 1).
    epsilon
        Keeps the divisor from 0, >= 0.
    weight_decay
        Adds ``weight_decay * p`` to the gradient of all trainable parameters, biases included, >= 0. See `AdamW`.
    amsgrad
        Divide by the largest ``v`` so far.
    epsilon_hat
        Whether epsilon is added before the correction of v (Keras, scikit-learn) or after it (PyTorch).

    Raises
    ------
    TypeError, ValueError
        If a parameter is of the wrong type or out of range; the message says which.

    Examples
    --------
    >>> import backprop as bp
    >>> bp.Adam(learning_rate=0.003)  # doctest: +NORMALIZE_WHITESPACE
    Adam(learning_rate=0.003, beta_1=0.9, beta_2=0.999, epsilon=1e-08, weight_decay=0.0, amsgrad=False,
         epsilon_hat=False)
    """

    name: ClassVar[str] = "adam"
    learning_rate: float = 0.001
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 0.0
    amsgrad: bool = False
    epsilon_hat: bool = False

    def __post_init__(self) -> None:
        Optimizer.__post_init__(self)
        check.number("beta_1", self.beta_1, at_least=0, below=1)
        check.number("beta_2", self.beta_2, at_least=0, below=1)
        check.number("epsilon", self.epsilon, at_least=0)
        check.number("weight_decay", self.weight_decay, at_least=0)
        check.boolean("amsgrad", self.amsgrad)
        check.boolean("epsilon_hat", self.epsilon_hat)

    @property
    def hyperparameters(self) -> tuple[float, ...]:
        """``(beta_1, beta_2, epsilon, weight_decay, amsgrad, epsilon_hat)``."""
        return self.beta_1, self.beta_2, self.epsilon, self.weight_decay, self.amsgrad, self.epsilon_hat

    @property
    def n_slots(self) -> int:
        """2, for m and v, or 3 with v_max."""
        return 3 if self.amsgrad else 2

    def update(self, p: Array, g: Array, slots: Array, t: int, learning_rate: float) -> None:
        """Step along the mean gradient over the root of the mean squared gradient, decay included."""
        self._step(p, g + self.weight_decay * p, slots, t, learning_rate)

    def _step(self, p: Array, g: Array, slots: Array, t: int, learning_rate: float) -> None:
        mean, square = slots[:2]
        mean += (g - mean) * (1 - self.beta_1)
        square[...] = self.beta_2 * square + (1 - self.beta_2) * g * g
        if self.amsgrad:
            largest = slots[2]
            np.maximum(largest, square, out=largest)
            square = largest
        # Both averages start at 0; the divisors make up for that.
        correction = math.sqrt(1 - self.beta_2**t)
        if self.epsilon_hat:
            root = (np.sqrt(square) + self.epsilon) / correction
        else:
            root = np.sqrt(square) / correction + self.epsilon
        p -= learning_rate / (1 - self.beta_1**t) * mean / root


@dataclass(frozen=True, slots=True, kw_only=True)
class AdamW(Adam):
    """Adam with decoupled weight decay: the decay shrinks the parameters and stays out of ``m`` and ``v``.

    ::

        p *= 1 - learning_rate * weight_decay
        then as Adam without weight_decay

    As PyTorch's ``AdamW``, with its defaults. From I. Loshchilov and F. Hutter, "Decoupled weight decay
    regularization", ICLR 2019.

    Parameters
    ----------
    learning_rate
        Factor on every step, > 0.
    beta_1, beta_2
        How slowly the mean of the gradients and of their squares are forgotten, in [0, 1).
    epsilon
        Keeps the divisor from 0, >= 0.
    weight_decay
        Share by which all trainable parameters, biases included, shrink at each step, per learning rate, >= 0.
    amsgrad
        Divide by the largest ``v`` so far.

    Raises
    ------
    TypeError, ValueError
        If a parameter is of the wrong type or out of range; the message says which.

    Examples
    --------
    >>> import backprop as bp
    >>> bp.AdamW(weight_decay=0.1)  # doctest: +NORMALIZE_WHITESPACE
    AdamW(learning_rate=0.001, beta_1=0.9, beta_2=0.999, epsilon=1e-08, weight_decay=0.1, amsgrad=False,
          epsilon_hat=False)
    """

    name: ClassVar[str] = "adamw"
    weight_decay: float = 0.01

    def update(self, p: Array, g: Array, slots: Array, t: int, learning_rate: float) -> None:
        """Do as `Adam`, but with decoupled weight decay, which shrinks the parameters directly."""
        p *= 1 - learning_rate * self.weight_decay
        self._step(p, g, slots, t, learning_rate)
