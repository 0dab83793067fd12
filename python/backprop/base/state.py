"""Everything that training changes."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backprop.base import random
from backprop.base.types import Average, RealArray


@dataclass(slots=True)
class TrainingState:
    """Everything that training changes. Continuing from a copy of it is the same as never having stopped."""

    parameters: RealArray
    """(n_parameters,)"""
    slots: RealArray
    """(n_slots, n_parameters): what the optimizer remembers"""
    bit_generator: np.random.PCG64
    step: int = 0
    """optimizer steps done with these slots"""
    epoch: int = 0
    """whole epochs done"""
    cursor: int = 0
    """rows of the current epoch already used"""
    permutation: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    """(n,): the order of the rows in the current epoch; empty where rows are not shuffled"""
    loss_sum: float = 0.0
    """sum over this epoch's batches of loss times denominator"""
    weight_sum: float = 0.0
    """sum over this epoch's batches of the denominators"""
    best_loss: float = float("inf")
    """lowest monitored loss so far"""
    best_epoch: int = 0
    """the value of `epoch` right after the epoch that had it"""
    stale_epochs: int = 0
    first_epoch: int = 0
    """the value of `epoch` when the call of `fit` began to which all this belongs"""
    rate_scale: float = 1.0
    """what callbacks have multiplied the learning rates with"""
    callbacks: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    """class and state of each callback when `fit` ended or a checkpoint was written"""
    ending: str | None = None
    """why `fit` was about to end when a checkpoint was written, after which it had something left to do"""
    best_parameters: RealArray = field(default_factory=lambda: np.empty(0))
    """(n_parameters,) where `TrainingSettings.keep_best` is set, else empty"""
    average: RealArray = field(default_factory=lambda: np.empty(0))
    """(n_parameters,) where `TrainingSettings.average` is set, else empty; how many are in it follows from the rest"""
    swapped: bool = False
    """whether the network has the average, and `average` the parameters of the last step"""

    def __getstate__(self) -> dict[str, Any]:
        """Give the random numbers as plain numbers, and an order of rows that is drawn anew anyway as its length.

        Small networks are pickled by the thousand: these two would be larger than their parameters.
        """
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        values["bit_generator"] = random.words(self.bit_generator)
        if self.cursor == 0:
            values["permutation"] = len(self.permutation)
        if len(self.average) == 0:
            del values["average"], values["swapped"]
        if self.ending is None:
            del values["ending"]
        return values

    def swap(self) -> None:
        """Let the network and this state exchange the parameters of the last step and the average."""
        last = self.parameters.copy()
        self.parameters[...] = self.average
        self.average[...] = last
        self.swapped = not self.swapped

    def __setstate__(self, values: Any) -> None:
        if isinstance(values, tuple):  # what Python itself keeps of an object with slots, as version 0.1 did
            values = values[1]
        self.average, self.swapped, self.ending = np.empty(0), False, None  # left out where there is none
        for name, value in values.items():
            setattr(self, name, value)
        if isinstance(self.bit_generator, list):
            self.bit_generator = random.bit_generator(self.bit_generator)
        if isinstance(self.permutation, int):
            self.permutation = np.arange(self.permutation, dtype=np.int64)


def n_averaged(average: Average, epochs: Any, cursor: Any, n_rows: Any, batch_size: Any) -> Any:
    """Return how many sets of parameters are in the average after so many whole epochs of a run and rows of the next.

    They are numbers, or arrays with one for each member of a fleet.
    """
    per_epoch = -(-n_rows // batch_size)
    steps = (epochs - average.start) * per_epoch + -(-cursor // batch_size)
    return np.maximum(0, steps) // (average.every or per_epoch)
