"""Muon: steps for hidden weights as whole matrices."""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass
from typing import ClassVar

import numpy as np

from backprop.base import checks as check
from backprop.base.types import Array
from backprop.reference.optimizers.adam import AdamW
from backprop.reference.optimizers.optimizer import Optimizer

__all__ = ["Muon"]

_ADJUSTMENTS = ("original", "match_rms_adamw")


@dataclass(frozen=True, slots=True)
class Muon(Optimizer):
    """Hidden weights step along their mean gradient made orthogonal; `AdamW` does the rest.

    Hidden weights W (n_in, n_out) are those of all layers but the last::

        m = momentum * m + (1 - momentum) * g
        X = (1 - momentum) * g + momentum * m  if nesterov else  m
        X = X / max(norm(X), epsilon)                                (the Euclidean norm of all its numbers)
        ns_steps times, with ns_coefficients (a, b, c):              (Newton-Schulz)
            A = X @ X.T                                              (where n_in > n_out: of X transposed)
            X = a * X + (b * A + c * A @ A) @ X
        W *= 1 - learning_rate * weight_decay
        W -= learning_rate * sqrt(max(1, n_out / n_in)) * X          (adjust_lr "original")
        W -= learning_rate * 0.2 * sqrt(max(n_in, n_out)) * X        (adjust_lr "match_rms_adamw")

    X has the directions of m, with all singular values near 1. The biases, the slopes and the last layer step as
    ``AdamW(learning_rate=adamw_learning_rate, beta_1, beta_2, adamw_epsilon, adamw_weight_decay)`` would.

    As PyTorch's ``Muon`` beside its ``AdamW``, with their defaults; PyTorch iterates in bfloat16, this class in the
    dtype of the network. From K. Jordan et al., "Muon: an optimizer for hidden layers in neural networks" (2024); the
    second adjustment from J. Liu et al., "Muon is scalable for LLM training", arXiv:2502.16982 (2025).

    Parameters
    ----------
    learning_rate
        Factor on every step of hidden weights, > 0. What a schedule of ``fit`` makes of it, in proportion, it makes of
        `adamw_learning_rate` too.
    weight_decay
        Share by which hidden weights shrink at each step, per learning rate, >= 0.
    momentum
        How slowly the mean of the gradients is forgotten, in [0, 1).
    nesterov
        Whether the step looks ahead, to where the momentum leads.
    epsilon
        Keeps the norm that is divided by from 0, > 0.
    ns_steps
        Iterations, 1 to 99.
    ns_coefficients
        Three numbers: of X, A X and A A X.
    adjust_lr
        How the step follows the shape of the matrix: ``"original"`` or ``"match_rms_adamw"``, with which the learning
        rate and the weight decay of `AdamW` are right.
    adamw_learning_rate, beta_1, beta_2, adamw_epsilon, adamw_weight_decay
        Settings of AdamW for all that is no hidden weight.

    Raises
    ------
    TypeError, ValueError
        If a parameter is wrong; the message says which.

    Examples
    --------
    >>> import backprop as bp
    >>> net = bp.mlp([2, 16, 16, 1], seed=0)
    >>> history = net.fit([[0, 0], [0, 1]], [[0], [1]], optimizer=bp.Muon(learning_rate=0.02), epochs=50)
    >>> bool(history.loss[-1] < history.loss[0] / 2)
    True
    """

    name: ClassVar[str] = "muon"
    learning_rate: float = 0.001
    _: KW_ONLY
    weight_decay: float = 0.1
    momentum: float = 0.95
    nesterov: bool = True
    epsilon: float = 1e-7
    ns_steps: int = 5
    ns_coefficients: tuple[float, float, float] = (3.4445, -4.7750, 2.0315)
    adjust_lr: str = "original"
    adamw_learning_rate: float = 0.001
    beta_1: float = 0.9
    beta_2: float = 0.999
    adamw_epsilon: float = 1e-8
    adamw_weight_decay: float = 0.01

    def __post_init__(self) -> None:
        Optimizer.__post_init__(self)
        check.number("weight_decay", self.weight_decay, at_least=0)
        check.number("momentum", self.momentum, at_least=0, below=1)
        check.boolean("nesterov", self.nesterov)
        check.number("epsilon", self.epsilon, above=0)
        check.integer("ns_steps", self.ns_steps, at_least=1, at_most=99)
        object.__setattr__(self, "ns_coefficients", _three_numbers(self.ns_coefficients))
        check.choice("adjust_lr", self.adjust_lr, _ADJUSTMENTS)
        check.number("adamw_learning_rate", self.adamw_learning_rate, above=0)
        check.number("beta_1", self.beta_1, at_least=0, below=1)
        check.number("beta_2", self.beta_2, at_least=0, below=1)
        check.number("adamw_epsilon", self.adamw_epsilon, at_least=0)
        check.number("adamw_weight_decay", self.adamw_weight_decay, at_least=0)

    @property
    def hyperparameters(self) -> tuple[float, ...]:
        """AdamW's learning rate over Muon's, AdamW's, and Muon's own.

        ``(ratio, beta_1, beta_2, adamw_epsilon, adamw_weight_decay, amsgrad, epsilon_hat,``
        ``momentum, nesterov, weight_decay, epsilon, ns_steps, *ns_coefficients, adjust_lr == "match_rms_adamw")``.
        """
        own = self.momentum, self.nesterov, self.weight_decay, self.epsilon, self.ns_steps, *self.ns_coefficients
        return self._ratio, *self._adamw.hyperparameters, *own, self.adjust_lr == "match_rms_adamw"

    @property
    def n_slots(self) -> int:
        """2, m and AdamW's v; hidden weights have no use for the second."""
        return 2

    @property
    def _ratio(self) -> float:
        return self.adamw_learning_rate / self.learning_rate

    @property
    def _adamw(self) -> AdamW:
        return AdamW(
            beta_1=self.beta_1, beta_2=self.beta_2, epsilon=self.adamw_epsilon, weight_decay=self.adamw_weight_decay
        )

    def update(self, p: Array, g: Array, slots: Array, t: int, learning_rate: float) -> None:
        """Step as AdamW."""
        self._adamw.update(p, g, slots, t, learning_rate * self._ratio)

    def update_hidden_weights(self, p: Array, g: Array, slots: Array, t: int, learning_rate: float) -> None:
        """Step along the mean gradient with its singular values brought near 1, decay included."""
        mean = slots[0]
        mean += (g - mean) * (1 - self.momentum)
        direction = self._orthogonal(g + (mean - g) * self.momentum if self.nesterov else mean)
        n_in, n_out = p.shape
        if self.adjust_lr == "original":
            adjusted = learning_rate * math.sqrt(max(1.0, n_out / n_in))
        else:
            adjusted = learning_rate * 0.2 * math.sqrt(max(n_in, n_out))
        p *= 1 - learning_rate * self.weight_decay
        p -= adjusted * direction

    def _orthogonal(self, X: Array) -> Array:
        """Return what has the singular vectors of X, and singular values near 1."""
        if X.shape[0] > X.shape[1]:
            return self._orthogonal(X.T).T
        a, b, c = self.ns_coefficients
        norm = math.sqrt(np.square(X, dtype=np.float64).sum())
        X = X / max(norm, self.epsilon)
        for _ in range(self.ns_steps):
            A = X @ X.T
            X = a * X + (b * A + c * (A @ A)) @ X
        return X


def _three_numbers(value: object) -> tuple[float, ...]:
    if not isinstance(value, (tuple, list)) or len(value) != 3:
        raise TypeError(f"ns_coefficients: needs three numbers, got {check.shown(value)}")
    return tuple(check.number("ns_coefficients", number) for number in value)
