"""What every backend offers: the compiled cores and `backprop.reference`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from backprop.base.fleet import FleetData, FleetRates, FleetState
from backprop.base.solving import SolveReason, SolverState
from backprop.base.state import TrainingState
from backprop.base.types import Data, RealArray, TrainingSettings
from backprop.reference.dense import Dense
from backprop.reference.losses import Loss
from backprop.reference.optimizers import Optimizer

if TYPE_CHECKING:
    from backprop.reference.solvers import Solver


class Plan(Protocol):
    """A network's layers in the backend's own form."""

    @property
    def n_inputs(self) -> int:
        """Number of columns of X."""

    @property
    def n_outputs(self) -> int:
        """Number of outputs."""

    @property
    def n_parameters(self) -> int:
        """Length of the flat parameter vector."""


class Training(Protocol):
    """A training run over fixed data: holds the buffers, changes the state in place."""

    def set_learning_rates(self, learning_rates: NDArray[np.float64]) -> None:
        """`learning_rates[k]` is used for the k-th step from here; the last one is used from there on."""

    def run(
        self,
        last_epoch: int,
        seconds: float,
        losses: NDArray[np.float64],
        validation_losses: NDArray[np.float64] | None = None,
        last_step: int | None = None,
    ) -> str:
        """Train until `state.epoch == last_epoch`, a stop rule fires, `state.step == last_step`, or the time is over.

        `losses[i]` and `validation_losses[i]` receive what belongs to the i-th epoch finished in this call; with
        validation data the second is needed. The clock is looked at after each step, or after some of the rows of a
        long one, which the next call goes on with: every call makes some progress. To the state, a step that was left
        in the middle has not begun. When several reasons to stop come together, the first of "diverged", "tolerance",
        "epochs", "time" is returned; "time" stands for `last_step` too.
        """
        ...


class FleetTraining(Protocol):
    """A training run of a fleet over fixed data: holds the buffers, changes the state in place."""

    def set_rates(self, rates: FleetRates) -> None:
        """Take these rates from the next step on."""

    def run(
        self,
        first: int,
        last: int,
        seconds: float,
        losses: NDArray[np.float64],
        validation_losses: NDArray[np.float64] | None = None,
    ) -> bool:
        """Train until every member whose `status` is `RUNNING` has done `last` epochs since its `first_epoch`.

        ``losses[e - first, k]`` and ``validation_losses[e - first, k]`` receive what belongs to epoch e, counted from
        the member's `first_epoch`; with validation data the second is needed. Returns True where all are done, False
        where the time is over before.

        A member whose stop rule fires gets the status `TOLERANCE` and waits; set to `RUNNING` again, it goes on. One
        that diverges gets the status `DIVERGED`, its `diverged_epoch` and the loss of that epoch, and all else of its
        state is taken back to a copy from the start of some epoch before, or of this call, where all was finite. A
        member whose numbers are not finite where the time is over gets the status `DIVERGING`: the same for the epoch
        at hand, whose loss is NaN.
        """
        ...


class Solving(Protocol):
    """A minimisation of the loss over fixed data: holds the buffers, changes the state in place."""

    def run(self, last_iteration: int, seconds: float, losses: NDArray[np.float64]) -> SolveReason:
        """Go on until `state.iteration == last_iteration`, there is another reason to end, or the time is over.

        ``losses[i]`` receives the loss after the i-th iteration of this call. The first call computes the loss at the
        start, even where it has no iteration to do. The clock is looked at after each evaluation of the loss. Once
        there was a reason other than "iterations" and "time", there is nothing left to do.
        """
        ...

    def remember(self) -> None:
        """Put what the method has learned into the state: with it another one goes on as if this had never stopped."""


# `Core` has methods of these names, which hide them there.
_Training: TypeAlias = Training
_FleetTraining: TypeAlias = FleetTraining
_Solving: TypeAlias = Solving
P = TypeVar("P", bound=Plan)
"""a backend's own plans, which no other backend understands"""


