"""The loss over all rows, minimised by the backend: L-BFGS and Levenberg-Marquardt."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from backprop.backends.contract import Solving
from backprop.backends.custom import Custom
from backprop.base import checks as check
from backprop.base.interrupts import HeldInterrupts
from backprop.base.solving import SolveReason, SolverState
from backprop.base.types import Data
from backprop.learn import pace
from backprop.learn.callbacks import Progress
from backprop.model.objective import Objective
from backprop.reference.gauss_newton import WEIGHTS
from backprop.reference.solvers import SOLVERS, LevenbergMarquardt, Solver

if TYPE_CHECKING:
    from backprop.model.model import Model
    from backprop.reference.dense import Dense
    from backprop.reference.losses import Loss

MOST_PARAMETERS = 5000
"""that Levenberg-Marquardt trains: its matrix has 200 MB then"""

_MESSAGES: dict[SolveReason | Literal["stopped"], str] = {
    "iterations": "all iterations are done",
    "gradient": "no element of the gradient is larger than the tolerance",
    "loss": "the loss hardly falls any more",
    "evaluations": "the loss was computed as often as is allowed",
    "stuck": "no step makes the loss fall: rounding hides what is left",
    "stopped": "the callback asked to stop",
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Solution:
    """Where a minimisation has come to; names and meanings are those of SciPy's `OptimizeResult`.

    Attributes
    ----------
    x : ndarray
        The trainable parameters, float64.
    fun : float
        The loss there.
    slope : float
        The largest element of its gradient, without its sign.
    nit, nfev : int
        Iterations done, and how often the loss was computed.
    reason : str
        Why it ended: ``"gradient"``, ``"loss"``, ``"iterations"``, ``"evaluations"``, ``"stuck"`` or ``"stopped"``.

    Examples
    --------
    >>> import backprop as bp
    >>> net = bp.Network(1, [bp.Dense(1)], dtype="float64", seed=0)
    >>> result = net.minimize([[0.0], [1.0], [2.0]], [1.0, 3.0, 5.0])
    >>> result.success, result.message
    (True, 'no element of the gradient is larger than the tolerance')
    """

    x: NDArray[np.float64]
    fun: float
    slope: float
    nit: int
    nfev: int
    reason: str

    @property
    def success(self) -> bool:
        """Whether it came to a minimum: the gradient or the fall of the loss is within its tolerance."""
        return self.reason in ("gradient", "loss")

    @property
    def status(self) -> int:
        """0 for success, 1 where iterations or evaluations were over, 2 for the rest, as L-BFGS-B has it."""
        return 0 if self.success else 1 if self.reason in ("iterations", "evaluations") else 2

    @property
    def message(self) -> str:
        """The reason in words."""
        return _MESSAGES[self.reason]  # type: ignore[index]


def solver(method: str, tolerance: float, options: Mapping[str, Any] | None) -> Solver:
    """Return the settings of a method; those that `options` names are checked."""
    cls = SOLVERS[method]
    known = [field.name for field in fields(cls) if field.name != "tolerance"]
    for name in options or {}:
        check.choice("options", name, known)
    return cls(tolerance=tolerance, **(options or {}))


def check_solver(settings: Solver, layers: Sequence[Dense], loss: Loss | Custom, data: Data, n_trainable: int) -> None:
    """Raise where a method cannot minimise this."""
    if not isinstance(settings, LevenbergMarquardt):
        return
    if loss.name not in WEIGHTS:
        raise ValueError(f"loss: needs one of {', '.join(map(repr, WEIGHTS))} for method='lm', got {loss.name!r}")
    if data.weighs_outputs:
        raise ValueError("sample_weight: needs a weight for each row, not for each output, for method='lm'")
    if n_trainable > MOST_PARAMETERS:
        raise ValueError(
            f"layers: needs at most {MOST_PARAMETERS} trainable parameters for method='lm', whose matrix has a number "
            f"for each pair of them; got {n_trainable}: use method='lbfgs'"
        )
    for k, layer in enumerate(layers):
        if layer.l1:
            raise ValueError(f"layers[{k}]: needs l1=0 for method='lm', which takes squares only; got {layer.l1}")


def solving(objective: Objective, settings: Solver, state: SolverState) -> Solving:
    """Return the backend's minimisation, or for a loss that no core knows, the reference's loop over its parts."""
    loss, data = objective.loss, objective.data
    if not isinstance(loss, Custom) and not data.weighs_outputs:
        return objective.module.Solving(objective.plan, loss, settings, data, state)
    from backprop.reference.solving import Minimisation

    return Minimisation(objective, settings, state)


def solve(
    network: Model,
    objective: Objective,
    settings: Solver,
    free: NDArray[np.bool_],
    interrupts: HeldInterrupts,
    *,
    max_iter: int,
    callback: Callable[[int, float], Any] | None,
    progress: bool,
) -> Solution:
    """Minimise, and write each whole iteration into the network: the parameters where `free`, and the history.

    The caller holds Ctrl-C and the network's guard: it comes to `interrupts`.
    """
    state = SolverState(network.parameters.astype(np.float64))
    run = solving(objective, settings, state)
    bar = Progress(after=0.0 if progress else math.inf)
    reason: str = "interrupted"
    told = 0
    began = time.perf_counter()
    bar.begin(max_iter, "iteration")
    try:
        if run.run(0, math.inf, np.empty(0)) == "not finite":
            raise ValueError(f"parameters: needs a start where the loss is finite, got a loss of {state.loss}")
        while True:
            ended = _advance(network, run, state, free, max_iter if callback is None else state.iteration + 1)
            if callback is not None and state.iteration > told:
                told = state.iteration
                if interrupts.call(callback, told, state.loss):
                    ended = "stopped"
            bar.show(state.iteration, state.loss)
            if ended not in ("time", "iterations") or state.iteration == max_iter:
                reason = ended
                break
            interrupts.deliver()
    finally:
        bar.close(state.iteration, state.loss)
        history = network.history
        history.stop_reason = _STOP_REASONS.get(reason, "tolerance")
        history.elapsed += time.perf_counter() - began
        network._optimizer = None  # what it remembers does not fit the new parameters
    return Solution(
        x=state.point[free], fun=state.loss, slope=state.slope, nit=state.iteration, nfev=state.evaluations,
        reason=reason,
    )  # fmt: skip


_STOP_REASONS = {
    "interrupted": "interrupted",
    "iterations": "epochs",
    "evaluations": "epochs",
    "stopped": "stopped",
}


def _advance(network: Model, run: Solving, state: SolverState, free: NDArray[np.bool_], last_iteration: int) -> str:
    """Go on for a while; the network follows."""
    first = state.iteration
    last_iteration = min(last_iteration, first + pace.WINDOW)
    losses = np.empty(last_iteration - first)
    ended = run.run(last_iteration, pace.SLICE_SECONDS, losses)
    if (done := state.iteration - first) > 0:
        network.parameters[free] = state.point[free]
        network.history.extend(done, {"loss": losses[:done]})
    return ended
