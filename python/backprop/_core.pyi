"""The contract that every backend meets: the compiled cores and `backprop.reference`."""

from collections.abc import Callable, Sequence

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

def loss_and_gradient(
    plan: Plan,
    loss: Loss,
    parameters: RealArray,
    data: Data,
    gradient: RealArray | None,
    input_gradient: RealArray | None = None,
) -> float:
    """The loss over all rows, penalties included.

    Its gradient goes into `gradient` (n_parameters,), and that with respect to X into `input_gradient` (n, n_inputs),
    unless they are None. There is no dropout.
    """

def backward(
    plan: Plan,
    parameters: RealArray,
    X: RealArray,
    head: Callable[[RealArray], RealArray],
    gradient: RealArray | None,
    input_gradient: RealArray | None,
    dropout_key: int | None = None,
) -> None:
    """The gradients of any function of the outputs.

    `head` is called once, with the outputs (n, n_outputs), and returns the function's gradient with respect to them, of
    the same shape and dtype, C-contiguous. `gradient` and `input_gradient` are as in `loss_and_gradient`, without
    penalties. With a `dropout_key` the layers drop outputs as in a training step that drew this key.
    """

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
        validation: Data | None = None,
    ) -> None:
        """As `set_learning_rates` for the rates; `validation` is measured at the end of each epoch."""

    def set_learning_rates(self, learning_rates: NDArray[float64]) -> None:
        """`learning_rates[k]` is used for the k-th step from here; the last one is used from there on."""

    def run(
        self,
        last_epoch: int,
        seconds: float,
        losses: NDArray[float64],
        validation_losses: NDArray[float64] | None = None,
        last_step: int | None = None,
    ) -> str:
        """Train until `state.epoch == last_epoch`, a stop rule fires, `state.step == last_step`, or the time is over.

        `losses[i]` and `validation_losses[i]` receive what belongs to the i-th epoch finished in this call; with
        validation data the second is needed. The clock is looked at after each step, or after some of the rows of a
        long one, which the next call goes on with: every call makes some progress. To the state, a step that was left
        in the middle has not begun. When several reasons to stop come together, the first of "diverged", "tolerance",
        "epochs", "time" is returned; "time" stands for `last_step` too.
        """
