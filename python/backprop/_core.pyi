"""The contract that every backend meets: the compiled cores and `backprop.reference`."""

from collections.abc import Sequence

from numpy import float64
from numpy.typing import NDArray

from backprop._types import Data, RealArray, TrainingSettings, TrainingState
from backprop.layers import Dense
from backprop.losses import Loss
from backprop.optimizers import Optimizer

ACTIVATIONS: tuple[str, ...]
LOSSES: tuple[str, ...]
OPTIMIZERS: tuple[str, ...]

class Plan:
    """A network's layers in the backend's own form."""

    n_inputs: int
    n_outputs: int
    n_parameters: int

    def __init__(self, n_inputs: int, layers: Sequence[Dense]) -> None: ...

def forward(plan: Plan, parameters: RealArray, X: RealArray, out: RealArray) -> bool:
    """Fill `out` (n, n_outputs) with the outputs for X (n, n_inputs).

    Returns False, with `out` undefined, when X holds a NaN or an infinity.
    """

def loss_and_gradient(plan: Plan, loss: Loss, parameters: RealArray, data: Data, gradient: RealArray | None) -> float:
    """The loss over all rows, penalties included; its gradient goes into `gradient` unless that is None."""

def update(
    plan: Plan,
    optimizer: Optimizer,
    parameters: RealArray,
    gradient: RealArray,
    slots: RealArray,
    step: int,
    learning_rate: float,
) -> None:
    """One optimizer step, in place; `step` counts from 1. Only trainable parameters and their slots change."""

class Training:
    """A training run over fixed data: holds the buffers, changes `state` in place."""

    def __init__(
        self,
        plan: Plan,
        loss: Loss,
        optimizer: Optimizer,
        settings: TrainingSettings,
        data: Data,
        state: TrainingState,
        learning_rates: NDArray[float64],
    ) -> None:
        """`learning_rates[k]` is used for the k-th step of this run; the last one is used from there on."""

    def run(self, last_epoch: int, seconds: float, losses: NDArray[float64]) -> str:
        """Train until `state.epoch == last_epoch`, a stop rule fires, or about `seconds` have passed.

        `losses[e]` receives the loss of the e-th epoch finished in this run (counted from the making of the
        `Training`). Returns "epochs", "tolerance", "diverged" or "time".
        """
