"""`fit` and `train_on_batch`: checks of what users give, and the run that follows from it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from backprop.backends.custom import Custom, LossLike
from backprop.base import checks as check
from backprop.base import class_weights, threads
from backprop.base.frames import Names
from backprop.base.history import History
from backprop.base.interrupts import HeldInterrupts
from backprop.base.types import Average, Data, TrainingSettings
from backprop.learn import pace
from backprop.learn.callbacks import Callback, EarlyStopping, LambdaCallback, Plateau, Progress, TerminateOnNaN
from backprop.learn.callbacks.averages import only_average
from backprop.learn.callbacks.callback import check_hooks, resume_all
from backprop.learn.divergence import DivergedError, Origin, Snapshot, origin
from backprop.learn.job import Job
from backprop.learn.measures import Measures
from backprop.learn.rates import Rates
from backprop.learn.run import Run
from backprop.learn.schedules import Schedule, as_schedule
from backprop.learn.start import begin, interrupted
from backprop.model import rows
from backprop.model.model import Model
from backprop.reference.losses import Loss
from backprop.reference.optimizers import OPTIMIZERS, Optimizer


def fit(
    model: Model,
    X: ArrayLike,
    y: ArrayLike,
    settings: Mapping[str, Any],
    *,
    loss: LossLike = "auto",
    sample_weight: ArrayLike | None = None,
    validation_data: Any = None,
    validation_split: float = 0.0,
) -> History:
    """Train a model; `backprop.Network.fit` documents the arguments, and `settings`, which are those of `fit_rows`."""
    X, columns = rows.opened(model, "X", X)
    checked, data = model._data(X, y, loss, sample_weight, custom=True)
    data, validation = rows.validation(model, checked, data, validation_data, validation_split, columns)
    return fit_rows(model, data, checked, validation=validation, columns=columns, **settings)


def fit_rows(
    model: Model,
    data: Data,
    loss: Loss | Custom,
    optimizer: str | Optimizer,
    *,
    validation: Data | None = None,
    columns: Names | None = None,
    schedule: Schedule | Callable[[int], float] | None = None,
    epochs: int = 100,
    batch_size: int | None = 32,
    shuffle: bool = True,
    class_weight: Any = None,
    metrics: Any = (),
    callbacks: Iterable[Callback] = (),
    log: Callable[[int, dict[str, float]], Any] | None = None,
    clip_norm: float | None = None,
    clip_value: float | None = None,
    tolerance: float | None = None,
    patience: int = 10,
    on_divergence: str = "raise",
    initial_epoch: int | None = None,
    resume: bool = False,
    penalty_per_row: bool = False,
    n_threads: int | str = "auto",
    progress: bool | str = "auto",
) -> History:
    """Train a model on checked data, whose columns have these names; `TrainingSettings` documents `penalty_per_row`."""
    optimizer = check.setting("optimizer", optimizer, Optimizer, OPTIMIZERS)
    epochs, initial_epoch = checked_epochs(epochs, initial_epoch, resume)
    n_rows = len(data.X)
    if batch_size is not None and check.integer("batch_size", batch_size, at_least=1, clipped=True) >= n_rows:
        batch_size = None
    if schedule is not None:
        schedule = as_schedule("schedule", schedule)
    measures = Measures(model, loss, metrics, data, validation)
    weighted = data if class_weight is None else _with_class_weights(model, loss, data, class_weight)
    every_callback = all_callbacks(callbacks, log, tolerance, patience)
    names = ["loss", *(["val_loss"] if measures.validated else []), *measures.names]
    names = recorded(names, schedule, every_callback)
    rule = next((each for each in every_callback if isinstance(each, Plateau) and each.suits_core()), None)
    averaging = only_average(every_callback)
    average = None if averaging is None else averaging.average(epochs)
    flops = rows.flops(loss, model.n_inputs, model.n_parameters, batch_size or n_rows)
    used = checked_threads(n_threads, flops, model._core.MAX_THREADS)
    checked = training_settings(rule, batch_size, shuffle, clip_norm, clip_value, penalty_per_row, used, average)
    raises = check.choice("on_divergence", on_divergence, ("raise", "stop")) == "raise"
    raises = raises and not any(isinstance(callback, TerminateOnNaN) for callback in every_callback)
    bar = progress_bar(progress, every_callback)

    with HeldInterrupts() as interrupts, model._guard:
        model._feature_names = columns
        resumes = check.boolean("resume", resume) and model._state is not None
        if resumes:
            state = interrupted(model, optimizer, checked, n_rows)
            reason, left = model.history.stop_reason, state.first_epoch + epochs - state.epoch
            # In the file of a checkpoint from the end of the last epoch, the run had something left to do.
            ends = reason == "interrupted" and state.cursor == 0
            if reason in ("tolerance", "diverged") or left < (0 if ends else 1):
                resume_all(every_callback, state.callbacks)
                if averaging is not None and average is not None:
                    averaging.note(average, state, n_rows, batch_size or n_rows)
                return model.history
        else:
            state = begin(model, optimizer, checked, n_rows, initial_epoch)
        last_epoch = state.first_epoch + epochs
        rates = Rates(optimizer.learning_rate, schedule, n_rows, batch_size or n_rows, state.rate_scale)
        job = Job(model, loss, optimizer, checked, weighted, state, validation)
        records_rate = "learning_rate" in names
        run = Run(
            job, rates, measures, every_callback, rule, averaging, bar, interrupts, last_epoch, records_rate, resumes
        )
        run.train()
    if run.error is not None and raises:
        raise run.error
    return model.history


def step(
    model: Model,
    X: ArrayLike,
    y: ArrayLike,
    *,
    loss: LossLike,
    optimizer: str | Optimizer,
    sample_weight: ArrayLike | None,
    class_weight: Any,
    clip_norm: float | None,
    clip_value: float | None,
) -> float:
    """Do one optimizer step and return the loss before it; `backprop.Network.train_on_batch` documents it."""
    X, columns = rows.opened(model, "X", X)
    checked, data = model._data(X, y, loss, sample_weight, custom=True)
    optimizer = check.setting("optimizer", optimizer, Optimizer, OPTIMIZERS)
    if class_weight is not None:
        data = _with_class_weights(model, checked, data, class_weight)
    flops = rows.flops(checked, model.n_inputs, model.n_parameters, len(data.X))
    settings = TrainingSettings(
        clip_norm=None if clip_norm is None else check.number("clip_norm", clip_norm, above=0),
        clip_value=None if clip_value is None else check.number("clip_value", clip_value, above=0),
        n_threads=threads.choose(None, flops, model._core.MAX_THREADS),
    )
    losses = np.empty(1)
    with HeldInterrupts(), model._guard:
        state = begin(model, optimizer, settings, len(data.X), None)
        epoch, before = state.epoch, Snapshot(state)
        try:
            job = Job(model, checked, optimizer, settings, data, state, None)
            stop = job.training(np.array([optimizer.learning_rate], float)).run(epoch + 1, math.inf, losses)
        except BaseException:
            before.restore(state)
            raise
        state.epoch = epoch  # a full batch is an epoch to the core, but not to the model
        if stop != "diverged":
            model._feature_names = columns
            return float(losses[0])
        after = state.parameters.copy()
        before.restore(state)
    place = origin(model, checked, data, state.parameters, after) or Origin(None, "")
    raise DivergedError(epoch + 1, float(losses[0]), optimizer.learning_rate, 1, place.layer, place.text)


# --- what a call of fit is made of ---------------------------------------------------------------------------------


def checked_epochs(epochs: Any, initial_epoch: Any, resume: Any) -> tuple[int, int | None]:
    """Return both as integers."""
    epochs = check.integer("epochs", epochs, at_least=1)
    if initial_epoch is not None:
        initial_epoch = check.integer("initial_epoch", initial_epoch, at_least=0)
        if check.boolean("resume", resume):
            raise ValueError(f"initial_epoch: needs to be None where a run is resumed, got {initial_epoch}")
    if epochs + (initial_epoch or 0) > pace.MOST_EPOCHS:
        raise ValueError(f"epochs: needs at most {pace.MOST_EPOCHS:,} in all, got {epochs + (initial_epoch or 0):,}")
    return epochs, initial_epoch


def training_settings(
    rule: Plateau | None,
    batch_size: int | None,
    shuffle: bool,
    clip_norm: float | None,
    clip_value: float | None,
    penalty_per_row: bool,
    n_threads: int,
    average: Average | None = None,
) -> TrainingSettings:
    """Return what the backend needs to know; `rule` is the callback whose stop rule it applies."""
    return TrainingSettings(
        batch_size=None if batch_size is None else int(batch_size),
        shuffle=check.boolean("shuffle", shuffle),
        clip_norm=None if clip_norm is None else check.number("clip_norm", clip_norm, above=0),
        clip_value=None if clip_value is None else check.number("clip_value", clip_value, above=0),
        penalty_per_row=check.boolean("penalty_per_row", penalty_per_row),
        monitor="loss" if rule is None else rule.monitor,  # type: ignore[arg-type]
        tolerance=None if rule is None else rule.min_delta,
        patience=1 if rule is None else rule.patience,
        keep_best=rule is not None and rule.keeps_best,
        average=average,
        n_threads=n_threads,
        fixed_threads=threads.are_fixed(),
    )


def checked_threads(n_threads: Any, flops: float, most: int) -> int:
    """Return the threads for steps of so much arithmetic."""
    is_auto = check.is_auto("n_threads", n_threads, "an integer >= 1")
    asked = None if is_auto else check.integer("n_threads", n_threads, at_least=1, at_most=most)
    return threads.choose(asked, flops, most)


def _with_class_weights(model: Model, loss: Loss | Custom, data: Data, class_weight: Any) -> Data:
    """Return the data with their weights multiplied by those of their classes."""
    weights = class_weights.of_rows("class_weight", class_weight, loss, data, model.n_outputs)
    n_weights = 1 if weights.ndim == 1 else model.n_outputs
    return data._replace(sample_weight=check.weights("class_weight", weights, model.dtype, len(data.X), n_weights))


def all_callbacks(callbacks: Any, log: Any, tolerance: Any, patience: Any) -> list[Callback]:
    """Return all callbacks, those for `log` and `tolerance` included."""
    if isinstance(callbacks, (Callback, type)) or not isinstance(callbacks, Iterable):
        raise TypeError(f"callbacks: needs a sequence of Callback, got {check.shown(callbacks)}")
    found: list[Callback] = []
    for k, callback in enumerate(callbacks):
        if not isinstance(callback, Callback):
            hint = f"; write {callback.__name__}(...)" if isinstance(callback, type) else ""
            raise TypeError(f"callbacks[{k}]: needs a Callback, got {check.shown(callback)}{hint}")
        check_hooks(f"callbacks[{k}]", callback)
        check.integer(f"callbacks[{k}].every", callback.every, at_least=1, clipped=True)
        found.append(callback)
    patience = check.integer("patience", patience, at_least=1, clipped=True)
    if tolerance is not None:
        tolerance = check.number("tolerance", tolerance, at_least=0)
        found.insert(0, EarlyStopping("loss", patience=patience, min_delta=tolerance))
    if log is not None:
        found.append(log_callback(log, "step"))
    return found


def log_callback(log: Any, counted: str) -> Callback:
    """Return what calls a function of steps or iterations and metrics."""
    if not callable(log):
        raise TypeError(f"log: needs a function of {counted} and metrics, got {check.shown(log)}")
    return LambdaCallback(
        on_epoch_end=lambda network, epoch, logs: log(network._state.step if counted == "step" else epoch, dict(logs))
    )


def recorded(measured: Sequence[str], schedule: Schedule | None, callbacks: Sequence[Callback]) -> list[str]:
    """Return the names of what is recorded after each epoch; ValueError where a callback watches another."""
    names = list(measured)
    if schedule is not None or any(callback.scales_learning_rate for callback in callbacks):
        names.append("learning_rate")
    for callback in callbacks:
        if callback.monitor is not None and callback.monitor not in names:
            listed = ", ".join(map(repr, names))
            raise ValueError(f"callbacks: {callback!r} needs a monitor that is recorded, {listed}")
    return names


def progress_bar(progress: bool | str, callbacks: Iterable[Callback]) -> Progress:
    """Return the progress bar: that among the callbacks if there is one."""
    if check.is_auto("progress", progress, "True, False"):
        after = pace.PROGRESS_AFTER_SECONDS
    else:
        after = 0.0 if check.boolean("progress", progress) else math.inf
    return next((callback for callback in callbacks if isinstance(callback, Progress)), Progress(after=after))
