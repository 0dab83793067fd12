"""Gradient descent, with momentum if wanted."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import ClassVar

from backprop.base import checks as check
from backprop.base.types import Array
from backprop.reference.optimizers.optimizer import Optimizer

__all__ = ["SGD"]


@dataclass(frozen=True, slots=True)
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

    Raises
    ------
    TypeError, ValueError
        If a parameter is wrong; the message says which.

    Examples
    --------
    >>> import backprop as bp
    >>> bp.SGD(learning_rate=0.1, momentum=0.9)  # doctest: +NORMALIZE_WHITESPACE
    SGD(learning_rate=0.1, momentum=0.9, dampening=0.0, weight_decay=0.0, nesterov=False,
        velocity_of_steps=False)
    """

    name: ClassVar[str] = "sgd"
    learning_rate: float = 0.01
    _: KW_ONLY
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

    def update(self, p: Array, g: Array, slots: Array, t: int, learning_rate: float) -> None:
        """Step along the gradient, or, with momentum, along a decaying sum of all gradients so far."""
        g = g + self.weight_decay * p
        if self.velocity_of_steps:
            g, learning_rate = learning_rate * g, 1.0
        if self.momentum > 0:
            (velocity,) = slots
            velocity[...] = g if t == 1 else self.momentum * velocity + (1 - self.dampening) * g
            g = g + self.momentum * velocity if self.nesterov else velocity
        p -= learning_rate * g
