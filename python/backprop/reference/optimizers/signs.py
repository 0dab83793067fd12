"""Steps whose size does not depend on the gradient: only its sign counts."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import ClassVar

import numpy as np

from backprop.base import checks as check
from backprop.base.types import Array
from backprop.reference.optimizers.optimizer import Optimizer

__all__ = ["Lion", "Rprop"]


@dataclass(frozen=True, slots=True)
class Rprop(Optimizer):
    """Resilient backpropagation: steps grow while a gradient keeps its sign, and shrink when it changes.

    ::

        size = learning_rate                                         (before the first step)
        agreement = sign(g * last)                                   (last: the gradient before)
        size *= eta_plus if agreement > 0, eta_minus if agreement < 0, otherwise 1
        size = min(max(size, step_size_min), step_size_max)
        g = 0 if agreement < 0
        last = g
        p -= sign(g) * size

    It is made for full batches: the gradient of a batch of some rows changes its sign by chance.

    As PyTorch's ``Rprop``, with its defaults. From M. Riedmiller and H. Braun, "A direct adaptive method for faster
    backpropagation learning: the RPROP algorithm", ICNN 1993, in the form without weight-backtracking.

    Parameters
    ----------
    learning_rate
        Size of the first step, > 0. The sizes change by themselves from there on, so all that a schedule of ``fit``
        does is to give the first step another size.
    eta_minus, eta_plus
        Factors on the size where the sign changes, in (0, 1), and where it stays, > 1.
    step_size_min, step_size_max
        Bounds of the size, >= 0; step_size_max >= step_size_min.

    Raises
    ------
    TypeError, ValueError
        If a parameter is wrong; the message says which.

    Examples
    --------
    >>> import backprop as bp
    >>> bp.Rprop(step_size_max=1.0)  # doctest: +NORMALIZE_WHITESPACE
    Rprop(learning_rate=0.01, eta_minus=0.5, eta_plus=1.2, step_size_min=1e-06, step_size_max=1.0)
    """

    name: ClassVar[str] = "rprop"
    learning_rate: float = 0.01
    _: KW_ONLY
    eta_minus: float = 0.5
    eta_plus: float = 1.2
    step_size_min: float = 1e-6
    step_size_max: float = 50.0

    def __post_init__(self) -> None:
        Optimizer.__post_init__(self)
        check.number("eta_minus", self.eta_minus, above=0, below=1)
        check.number("eta_plus", self.eta_plus, above=1)
        check.number("step_size_min", self.step_size_min, at_least=0)
        check.number("step_size_max", self.step_size_max, at_least=self.step_size_min)

    @property
    def hyperparameters(self) -> tuple[float, ...]:
        """``(eta_minus, eta_plus, step_size_min, step_size_max)``."""
        return self.eta_minus, self.eta_plus, self.step_size_min, self.step_size_max

    @property
    def n_slots(self) -> int:
        """2, the gradient before and the size of the step."""
        return 2

    def update(self, p: Array, g: Array, slots: Array, t: int, learning_rate: float) -> None:
        """Step against the sign of the gradient, by a size that follows how often it changes."""
        last, size = slots
        if t == 1:
            size[...] = learning_rate
        agreement = np.sign(g) * np.sign(last)  # the product of the gradients could vanish
        size *= np.where(agreement > 0, self.eta_plus, np.where(agreement < 0, self.eta_minus, 1)).astype(p.dtype)
        np.clip(size, self.step_size_min, self.step_size_max, out=size)
        last[...] = np.where(agreement < 0, 0, g)
        p -= np.sign(last) * size


@dataclass(frozen=True, slots=True)
class Lion(Optimizer):
    """Steps of one size for every parameter, against the sign of a mean gradient in which the newest counts more.

    ::

        direction = sign(beta_1 * m + (1 - beta_1) * g)
        p -= learning_rate * (direction + weight_decay * p)
        m = beta_2 * m + (1 - beta_2) * g

    It needs a learning rate 3 to 10 times smaller than `AdamW` does, and a weight decay larger by the same factor.

    From X. Chen et al., "Symbolic discovery of optimization algorithms", NeurIPS 2023 (arXiv:2302.06675), with the
    defaults of their program.

    Parameters
    ----------
    learning_rate
        Size of every step, > 0.
    beta_1
        How much of the mean is in the direction of a step, in [0, 1).
    beta_2
        How slowly the mean of the gradients is forgotten, in [0, 1).
    weight_decay
        Share by which all trainable parameters, biases included, shrink at each step, per learning rate, >= 0.

    Raises
    ------
    TypeError, ValueError
        If a parameter is wrong; the message says which.

    Examples
    --------
    >>> import backprop as bp
    >>> bp.Lion(weight_decay=0.1)
    Lion(learning_rate=0.0001, beta_1=0.9, beta_2=0.99, weight_decay=0.1)
    """

    name: ClassVar[str] = "lion"
    learning_rate: float = 1e-4
    _: KW_ONLY
    beta_1: float = 0.9
    beta_2: float = 0.99
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        Optimizer.__post_init__(self)
        check.number("beta_1", self.beta_1, at_least=0, below=1)
        check.number("beta_2", self.beta_2, at_least=0, below=1)
        check.number("weight_decay", self.weight_decay, at_least=0)

    @property
    def hyperparameters(self) -> tuple[float, ...]:
        """``(beta_1, beta_2, weight_decay)``."""
        return self.beta_1, self.beta_2, self.weight_decay

    @property
    def n_slots(self) -> int:
        """1, the mean gradient."""
        return 1

    def update(self, p: Array, g: Array, slots: Array, t: int, learning_rate: float) -> None:
        """Step against the sign of the mean of gradient and mean gradient, decay included."""
        (mean,) = slots
        p *= 1 - learning_rate * self.weight_decay
        p -= learning_rate * np.sign(self.beta_1 * mean + (1 - self.beta_1) * g)
        mean[...] = self.beta_2 * mean + (1 - self.beta_2) * g
