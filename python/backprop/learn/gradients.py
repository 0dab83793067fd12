"""One optimizer step along a gradient that the user gives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from backprop.base import checks as check
from backprop.base.interrupts import HeldInterrupts
from backprop.base.types import TrainingSettings
from backprop.learn.divergence import Snapshot
from backprop.learn.rates import Rates
from backprop.learn.schedules import Schedule, as_schedule
from backprop.learn.start import begin
from backprop.model.model import Model
from backprop.model.views import flattened
from backprop.reference.optimizers import OPTIMIZERS, Optimizer


def apply_gradients(
    model: Model,
    gradients: Any,
    *,
    optimizer: str | Optimizer,
    schedule: Schedule | Callable[[int], float] | None,
) -> None:
    """Do one optimizer step along `gradients`; `backprop.Network.apply_gradients` documents it."""
    gradient = flattened("gradients", model._arrays_of_layers, model.dtype, gradients)
    optimizer = check.setting("optimizer", optimizer, Optimizer, OPTIMIZERS)
    if schedule is not None:
        schedule = as_schedule("schedule", schedule)
    core, plan = model._core, model._plan
    with HeldInterrupts(), model._guard:
        state = begin(model, optimizer, TrainingSettings(), 1, None)
        before = Snapshot(state)
        try:
            rates = Rates(optimizer.learning_rate, schedule, n_rows=1, batch_size=1, scale=1.0)
            rate = float(rates.of_steps(np.array([state.step]))[0])
            state.step += 1
            core.update(plan, optimizer, state.parameters, gradient, state.slots, state.step, rate)
            if any(layer.max_norm is not None for layer in model.layers):
                core.limit_norms(plan, state.parameters)
            if not np.isfinite(state.parameters).all():
                raise FloatingPointError(
                    f"apply_gradients: the parameters after step {state.step} are not finite: try a learning_rate "
                    f"below {rate:g}, or smaller gradients"
                )
        except BaseException:
            before.restore(state)
            raise
