"""The callbacks of an estimator, and the network that they are given."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from backprop.base.interrupts import HeldInterrupts
from backprop.base.types import RealArray
from backprop.learn.callbacks import Callback, overrides
from backprop.learn.callbacks.plateaus import keeps_measured

if TYPE_CHECKING:
    from backprop.network import Network


class Listeners:
    """The callbacks of an estimator, and the network that they are given; it stands for the `fit` of that network."""

    def __init__(
        self, callbacks: Sequence[Callback], names: Sequence[str], network: Network, evaluated: Callable[[], RealArray]
    ) -> None:
        """names: of what is recorded; evaluated: returns the parameters of which scores are."""
        self.callbacks, self.network, self.evaluated = callbacks, network, evaluated
        for callback in self.callbacks:
            if callback.monitor is not None and callback.monitor not in names:
                listed = ", ".join(map(repr, names))
                raise ValueError(f"callbacks: {callback!r} needs a monitor that is recorded, {listed}")
        self.begin_calls = [each for each in self.callbacks if overrides(each, "on_epoch_begin")]
        self.end_calls = [each for each in self.callbacks if overrides(each, "on_epoch_end")]
        self.logs: dict[str, float] = {}
        self.stop_reason: str | None = None
        self.scale = 1.0
        self.keeps_measured = any(map(keeps_measured, self.callbacks))
        self.measured: RealArray | None = None
        """the parameters before the step of a full batch, as `model.run.Run` has them"""

    def stop(self, reason: str) -> None:
        """Let training end: what `Network.stop` does."""
        self.stop_reason = reason

    def scale_learning_rate(self, factor: float) -> None:
        """Multiply the rates of all later steps: what `Network.scale_learning_rate` does."""
        self.scale *= factor

    @contextmanager
    def attached(self, interrupts: HeldInterrupts) -> Iterator[None]:
        """Tell the callbacks of the beginning and, however it comes, of the end."""
        self.interrupts, network = interrupts, self.network
        network.history.stop_reason = "interrupted"
        network._run = self  # type: ignore[assignment]
        with ExitStack() as ends:
            try:
                for callback in self.callbacks:
                    self.call(callback.on_train_begin, network, self.logs)
                    ends.callback(self.end, callback)
                yield
            finally:
                network._run = None

    def call(self, function: Callable[..., Any], *arguments: Any) -> None:
        """Call what is not ours; Ctrl-C may interrupt it."""
        self.interrupts.call(function, *arguments)

    def end(self, callback: Callback) -> None:
        """Tell a callback that training has ended."""
        self.call(callback.on_train_end, self.network, self.logs)

    def next_call(self, epoch: int) -> int:
        """Return the next epoch, counted over all calls of `fit`, after which a callback is due."""
        due = [(epoch // each.every + 1) * each.every for each in (*self.begin_calls, *self.end_calls)]
        if self.keeps_measured:
            due.append(epoch + 1)
        return min(due, default=sys.maxsize)

    def epoch_begins(self, epoch: int, full_batch: bool) -> None:
        """Call what is due before the next epoch, so many being done; it has one step, or several."""
        for callback in self.begin_calls:
            if epoch % callback.every == 0:
                self.call(callback.on_epoch_begin, self.network, epoch + 1, self.logs)
        if self.keeps_measured and full_batch:
            self.measured = self.network.parameters.copy()

    def epoch_ends(self, epoch: int) -> None:
        """Call what is due when so many epochs are done."""
        for callback in self.end_calls:
            if epoch % callback.every == 0:
                self.call(callback.on_epoch_end, self.network, epoch, self.logs)

    def record(self, done: int, records: dict[str, NDArray[np.float64]]) -> None:
        """Add epochs to the network's history."""
        self.network.history.extend(done, records)
        self.logs = {name: float(values[-1]) for name, values in records.items()}
