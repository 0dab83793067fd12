"""Optimizers: settings only. Each update stands in `backprop.reference.optimizers`.

They are defined exactly as PyTorch 2.13 defines them. In the formulas below all operations are element by element,
``p`` are the parameters, ``g`` is the gradient of the loss (after clipping, where that is asked for), and ``t`` counts
the steps from 1. What an optimizer remembers starts at 0 where nothing else is said.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np

from backprop import _validation as check
from backprop._types import RealArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Optimizer:
    """What the optimizers share.

    Parameters
    ----------
    learning_rate
        Factor on every step, > 0; ``fit`` can also be given a schedule.
    """

    name: ClassVar[str]

    learning_rate: float

    def __post_init__(self) -> None:
        check.make_plain(self)
        check.number("learning_rate", self.learning_rate, above=0)

    @property
    def hyperparameters(self) -> tuple[float, ...]:
        """Everything but the learning rate, in the order in which the backends take it."""
        raise NotImplementedError

    @property
    def n_slots(self) -> int:
        """How many numbers it remembers per parameter."""
        raise NotImplementedError

    def new_slots(self, n_parameters: int, dtype: Any) -> RealArray:
        """Make what it remembers before the first step, (n_slots, n_parameters)."""
        return np.zeros((self.n_slots, n_parameters), dtype)


# dataclass(slots=True) makes a second class, which super() without arguments does not know before Python 3.14;
# therefore the __post_init__ of the base class is called by its name.


@dataclass(frozen=True, slots=True, kw_only=True)
class SGD(Optimizer):
    """Gradient descent, with momentum if wanted; "stochastic" when the batches are random.

    ::

        g += weight_decay * p
        if momentum > 0:
            velocity = g                                               (first step)
            velocity = momentum * velocity + (1 - dampening) * g       (later steps)
            g = g + momentum * velocity  if nesterov else  velocity
        p -= learning_rate * g

    With ``velocity_of_steps`` the velocity adds up steps in place of gradients, as in Keras and scikit-learn; that is
    the same as long as the learning rate stays the same::

        velocity = momentum * velocity + learning_rate * (1 - dampening) * g        (first step: learning_rate * g)
        p -= momentum * velocity + learning_rate * g  if nesterov else  velocity

    As PyTorch's ``SGD``, whose learning rate is 0.001 by default. Momentum is from B. T. Polyak, "Some methods of
    speeding up the convergence of iteration methods" (1964); the form of Nesterov's is from I. Sutskever et al., "On
    the importance of initialization and momentum in deep learning", ICML 2013, rearranged so that only the gradient at
    ``p`` is needed.

    Parameters
    ----------
    learning_rate
        Factor on every step, > 0.
    momentum
        Share of the last velocity that is kept, in [0, 1); 0 for none.
    dampening
        Reduces what a gradient adds to the velocity, in [0, 1].
    weight_decay
        Adds ``weight_decay * p`` to the gradient of all trainable parameters, biases included, >= 0.
    nesterov
        Nesterov's momentum; needs momentum > 0 and no dampening.
    velocity_of_steps
        Whether the velocity is made of steps (Keras, scikit-learn) or of gradients (PyTorch).

    Examples
    --------
    >>> import backprop as bp
    >>> bp.SGD(learning_rate=0.1, momentum=0.9)  # doctest: +NORMALIZE_WHITESPACE
    SGD(learning_rate=0.1, momentum=0.9, dampening=0.0, weight_decay=0.0, nesterov=False,
        velocity_of_steps=False)
    """

    name: ClassVar[str] = "sgd"
    learning_rate: float = 0.01
    momentum: float = 0.0
    dampening: float = 0.0
    weight_decay: float = 0.0
    nesterov: bool = False
    velocity_of_steps: bool = False

    def __post_init__(self) -> None:
        Optimizer.__post_init__(self)
        check.number("momentum", self.momentum, at_least=0, below=1)
        check.number("dampening", self.dampening, at_least=0, at_most=1)
        check.number("weight_decay", self.weight_decay, at_least=0)
        check.boolean("nesterov", self.nesterov)
        check.boolean("velocity_of_steps", self.velocity_of_steps)
        if self.nesterov and (self.momentum == 0 or self.dampening != 0):
            raise ValueError(
                "nesterov: needs momentum > 0 and dampening == 0, "
                f"got momentum={self.momentum!r} and dampening={self.dampening!r}"
            )

    @property
    def hyperparameters(self) -> tuple[float, ...]:
        """``(momentum, dampening, weight_decay, nesterov, velocity_of_steps)``."""
        return self.momentum, self.dampening, self.weight_decay, self.nesterov, self.velocity_of_steps

    @property
    def n_slots(self) -> int:
        """1, the velocity, with momentum; 0 without."""
        return 1 if self.momentum > 0 else 0


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

    Examples
    --------
    >>> import backprop as bp
    >>> bp.AdamW(weight_decay=0.1)  # doctest: +NORMALIZE_WHITESPACE
    AdamW(learning_rate=0.001, beta_1=0.9, beta_2=0.999, epsilon=1e-08, weight_decay=0.1, amsgrad=False,
          epsilon_hat=False)
    """

    name: ClassVar[str] = "adamw"
    weight_decay: float = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
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

    Examples
    --------
    >>> import backprop as bp
    >>> bp.RMSprop(alpha=0.9)
    RMSprop(learning_rate=0.01, alpha=0.9, epsilon=1e-08, weight_decay=0.0, momentum=0.0, centered=False)
    """

    name: ClassVar[str] = "rmsprop"
    learning_rate: float = 0.01
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


@dataclass(frozen=True, slots=True, kw_only=True)
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

    Examples
    --------
    >>> import backprop as bp
    >>> bp.Adagrad(epsilon=1e-8)
    Adagrad(learning_rate=0.01, lr_decay=0.0, epsilon=1e-08, weight_decay=0.0, initial_accumulator_value=0.0)
    """

    name: ClassVar[str] = "adagrad"
    learning_rate: float = 0.01
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


OPTIMIZERS: Mapping[str, type[Optimizer]] = MappingProxyType(
    {cls.name: cls for cls in (SGD, Adam, AdamW, RMSprop, Adagrad)}
)
