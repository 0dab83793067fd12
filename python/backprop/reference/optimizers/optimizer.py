"""What every optimizer has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from backprop.base import checks as check
from backprop.base.types import Array, RealArray

__all__ = ["Optimizer"]

# dataclass(slots=True) makes a second class, which super() without arguments does not know before Python 3.14;
# therefore the optimizers call the __post_init__ of this base class by its name.


@dataclass(frozen=True, slots=True)
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

    def update(self, p: Array, g: Array, slots: Array, t: int, learning_rate: float) -> None:
        """Change parameters and slots in place: the t-th step, counted from 1, along the gradient, which stays."""
        raise NotImplementedError

    def update_hidden_weights(self, p: Array, g: Array, slots: Array, t: int, learning_rate: float) -> None:
        """Do the same for the weights (n_in, n_out) of a layer that is not the last."""
        self.update(p, g, slots, t, learning_rate)

    def new_slots(self, n_parameters: int, dtype: Any) -> RealArray:
        """Make what it remembers before the first step, (n_slots, n_parameters)."""
        return np.zeros((self.n_slots, n_parameters), dtype)
