"""When training diverges: back to the last finite parameters, and where the first number that is not finite came from.

A good run pays for a copy of the training state now and then. Training is deterministic: from a copy the same steps
lead to the same numbers, and bisection finds the last of them that left everything finite.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from backprop.base.state import TrainingState
from backprop.base.types import Data, RealArray
from backprop.model.model import Model
from backprop.model.objective import Objective
from backprop.reference.losses import Loss

if TYPE_CHECKING:
    from backprop.backends.custom import Custom

_ARRAYS = ("parameters", "slots", "permutation", "best_parameters", "average")
_NUMBERS = tuple(
    field.name for field in fields(TrainingState) if field.name not in _ARRAYS and field.name != "bit_generator"
)


class DivergedError(ArithmeticError):
    """The loss of an epoch, or a parameter at its end, is not finite.

    The network has its last finite parameters, those before the batch that is named; its history has every epoch up to
    and including this one.

    Attributes
    ----------
    epoch : int
        The epoch, counted from 1 over all calls of `fit`.
    loss : float
        Its loss.
    learning_rate : float
        That of the optimizer.
    batch : int or None
        The batch in which the first number that is not finite appeared, counted from 1 in its epoch. None if training
        from a copy of an earlier state did not diverge again, because a callback had changed the network.
    layer : int or None
        The layer in which it appeared: its index in `Network.layers`.

    Examples
    --------
    >>> import backprop as bp
    >>> net = bp.mlp([1, 1], dtype="float64", seed=0)
    >>> try:
    ...     history = net.fit([[1.0], [2.0]], [1.0, 2.0], optimizer=bp.SGD(learning_rate=1e100), batch_size=1)
    ... except bp.DivergedError as error:
    ...     print(error.epoch == net.history.epochs, error.layer)
    True 0
    """

    def __init__(
        self,
        epoch: int,
        loss: float,
        learning_rate: float,
        batch: int | None = None,
        layer: int | None = None,
        where: str = "",
    ) -> None:
        self.epoch, self.loss, self.learning_rate = epoch, loss, learning_rate
        self.batch, self.layer, self.where = batch, layer, where
        super().__init__(epoch, loss, learning_rate, batch, layer, where)

    def __str__(self) -> str:
        loss = f"the loss of epoch {self.epoch} is {self.loss}"
        if math.isfinite(self.loss):
            loss += ", but its last parameters are not finite"
        text = (
            f"{loss}: try a learning_rate below {self.learning_rate:g}, clip_norm or clip_value, or scale the columns "
            "of X"
        )
        if self.where:
            text += f"; in batch {self.batch} {self.where} were the first numbers that are not finite"
        return text


class Snapshot:
    """A copy of a training state, to which the state can be taken back in place."""

    def __init__(self, state: TrainingState) -> None:
        self._arrays = [getattr(state, name).copy() for name in _ARRAYS]
        self._keep_rest(state)

    def _keep_rest(self, state: TrainingState) -> None:
        self._numbers = [getattr(state, name) for name in _NUMBERS]
        self._random = state.bit_generator.state
        self.step = state.step

    def take(self, state: TrainingState) -> None:
        """Copy the state as it is now."""
        for name, array in zip(_ARRAYS, self._arrays, strict=True):
            array[...] = getattr(state, name)
        self._keep_rest(state)

    def restore(self, state: TrainingState) -> None:
        """Take the state back to what it was; its arrays stay the same objects."""
        for name, array in zip(_ARRAYS, self._arrays, strict=True):
            getattr(state, name)[...] = array
        for name, number in zip(_NUMBERS, self._numbers, strict=True):
            setattr(state, name, number)
        state.bit_generator.state = self._random


def is_finite(state: TrainingState) -> bool:
    """Whether the parameters and the loss of the epoch so far are."""
    return math.isfinite(state.loss_sum) and bool(np.isfinite(state.parameters).all())


def find_last_finite(state: TrainingState, snapshot: Snapshot, bad_step: int, replay: Callable[[int], bool]) -> bool:
    """Bring the state, and the snapshot, to the last step before which all was finite.

    `replay` trains from the snapshot to a step and tells whether all is finite there. Once something is not, it stays
    so to the end of the epoch, so that bisection finds the first such step; the replays add up to about one more run of
    the steps since the snapshot. Returns False if training again went differently: then somebody else has changed what
    it depends on.
    """
    while bad_step - snapshot.step > 1:
        middle = (snapshot.step + bad_step) // 2
        if replay(middle):
            if state.step != middle:
                break
            snapshot.take(state)
        else:
            bad_step = middle
    return bad_step - snapshot.step == 1 and not replay(bad_step)


@dataclass(frozen=True, slots=True)
class Origin:
    """Where the first number that is not finite appeared in a step."""

    layer: int | None
    """index in `Network.layers`"""
    text: str


def origin(network: Model, loss: Loss | Custom, batch: Data, before: RealArray, after: RealArray) -> Origin | None:
    """Find the first number that is not finite in the step that led from parameters to others.

    The step goes forward through the layers, to the loss, backward through the layers and to the new parameters.
    Dropout is left out: what it multiplies is finite or not, whatever the factors.
    """
    with np.errstate(all="ignore"):
        return (
            _in_outputs(network, batch.X, before)
            or _in_gradients(network, loss, batch, before)
            or _in_parameters(network, after)
        )


def _in_outputs(network: Model, X: RealArray, parameters: RealArray) -> Origin | None:
    core, start = network._core, 0
    for k, layer in enumerate(network.layers):
        plan = core.Plan(X.shape[1], [layer])
        out: Any = np.empty((len(X), layer.units), X.dtype)
        core.forward(plan, parameters[start : start + plan.n_parameters], X, out)
        if not np.isfinite(out).all():
            return Origin(k, f"the outputs of layers[{k}]")
        start += plan.n_parameters
        X = out
    return None


def _in_gradients(network: Model, loss: Loss | Custom, batch: Data, parameters: RealArray) -> Origin | None:
    last = len(network.layers) - 1
    if not isinstance(loss, Loss):
        return None
    gradient = np.zeros_like(parameters)
    value = Objective(network._core, network._plan, network.layers, loss, batch)(parameters, gradient)
    if not math.isfinite(value):
        return Origin(last, f"the loss, from the outputs of layers[{last}],")
    for k in range(last, -1, -1):
        if not _are_finite(network._views(gradient)[k]):
            return Origin(k, f"the gradients of layers[{k}]")
    return None


def _in_parameters(network: Model, parameters: RealArray) -> Origin | None:
    for k, arrays in enumerate(network._views(parameters)):
        if not _are_finite(arrays):
            return Origin(k, f"the new parameters of layers[{k}]")
    return None


def _are_finite(arrays: Iterable[RealArray | None]) -> bool:
    return all(array is None or bool(np.isfinite(array).all()) for array in arrays)