class Core(Protocol[P]):
    """A backend for one dtype: a module with these names, for its own plans P."""

    @property
    def ACTIVATIONS(self) -> tuple[str, ...]:
        """Names of the activations."""

    @property
    def LOSSES(self) -> tuple[str, ...]:
        """Names of the losses."""

    @property
    def OPTIMIZERS(self) -> tuple[str, ...]:
        """Names of the optimizers."""

    @property
    def FEW_OUTPUTS(self) -> int:
        """A layer with fewer units is narrow; a network of such layers may be a tiny one."""

    @property
    def MAX_THREADS(self) -> int:
        """The most threads that a run can have."""

    def Plan(self, n_inputs: int, layers: Sequence[Dense]) -> P:
        """Return the layers in the backend's own form."""
        ...

    def Training(
        self,
        plan: P,
        loss: Loss,
        optimizer: Optimizer,
        settings: TrainingSettings,
        data: Data,
        state: TrainingState,
        learning_rates: NDArray[np.float64],
        validation: Data | None = None,
    ) -> _Training:
        """Return a run; the rates are as for `Training.set_learning_rates`, `validation` is measured each epoch."""
        ...

    def FleetTraining(
        self,
        n_inputs: int,
        layers: Sequence[tuple[Dense, ...]],
        loss: Loss,
        optimizers: Sequence[Optimizer],
        settings: TrainingSettings,
        data: FleetData,
        state: FleetState,
        rates: FleetRates,
        validation: FleetData | None = None,
        in_lanes: bool | None = None,
    ) -> _FleetTraining:
        """Return the run of a fleet of networks of one shape.

        `layers` and `optimizers` are those of all members, or one for each. Members' layers may differ in l1, l2 and
        dropout, but not in which of them are 0; their optimizers, of one class, in hyperparameters that are numbers,
        but not in which of them are 0. in_lanes: whether the networks lie in the lanes of vectors, side by side; None
        for what is faster. It changes no bit.
        """
        ...

    def Solving(
        self,
        plan: P,
        loss: Loss,
        solver: Solver,
        data: Data,
        state: SolverState,
        n_threads: int = 1,
        fixed_threads: bool = False,
        bound: float = sys.float_info.max,
        begins_alone: bool = False,
    ) -> _Solving:
        """Return a minimisation of the loss over all rows, penalties included, without dropout.

        It goes on from the state. The numbers of the method are doubles, whatever the backend's dtype, in which the
        loss is computed. Threads are as in `TrainingSettings`; begins_alone: others join the first one where that shows
        to be faster. Where a parameter is larger than `bound`, without its sign, or NaN, the loss counts as infinite.
        """
        ...

    def forward(self, plan: P, parameters: RealArray, X: RealArray, out: RealArray) -> bool:
        """Fill `out` (n, n_outputs) with the outputs for X (n, n_inputs).

        Returns False, with `out` undefined, when X holds a NaN or an infinity.
        """
        ...

    def loss_and_gradient(
        self,
        plan: P,
        loss: Loss,
        parameters: RealArray,
        data: Data,
        gradient: RealArray | None,
        input_gradient: RealArray | None = None,
    ) -> float:
        """Return the loss over all rows, penalties included.

        Its gradient goes into `gradient` (n_parameters,), and that with respect to X into `input_gradient`
        (n, n_inputs), unless they are None. There is no dropout.
        """
        ...

    def backward(
        self,
        plan: P,
        parameters: RealArray,
        X: RealArray,
        head: Callable[[RealArray], RealArray],
        gradient: RealArray | None,
        input_gradient: RealArray | None,
        dropout_key: int | None = None,
    ) -> None:
        """Compute the gradients of any function of the outputs.

        `head` is called once, with the outputs (n, n_outputs), and returns the function's gradient with respect to
        them, of the same shape and dtype, C-contiguous. `gradient` and `input_gradient` are as in `loss_and_gradient`,
        without penalties. With a `dropout_key` the layers drop outputs as in a training step that drew this key.
        """

    def jacobian(self, plan: P, parameters: RealArray, X: RealArray, out: RealArray) -> None:
        """Fill `out` (n, n_outputs, n_inputs) with the derivatives of the outputs with respect to X."""

    def parameter_jacobian(self, plan: P, parameters: RealArray, X: RealArray, out: RealArray) -> None:
        """Fill `out` (n, n_outputs, n_parameters) with the derivatives of the outputs, 0 for what is not trainable."""

    def gradients_per_row(self, plan: P, loss: Loss, parameters: RealArray, data: Data, out: RealArray) -> None:
        """Fill `out` (n, n_parameters) with each row's part of the gradient of the data loss, without penalties."""

    def curvature_product(
        self,
        plan: P,
        loss: Loss,
        parameters: RealArray,
        data: Data,
        vector: RealArray,
        out: RealArray,
        gauss_newton: bool = False,
    ) -> None:
        """Fill `out` (n_parameters,) with the Hessian of the loss, or its Gauss-Newton matrix, times a vector.

        `vector` is 0 for what is not trainable, and so is `out`. Penalties are included: l2 adds l2 times the vector.
        """

    def hessian(self, plan: P, parameters: RealArray, X: RealArray, out: RealArray) -> None:
        """Fill `out` (n, n_outputs, n_inputs, n_inputs) with the second derivatives of the outputs."""

    def laplacian(self, plan: P, parameters: RealArray, X: RealArray, out: RealArray) -> None:
        """Fill `out` (n, n_outputs) with the sum of the second derivatives of each output by each input alone."""

    def update(
        self,
        plan: P,
        optimizer: Optimizer,
        parameters: RealArray,
        gradient: RealArray,
        slots: RealArray,
        step: int,
        learning_rate: float,
    ) -> None:
        """Do one optimizer step in place; `step` counts from 1. Only trainable parameters and their slots change."""

    def limit_norms(self, plan: P, parameters: RealArray) -> None:
        """Do in place what follows an optimizer step: scale the weights into each unit down to the layer's max_norm."""
