"""Gradient descent with a rate of its own for each parameter."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar

import numpy as np

from backprop.base import checks as check
from backprop.base.types import Array, RealArray
from backprop.reference.optimizers.optimizer import Optimizer

__all__ = ["Adadelta", "Adagrad", "RMSprop"]


@dataclass(frozen=True, slots=True)
class RMSprop(Optimizer):
    """Gradient descent with each gradient divided by the root of its recent mean square.

    ::

        g += weight_decay * p
        square = alpha * square + (1 - alpha) * g**2
        root = sqrt(square) + epsilon
        mean = alpha * mean + (1 - alpha) * g                (centered)
        root = sqrt(square - mean**2) + epsilon              (centered)
        velocity = momentum * velocity + g / root
        p -= learning_rate * velocity

    As PyTorch's ``RMSprop``, with its defaults. From T. Tieleman and G. Hinton, "Neural networks for machine learning",
    lecture 6.5 (2012); the centered form from A. Graves, "Generating sequences with recurrent neural networks" (2013).

    Parameters
    ----------
    learning_rate
        Factor on every step, > 0.
    alpha
        How slowly past squares are forgotten, in [0, 1).
    epsilon
        Keeps the divisor from 0, >= 0.
    weight_decay
        Adds ``weight_decay * p`` to the gradient of all trainable parameters, biases included, >= 0.
    momentum
        Share of the last velocity that is kept, in [0, 1); 0 for none.
    centered
        Divide by the standard deviation instead of the root of the mean square.

    Raises
    ------
    TypeError, ValueError
        If a parameter is wrong; the message says which.

    Examples
    --------
    >>> import backprop as bp
    >>> bp.RMSprop(alpha=0.9)
    RMSprop(learning_rate=0.01, alpha=0.9, epsilon=1e-08, weight_decay=0.0, momentum=0.0, centered=False)
    """

    name: ClassVar[str] = "rmsprop"
    learning_rate: float = 0.01
    _: KW_ONLY
    alpha: float = 0.99
    epsilon: float = 1e-8
    weight_decay: float = 0.0
    momentum: float = 0.0
    centered: bool = False

    def __post_init__(self) -> None:
        Optimizer.__post_init__(self)
        check.number("alpha", self.alpha, at_least=0, below=1)
        check.number("epsilon", self.epsilon, at_least=0)
        check.number("weight_decay", self.weight_decay, at_least=0)
        check.number("momentum", self.momentum, at_least=0, below=1)
        check.boolean("centered", self.centered)

    @property
    def hyperparameters(self) -> tuple[float, ...]:
        """``(alpha, epsilon, weight_decay, momentum, centered)``."""
        return self.alpha, self.epsilon, self.weight_decay, self.momentum, self.centered

    @property
    def n_slots(self) -> int:
        """1, the square, and one more each with momentum (the velocity) and centered (the mean), in this order."""
        return 1 + (self.momentum > 0) + bool(self.centered)

    def update(self, p: Array, g: Array, slots: Array, t: int, learning_rate: float) -> None:
        """Step along the gradient over the root of the mean squared gradient (centered: its standard deviation)."""
        g = g + self.weight_decay * p
        square = slots[0]
        square[...] = self.alpha * square + (1 - self.alpha) * g * g
        if self.centered:
            mean = slots[-1]
            mean += (g - mean) * (1 - self.alpha)
            root = np.sqrt(square - mean * mean) + self.epsilon
        else:
            root = np.sqrt(square) + self.epsilon
        if self.momentum > 0:
            velocity = slots[1]
            velocity[...] = self.momentum * velocity + g / root
            p -= learning_rate * velocity
        else:
            p -= learning_rate * g / root


@dataclass(frozen=True, slots=True)
class Adagrad(Optimizer):
    """Gradient descent with each gradient divided by the root of the sum of all its squares so far.

    ::

        g += weight_decay * p
        total += g**2                                   (starts at initial_accumulator_value)
        p -= learning_rate / (1 + (t - 1) * lr_decay) * g / (sqrt(total) + epsilon)

    As PyTorch's ``Adagrad``, with its defaults. From J. Duchi, E. Hazan and Y. Singer, "Adaptive subgradient methods
    for online learning and stochastic optimization", JMLR 12 (2011).

    Parameters
    ----------
    learning_rate
        Factor on every step, > 0.
    lr_decay
        How fast the learning rate falls with the steps, >= 0.
    epsilon
        Keeps the divisor from 0, >= 0.
    weight_decay
        Adds ``weight_decay * p`` to the gradient of all trainable parameters, biases included, >= 0.
    initial_accumulator_value
        What the sum of squares starts from, >= 0.

    Raises
    ------
    TypeError, ValueError
        If a parameter is wrong; the message says which.

    Examples
    --------
    >>> import backprop as bp
    >>> bp.Adagrad(epsilon=1e-8)
    Adagrad(learning_rate=0.01, lr_decay=0.0, epsilon=1e-08, weight_decay=0.0, initial_accumulator_value=0.0)
    """

    name: ClassVar[str] = "adagrad"
    learning_rate: float = 0.01
    _: KW_ONLY
    lr_decay: float = 0.0
    epsilon: float = 1e-10
    weight_decay: float = 0.0
    initial_accumulator_value: float = 0.0

    def __post_init__(self) -> None:
        Optimizer.__post_init__(self)
        check.number("lr_decay", self.lr_decay, at_least=0)
        check.number("epsilon", self.epsilon, at_least=0)
        check.number("weight_decay", self.weight_decay, at_least=0)
        check.number("initial_accumulator_value", self.initial_accumulator_value, at_least=0)

    @property
    def hyperparameters(self) -> tuple[float, ...]:
        """``(lr_decay, epsilon, weight_decay, initial_accumulator_value)``."""
        return self.lr_decay, self.epsilon, self.weight_decay, self.initial_accumulator_value

    @property
    def n_slots(self) -> int:
        """1, the sum of squares."""
        return 1

    def new_slots(self, n_parameters: int, dtype: Any) -> RealArray:
        """Make the sums of squares before the first step, (1, n_parameters)."""
        return np.full((1, n_parameters), self.initial_accumulator_value, dtype)

    def update(self, p: Array, g: Array, slots: Array, t: int, learning_rate: float) -> None:
        """Step along the gradient over the root of the sum of all squared gradients so far."""
        g = g + self.weight_decay * p
        (total,) = slots
        total += g * g
        p -= learning_rate / (1 + (t - 1) * self.lr_decay) * g / (np.sqrt(total) + self.epsilon)


@dataclass(frozen=True, slots=True)
class Adadelta(Optimizer):
    """Each gradient times the size of the recent steps, over the size of the recent gradients.

    ::

        g += weight_decay * p
        square = rho * square + (1 - rho) * g**2
        step = sqrt(steps + epsilon) / sqrt(square + epsilon) * g
        steps = rho * steps + (1 - rho) * step**2
        p -= learning_rate * step

    As PyTorch's ``Adadelta``, with its defaults. From M. D. Zeiler, "ADADELTA: an adaptive learning rate method",
    arXiv:1212.5701 (2012), which has no learning rate: here that is 1.

    Parameters
    ----------
    learning_rate
        Factor on every step, > 0.
    rho
        How slowly past squares are forgotten, in [0, 1).
    epsilon
        Keeps the divisor from 0, and is where the steps begin to grow from, > 0.
    weight_decay
        Adds ``weight_decay * p`` to the gradient of all trainable parameters, biases included, >= 0.

    Raises
    ------
    TypeError, ValueError
        If a parameter is wrong; the message says which.

    Examples
    --------
    >>> import backprop as bp
    >>> bp.Adadelta(rho=0.95)
    Adadelta(learning_rate=1.0, rho=0.95, epsilon=1e-06, weight_decay=0.0)
    """

    name: ClassVar[str] = "adadelta"
    learning_rate: float = 1.0
    _: KW_ONLY
    rho: float = 0.9
    epsilon: float = 1e-6
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        Optimizer.__post_init__(self)
        check.number("rho", self.rho, at_least=0, below=1)
        check.number("epsilon", self.epsilon, above=0)
        check.number("weight_decay", self.weight_decay, at_least=0)

    @property
    def hyperparameters(self) -> tuple[float, ...]:
        """``(rho, epsilon, weight_decay)``."""
        return self.rho, self.epsilon, self.weight_decay

    @property
    def n_slots(self) -> int:
        """2, the mean squares of gradients and of steps."""
        return 2

    def update(self, p: Array, g: Array, slots: Array, t: int, learning_rate: float) -> None:
        """Step along the gradient, scaled from the size of gradients to that of steps."""
        g = g + self.weight_decay * p
        square, steps = slots
        square[...] = self.rho * square + (1 - self.rho) * g * g
        step = np.sqrt(steps + self.epsilon) / np.sqrt(square + self.epsilon) * g
        steps[...] = self.rho * steps + (1 - self.rho) * step * step
        p -= learning_rate * step
