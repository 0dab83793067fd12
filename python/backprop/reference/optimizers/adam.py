"""Adam and its relatives: steps along the mean gradient over the root of the mean squared gradient."""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np

from backprop.base import checks as check
from backprop.base.types import Array
from backprop.reference.optimizers.optimizer import Optimizer

__all__ = ["Adam", "AdamW", "Adamax", "NAdam", "RAdam"]


@dataclass(frozen=True, slots=True)
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
        If a parameter is wrong; the message says which.

    Examples
    --------
    >>> import backprop as bp
    >>> bp.Adam(learning_rate=0.003)  # doctest: +NORMALIZE_WHITESPACE
    Adam(learning_rate=0.003, beta_1=0.9, beta_2=0.999, epsilon=1e-08, weight_decay=0.0, amsgrad=False,
         epsilon_hat=False)
    """

    name: ClassVar[str] = "adam"
    learning_rate: float = 0.001
    _: KW_ONLY
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


@dataclass(frozen=True, slots=True)
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
        If a parameter is wrong; the message says which.

    Examples
    --------
    >>> import backprop as bp
    >>> bp.AdamW(weight_decay=0.1)  # doctest: +NORMALIZE_WHITESPACE
    AdamW(learning_rate=0.001, beta_1=0.9, beta_2=0.999, epsilon=1e-08, weight_decay=0.1, amsgrad=False,
          epsilon_hat=False)
    """

    name: ClassVar[str] = "adamw"
    _: KW_ONLY
    weight_decay: float = 0.01

    def update(self, p: Array, g: Array, slots: Array, t: int, learning_rate: float) -> None:
        """Do as `Adam`, but with decoupled weight decay, which shrinks the parameters directly."""
        p *= 1 - learning_rate * self.weight_decay
        self._step(p, g, slots, t, learning_rate)


@dataclass(frozen=True, slots=True)
class Adamax(Optimizer):
    """Adam with the largest recent gradient in place of the root of the mean square.

    ::

        g += weight_decay * p
        m = beta_1 * m + (1 - beta_1) * g
        u = max(beta_2 * u, abs(g) + epsilon)
        p -= learning_rate / (1 - beta_1**t) * m / u

    As PyTorch's ``Adamax``, with its defaults. From D. P. Kingma and J. Ba, "Adam: a method for stochastic
    optimization", ICLR 2015, section 7.1.

    Parameters
    ----------
    learning_rate
        Factor on every step, > 0.
    beta_1, beta_2
        How slowly the mean of the gradients and the largest of them are forgotten, in [0, 1).
    epsilon
        Keeps the divisor from 0, >= 0.
    weight_decay
        Adds ``weight_decay * p`` to the gradient of all trainable parameters, biases included, >= 0.

    Raises
    ------
    TypeError, ValueError
        If a parameter is wrong; the message says which.

    Examples
    --------
    >>> import backprop as bp
    >>> bp.Adamax(beta_2=0.99)
    Adamax(learning_rate=0.002, beta_1=0.9, beta_2=0.99, epsilon=1e-08, weight_decay=0.0)
    """

    name: ClassVar[str] = "adamax"
    learning_rate: float = 0.002
    _: KW_ONLY
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        Optimizer.__post_init__(self)
        check.number("beta_1", self.beta_1, at_least=0, below=1)
        check.number("beta_2", self.beta_2, at_least=0, below=1)
        check.number("epsilon", self.epsilon, at_least=0)
        check.number("weight_decay", self.weight_decay, at_least=0)

    @property
    def hyperparameters(self) -> tuple[float, ...]:
        """``(beta_1, beta_2, epsilon, weight_decay)``."""
        return self.beta_1, self.beta_2, self.epsilon, self.weight_decay

    @property
    def n_slots(self) -> int:
        """2, for m and u."""
        return 2

    def update(self, p: Array, g: Array, slots: Array, t: int, learning_rate: float) -> None:
        """Step along the mean gradient over the largest recent one."""
        g = g + self.weight_decay * p
        mean, largest = slots
        mean += (g - mean) * (1 - self.beta_1)
        np.maximum(self.beta_2 * largest, np.abs(g) + self.epsilon, out=largest)
        p -= learning_rate / (1 - self.beta_1**t) * mean / largest


