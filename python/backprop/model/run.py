"""What a network knows of the run that trains it."""

from __future__ import annotations

from typing import Protocol

from backprop.base.types import RealArray


class Run(Protocol):
    """A `fit` or a `minimize` at work."""

    @property
    def measured(self) -> RealArray | None:
        """The parameters that had the training loss of the epoch, where they are known and not those at its end."""

    def evaluated(self) -> RealArray:
        """Return the parameters of which the validation loss and the metrics are."""

    def stop(self, reason: str) -> None:
        """End training soon."""

    def scale_learning_rate(self, factor: float) -> None:
        """Multiply the rates of all later steps."""

    def note_callbacks(self) -> None:
        """Put the states of the callbacks where a checkpoint finds them."""
