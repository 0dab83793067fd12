"""The training state with which a run begins."""

from __future__ import annotations

import math

import numpy as np

from backprop.base.state import TrainingState
from backprop.base.types import TrainingSettings
from backprop.model.model import Model
from backprop.reference.optimizers import Optimizer


def begin(
    network: Model, optimizer: Optimizer, settings: TrainingSettings, n_rows: int, initial_epoch: int | None
) -> TrainingState:
    """Return the network's training state at the start of an epoch: the one it has, or a fresh one."""
    state, last = network._state, network._optimizer
    if state is None:
        bit_generator = np.random.PCG64(network._seed_sequences()[1])
        slots = optimizer.new_slots(network.n_parameters, network.dtype)
        state = network._state = TrainingState(network.parameters, slots, bit_generator)
    elif type(optimizer) is not type(last) or optimizer.hyperparameters != last.hyperparameters:
        state.slots = optimizer.new_slots(network.n_parameters, network.dtype)
        state.step = 0
    network._optimizer, network._solved = optimizer, None
    if initial_epoch is not None:
        state.epoch = initial_epoch
    state.first_epoch, state.rate_scale, state.callbacks = state.epoch, 1.0, []
    state.cursor = 0
    state.loss_sum = state.weight_sum = 0.0
    state.best_loss, state.best_epoch, state.stale_epochs = math.inf, 0, 0
    n_shuffled = n_rows if settings.shuffle and settings.batch_size is not None else 0
    if len(state.permutation) != n_shuffled:
        state.permutation = np.arange(n_shuffled, dtype=np.int64)
    n_best = network.n_parameters if settings.keep_best else 0
    if len(state.best_parameters) != n_best:
        state.best_parameters = np.empty(n_best, network.dtype)
    n_averaged = network.n_parameters if settings.average is not None else 0
    if len(state.average) != n_averaged:
        state.average = np.zeros(n_averaged, network.dtype)
    state.swapped, state.ending = False, None
    return state


def interrupted(network: Model, optimizer: Optimizer, settings: TrainingSettings, n_rows: int) -> TrainingState:
    """Return the network's training state as it is; ValueError where it cannot go on with these arguments."""
    state, last = network._state, network._optimizer
    assert state is not None
    if type(optimizer) is not type(last) or optimizer.hyperparameters != last.hyperparameters:
        raise ValueError(f"optimizer: needs that of the run to be resumed, {last!r}, got {optimizer!r}")
    n_shuffled = n_rows if settings.shuffle and settings.batch_size is not None else 0
    if len(state.permutation) != n_shuffled or state.cursor > n_rows:
        had = f"{len(state.permutation)} shuffled rows" if len(state.permutation) else "rows in their own order"
        got = f"{n_shuffled} shuffled rows" if n_shuffled else f"{n_rows} rows in their own order"
        raise ValueError(f"resume: needs the data and the batch_size of the run to be resumed, {had}; got {got}")
    if settings.keep_best and len(state.best_parameters) != network.n_parameters:
        raise ValueError("resume: needs the callbacks of the run to be resumed, which kept no best parameters")
    if (settings.average is not None) != (len(state.average) > 0):
        had = "averaged the parameters" if len(state.average) else "did not average the parameters"
        raise ValueError(f"resume: needs the callbacks of the run to be resumed, which {had}")
    return state