@dataclass(frozen=True, slots=True)
class NAdam(Optimizer):
    """Adam with Nesterov's momentum, which grows from half of beta_1 to beta_1.

    ::

        p *= 1 - learning_rate * weight_decay           (decoupled_weight_decay)
        g += weight_decay * p                           (otherwise)
        mu_i = beta_1 * (1 - 0.96**(i * momentum_decay) / 2)
        m = beta_1 * m + (1 - beta_1) * g
        v = beta_2 * v + (1 - beta_2) * g**2
        step = (1 - mu_t) / (1 - mu_1 ... mu_t) * g + mu_(t+1) / (1 - mu_1 ... mu_(t+1)) * m
        p -= learning_rate * step / (sqrt(v / (1 - beta_2**t)) + epsilon)

    As PyTorch's ``NAdam``, with its defaults. From T. Dozat, "Incorporating Nesterov momentum into Adam", ICLR 2016
    workshop.

    Parameters
    ----------
    learning_rate
        Factor on every step, > 0.
    beta_1, beta_2
        How slowly the mean of the gradients and of their squares are forgotten, in [0, 1).
    epsilon
        Keeps the divisor from 0, >= 0.
    weight_decay
        Adds ``weight_decay * p`` to the gradient of all trainable parameters, biases included, >= 0.
    momentum_decay
        How fast the momentum reaches beta_1, >= 0; with 0 it stays at half of it.
    decoupled_weight_decay
        Whether the decay shrinks the parameters directly and stays out of ``m`` and ``v``, as in `AdamW`.

    Raises
    ------
    TypeError, ValueError
        If a parameter is wrong; the message says which.

    Examples
    --------
    >>> import backprop as bp
    >>> bp.NAdam(learning_rate=0.01)  # doctest: +NORMALIZE_WHITESPACE
    NAdam(learning_rate=0.01, beta_1=0.9, beta_2=0.999, epsilon=1e-08, weight_decay=0.0, momentum_decay=0.004,
          decoupled_weight_decay=False)
    """

    name: ClassVar[str] = "nadam"
    learning_rate: float = 0.002
    _: KW_ONLY
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 0.0
    momentum_decay: float = 0.004
    decoupled_weight_decay: bool = False

    def __post_init__(self) -> None:
        Optimizer.__post_init__(self)
        check.number("beta_1", self.beta_1, at_least=0, below=1)
        check.number("beta_2", self.beta_2, at_least=0, below=1)
        check.number("epsilon", self.epsilon, at_least=0)
        check.number("weight_decay", self.weight_decay, at_least=0)
        check.number("momentum_decay", self.momentum_decay, at_least=0)
        check.boolean("decoupled_weight_decay", self.decoupled_weight_decay)

    @property
    def hyperparameters(self) -> tuple[float, ...]:
        """``(beta_1, beta_2, epsilon, weight_decay, 0.96**momentum_decay, decoupled_weight_decay)``."""
        fall = 0.96**self.momentum_decay
        return self.beta_1, self.beta_2, self.epsilon, self.weight_decay, fall, self.decoupled_weight_decay

    @property
    def n_slots(self) -> int:
        """2, for m and v."""
        return 2

    def update(self, p: Array, g: Array, slots: Array, t: int, learning_rate: float) -> None:
        """Step along gradient and mean gradient over the root of the mean squared gradient."""
        if self.decoupled_weight_decay:
            p *= 1 - learning_rate * self.weight_decay
        else:
            g = g + self.weight_decay * p
        mean, square = slots
        mean += (g - mean) * (1 - self.beta_1)
        square[...] = self.beta_2 * square + (1 - self.beta_2) * g * g
        momentum, next_momentum, product = _momenta(self.beta_1, self.hyperparameters[4], t)
        of_gradient = learning_rate * (1 - momentum) / (1 - product)
        of_mean = learning_rate * next_momentum / (1 - product * next_momentum)
        root = np.sqrt(square) / math.sqrt(1 - self.beta_2**t) + self.epsilon
        p -= (of_gradient * g + of_mean * mean) / root


