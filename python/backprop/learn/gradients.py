"""One optimizer step along a gradient that the user gives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from backprop.base import checks as check
from backprop.base.interrupts import HeldInterrupts
from backprop.base.types import RealArray, TrainingSettings
from backprop.learn.divergence import Snapshot
from backprop.learn.rates import Rates
from backprop.learn.schedules import Schedule, as_schedule
from backprop.learn.start import begin
from backprop.model.model import Model
from backprop.reference.optimizers import OPTIMIZERS, Optimizer


def apply_gradients(
    model: Model,
    gradients: Any,
    *,
    optimizer: str | Optimizer,
    schedule: Schedule | Callable[[int], float] | None,
) -> None:
    """Do one optimizer step along `gradients`; `backprop.Network.apply_gradients` documents it."""
    gradient = flat(model, gradients)
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


def flat(model: Model, gradients: Any) -> RealArray:
    """Return a flat vector, or what `Network.loss_and_gradients` returns, as the flat vector that backends take."""
    dtype, n = model.dtype, model.n_parameters
    if not isinstance(gradients, (list, tuple)):
        return check.array("gradients", gradients, dtype, (n,))
    vector: RealArray = np.zeros(n, dtype)
    layers = model._views(vector)
    if len(gradients) != len(layers):
        raise ValueError(f"gradients: needs an entry for each of {len(layers)} layers, got {len(gradients)} entries")
    for k, (views, given) in enumerate(zip(layers, gradients, strict=True)):
        if not isinstance(given, (list, tuple)):
            raise TypeError(f"gradients[{k}]: needs a tuple of {len(views)} arrays, got {check.shown(given)}")
        if len(given) != len(views):
            raise ValueError(f"gradients[{k}]: needs {len(views)} arrays, got {len(given)}")
        for j, (view, array) in enumerate(zip(views, given, strict=True)):
            name = f"gradients[{k}][{j}]"
            if view is not None:
                view[...] = check.array(name, array, dtype, view.shape)
            elif array is not None:
                raise ValueError(f"{name}: needs None, for the layer has no such parameters; got {check.shown(array)}")
    return vector