@lru_cache(maxsize=16)
def _momenta(beta: float, fall: float, t: int) -> tuple[float, float, float]:
    """Return ``beta * (1 - fall**i / 2)`` for i = t and t + 1, and the product of it for i = 1 ... t.

    A product that is nothing beside 1 is returned as 0: it takes many steps to get there, and longer to compute more.
    """
    product, negligible = 1.0, 1e-18
    for i in range(1, t + 1):
        if beta**t < negligible or product < negligible:
            product = 0.0
            break
        product *= beta * (1 - fall**i / 2)
    return beta * (1 - fall**t / 2), beta * (1 - fall ** (t + 1) / 2), product


@dataclass(frozen=True, slots=True)
class RAdam(Optimizer):
    """Adam that leaves the second moment out until enough gradients are in it, and then corrects for its variance.

    ::

        p *= 1 - learning_rate * weight_decay           (decoupled_weight_decay)
        g += weight_decay * p                           (otherwise)
        m = beta_1 * m + (1 - beta_1) * g
        v = beta_2 * v + (1 - beta_2) * g**2
        rho_max = 2 / (1 - beta_2) - 1
        rho = rho_max - 2 * t * beta_2**t / (1 - beta_2**t)
        r = sqrt((rho - 4) * (rho - 2) * rho_max / ((rho_max - 4) * (rho_max - 2) * rho))
        step = r * sqrt(1 - beta_2**t) / (sqrt(v) + epsilon)  if rho > 5 else  1
        p -= learning_rate / (1 - beta_1**t) * step * m

    As PyTorch's ``RAdam``, with its defaults. From L. Liu et al., "On the variance of the adaptive learning rate and
    beyond", ICLR 2020.

    Parameters
    ----------
    learning_rate
        Factor on every step, > 0.
    beta_1, beta_2
        How slowly the mean of the gradients and of their squares are forgotten, in [0, 1).
    epsilon
        Keeps the divisor from 0, >= 0.
    weight_decay
        Adds ``weight_decay * p`` to the gradient of all trainable parameters, biases included, >= 0.
    decoupled_weight_decay
        Whether the decay shrinks the parameters directly and stays out of ``m`` and ``v``, as in `AdamW`.

    Raises
    ------
    TypeError, ValueError
        If a parameter is wrong; the message says which.

    Examples
    --------
    >>> import backprop as bp
    >>> bp.RAdam(beta_2=0.99)  # doctest: +NORMALIZE_WHITESPACE
    RAdam(learning_rate=0.001, beta_1=0.9, beta_2=0.99, epsilon=1e-08, weight_decay=0.0,
          decoupled_weight_decay=False)
    """

    name: ClassVar[str] = "radam"
    learning_rate: float = 0.001
    _: KW_ONLY
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 0.0
    decoupled_weight_decay: bool = False

    def __post_init__(self) -> None:
        Optimizer.__post_init__(self)
        check.number("beta_1", self.beta_1, at_least=0, below=1)
        check.number("beta_2", self.beta_2, at_least=0, below=1)
        check.number("epsilon", self.epsilon, at_least=0)
        check.number("weight_decay", self.weight_decay, at_least=0)
        check.boolean("decoupled_weight_decay", self.decoupled_weight_decay)

    @property
    def hyperparameters(self) -> tuple[float, ...]:
        """``(beta_1, beta_2, epsilon, weight_decay, decoupled_weight_decay)``."""
        return self.beta_1, self.beta_2, self.epsilon, self.weight_decay, self.decoupled_weight_decay

    @property
    def n_slots(self) -> int:
        """2, for m and v."""
        return 2

    def update(self, p: Array, g: Array, slots: Array, t: int, learning_rate: float) -> None:
        """Step along the mean gradient, after some steps over the root of the mean squared gradient."""
        if self.decoupled_weight_decay:
            p *= 1 - learning_rate * self.weight_decay
        else:
            g = g + self.weight_decay * p
        mean, square = slots
        mean += (g - mean) * (1 - self.beta_1)
        square[...] = self.beta_2 * square + (1 - self.beta_2) * g * g
        correction = 1 - self.beta_2**t
        longest = 2 / (1 - self.beta_2) - 1
        length = longest - 2 * t * self.beta_2**t / correction
        rate = learning_rate / (1 - self.beta_1**t)
        if length > 5:
            variance = (length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length)
            p -= rate * math.sqrt(variance * correction) * mean / (np.sqrt(square) + self.epsilon)
        else:
            p -= rate * mean
