"""The training loop around the core: time slices, Ctrl-C, schedules, callbacks, history."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from copy import deepcopy
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from backprop.backends.custom import Custom
from backprop.base import checks as check
from backprop.base import threads
from backprop.base.interrupts import HeldInterrupts
from backprop.base.state import TrainingState
from backprop.base.types import Data, RealArray, TrainingSettings
from backprop.learn import metrics as metric_functions
from backprop.learn.callbacks import (
    Callback,
    EarlyStopping,
    LambdaCallback,
    Plateau,
    Progress,
    TerminateOnNaN,
    overrides,
)
from backprop.learn.divergence import Origin, Snapshot, find_last_finite, is_finite, origin
from backprop.learn.schedules import Schedule, as_schedule
from backprop.reference.optimizers import OPTIMIZERS, Optimizer

if TYPE_CHECKING:
    from backprop.base.history import History
    from backprop.network import Network
    from backprop.reference.losses import Loss

# The core trains this long between two looks at Ctrl-C and the progress bar.
SLICE_SECONDS = 0.05
# A run that ends before this shows no progress bar, so short runs do not even import tqdm.
PROGRESS_AFTER_SECONDS = 2.0
# Losses come from the core, and learning rates go to it, for so many epochs and steps at a time.
WINDOW = 65_536
# Counters in the core have 64 bits, and steps are counted too.
MOST_EPOCHS = 10**12
# Copies of the state may take this share of the time.
SNAPSHOT_SHARE = 0.002


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


def fit(
    network: Network,
    data: Data,
    loss: Loss | Custom,
    optimizer: str | Optimizer,
    *,
    schedule: Schedule | Callable[[int], float] | None = None,
    epochs: int = 100,
    batch_size: int | None = 32,
    shuffle: bool = True,
    class_weight: Any = None,
    validation: Data | None = None,
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
    """Train a network on checked data; `Network.fit` documents the rest, `TrainingSettings` `penalty_per_row`."""
    optimizer = check.setting("optimizer", optimizer, Optimizer, OPTIMIZERS)
    epochs = check.integer("epochs", epochs, at_least=1)
    if initial_epoch is not None:
        initial_epoch = check.integer("initial_epoch", initial_epoch, at_least=0)
        if check.boolean("resume", resume):
            raise ValueError(f"initial_epoch: needs to be None where a run is resumed, got {initial_epoch}")
    if epochs + (initial_epoch or 0) > MOST_EPOCHS:
        raise ValueError(f"epochs: needs at most {MOST_EPOCHS:,} in all, got {epochs + (initial_epoch or 0):,}")
    n_rows = len(data.X)
    if batch_size is not None and check.integer("batch_size", batch_size, at_least=1) >= n_rows:
        batch_size = None
    if schedule is not None:
        schedule = as_schedule("schedule", schedule)
    measures = _Measures(network, loss, metrics, data, validation)
    weighted = data if class_weight is None else _with_class_weights(network, loss, data, class_weight)
    every_callback = _callbacks(callbacks, log, tolerance, patience)
    names = _recorded(measures, schedule, every_callback)
    for callback in every_callback:
        if callback.monitor is not None and callback.monitor not in names:
            listed = ", ".join(map(repr, names))
            raise ValueError(f"callbacks: {callback!r} needs a monitor that is recorded, {listed}")
    rule = next((each for each in every_callback if isinstance(each, Plateau) and each.suits_core()), None)
    settings = TrainingSettings(
        batch_size=None if batch_size is None else int(batch_size),
        shuffle=check.boolean("shuffle", shuffle),
        clip_norm=None if clip_norm is None else check.number("clip_norm", clip_norm, above=0),
        clip_value=None if clip_value is None else check.number("clip_value", clip_value, above=0),
        penalty_per_row=check.boolean("penalty_per_row", penalty_per_row),
        monitor="loss" if rule is None else rule.monitor,  # type: ignore[arg-type]
        tolerance=None if rule is None else rule.min_delta,
        patience=1 if rule is None else rule.patience,
        keep_best=rule is not None and rule.keeps_best,
        n_threads=threads.choose(
            None
            if check.is_auto("n_threads", n_threads, "an integer >= 1")
            else check.integer("n_threads", n_threads, at_least=1, at_most=threads.MOST),
            6.0 * network.n_parameters * (batch_size or n_rows),
        ),
    )
    raises = check.choice("on_divergence", on_divergence, ("raise", "stop")) == "raise"
    raises = raises and not any(isinstance(callback, TerminateOnNaN) for callback in every_callback)
    bar = _bar(progress, every_callback)

    with HeldInterrupts() as interrupts, network._guard:
        resumes = check.boolean("resume", resume) and network._state is not None
        if resumes:
            state = _interrupted(network, optimizer, settings, n_rows)
            if network.history.stop_reason == "tolerance" or state.epoch >= state.first_epoch + epochs:
                return network.history
        else:
            state = _begin(network, optimizer, settings, n_rows, initial_epoch)
        last_epoch = state.first_epoch + epochs
        rates = _Rates(optimizer.learning_rate, schedule, n_rows, batch_size or n_rows, state.rate_scale)
        job = _Job(network, loss, optimizer, settings, weighted, state, validation)
        records_rate = "learning_rate" in names
        run = Run(job, rates, measures, every_callback, rule, bar, interrupts, last_epoch, records_rate, resumes)
        run.train()
    if run.error is not None and raises:
        raise run.error
    return network.history


def step(
    network: Network,
    data: Data,
    loss: Loss | Custom,
    optimizer: str | Optimizer,
    *,
    class_weight: Any,
    clip_norm: float | None,
    clip_value: float | None,
) -> float:
    """Do one optimizer step on checked data and return the loss before it; `Network.train_on_batch` documents it."""
    optimizer = check.setting("optimizer", optimizer, Optimizer, OPTIMIZERS)
    if class_weight is not None:
        data = _with_class_weights(network, loss, data, class_weight)
    settings = TrainingSettings(
        clip_norm=None if clip_norm is None else check.number("clip_norm", clip_norm, above=0),
        clip_value=None if clip_value is None else check.number("clip_value", clip_value, above=0),
        n_threads=threads.choose(None, 6.0 * network.n_parameters * len(data.X)),
    )
    losses = np.empty(1)
    with HeldInterrupts(), network._guard:
        state = _begin(network, optimizer, settings, len(data.X), None)
        epoch, before = state.epoch, Snapshot(state)
        try:
            job = _Job(network, loss, optimizer, settings, data, state, None)
            stop = job.training(np.array([optimizer.learning_rate], float)).run(epoch + 1, math.inf, losses)
        except BaseException:
            before.restore(state)
            raise
        state.epoch = epoch  # a full batch is an epoch to the core, but not to the network
        if stop != "diverged":
            return float(losses[0])
        after = state.parameters.copy()
        before.restore(state)
    place = origin(network, loss, data, state.parameters, after) or Origin(None, "")
    raise DivergedError(epoch + 1, float(losses[0]), optimizer.learning_rate, 1, place.layer, place.text)


# --- what a call of fit is made of ---------------------------------------------------------------------------------


def _begin(
    network: Network, optimizer: Optimizer, settings: TrainingSettings, n_rows: int, initial_epoch: int | None
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
    network._optimizer = optimizer
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
    return state


def _interrupted(network: Network, optimizer: Optimizer, settings: TrainingSettings, n_rows: int) -> TrainingState:
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
    return state


def _with_class_weights(network: Network, loss: Loss | Custom, data: Data, class_weight: Any) -> Data:
    """Return the data with their weights multiplied by those of their classes."""
    weights = check.class_weights("class_weight", class_weight, loss, data, network.n_outputs)
    return data._replace(sample_weight=check.weights("class_weight", weights, network.dtype, len(data.X)))


def _callbacks(callbacks: Any, log: Any, tolerance: Any, patience: Any) -> list[Callback]:
    """Return all callbacks, those for `log` and `tolerance` included."""
    if isinstance(callbacks, (Callback, type)) or not isinstance(callbacks, Iterable):
        raise TypeError(f"callbacks: needs a sequence of Callback, got {check.shown(callbacks)}")
    found: list[Callback] = []
    for k, callback in enumerate(callbacks):
        if not isinstance(callback, Callback):
            hint = f"; write {callback.__name__}(...)" if isinstance(callback, type) else ""
            raise TypeError(f"callbacks[{k}]: needs a Callback, got {check.shown(callback)}{hint}")
        check.integer(f"callbacks[{k}].every", callback.every, at_least=1)
        found.append(callback)
    patience = check.integer("patience", patience, at_least=1)
    if tolerance is not None:
        tolerance = check.number("tolerance", tolerance, at_least=0)
        found.insert(0, EarlyStopping("loss", patience=patience, min_delta=tolerance))
    if log is not None:
        if not callable(log):
            raise TypeError(f"log: needs a function of step and metrics, got {check.shown(log)}")

        def call_log(network: Network, epoch: int, logs: Any) -> None:
            assert network._state is not None
            log(network._state.step, dict(logs))

        found.append(LambdaCallback(on_epoch_end=call_log))
    return found


def _recorded(measures: _Measures, schedule: Schedule | None, callbacks: Sequence[Callback]) -> list[str]:
    """Return the names of what is recorded after each epoch."""
    names = ["loss", *(["val_loss"] if measures.validated else []), *measures.names]
    if schedule is not None or any(callback.scales_learning_rate for callback in callbacks):
        names.append("learning_rate")
    return names


def _bar(progress: bool | str, callbacks: Iterable[Callback]) -> Progress:
    """Return the progress bar: that among the callbacks if there is one."""
    if check.is_auto("progress", progress, "True, False"):
        after = PROGRESS_AFTER_SECONDS
    else:
        after = 0.0 if check.boolean("progress", progress) else math.inf
    return next((callback for callback in callbacks if isinstance(callback, Progress)), Progress(after=after))


class _Measures:
    """The metrics of the training rows and of the validation rows."""

    def __init__(
        self, network: Network, loss: Loss | Custom, metrics: Any, data: Data, validation: Data | None
    ) -> None:
        self.network, self.validated = network, validation is not None
        self.sets: list[tuple[RealArray, dict[str, Callable[[RealArray], float]]]] = []
        if functions := metric_functions.resolved(metrics):
            for prefix, rows in (("", data), ("val_", validation)):
                if rows is not None:
                    bound = metric_functions.bound(functions, loss, rows.targets, rows.sample_weight)
                    self.sets.append((rows.X, {prefix + name: function for name, function in bound.items()}))
        self.names = [name for _, functions in self.sets for name in functions]

    def __call__(self) -> dict[str, float]:
        network, values = self.network, {}
        for X, functions in self.sets:
            outputs: RealArray = np.empty((len(X), network.n_outputs), network.dtype)
            network._forward(network._plan, network._parameters, X, outputs)
            values.update({name: function(outputs) for name, function in functions.items()})
        return values


class _Rates:
    """The learning rates: the optimizer's, times the schedule's factor, times what callbacks have scaled it by."""

    def __init__(
        self, learning_rate: float, schedule: Schedule | None, n_rows: int, batch_size: int, scale: float
    ) -> None:
        self.learning_rate, self.schedule, self.scale = learning_rate, schedule, scale
        self.batch_size, self.steps_per_epoch = batch_size, -(-n_rows // batch_size)

    def of_steps(self, steps: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the rates at these steps, which count from the start of epoch 0."""
        rate = self.learning_rate * self.scale
        if self.schedule is None:
            return np.full(len(steps), rate)
        factors = np.asarray(self.schedule.factors(steps, self.steps_per_epoch), np.float64)
        if factors.shape != steps.shape or not (np.isfinite(factors) & (factors >= 0)).all():
            raise ValueError(f"schedule: needs a finite factor >= 0 for each step, got {check.shown(factors)}")
        return rate * factors

    def ahead(self, state: TrainingState, last_epoch: int) -> NDArray[np.float64]:
        """Return the rates of the next steps: of a window with a schedule, else the one that stays."""
        if self.schedule is None:
            return np.array([self.learning_rate * self.scale])
        step = state.epoch * self.steps_per_epoch + -(-state.cursor // self.batch_size)
        # One at least: when all steps are done there may be validation rows left.
        end = max(step + 1, min(last_epoch * self.steps_per_epoch, step + WINDOW))
        return self.of_steps(np.arange(step, end))

    def of_epochs(self, first: int, last: int) -> NDArray[np.float64]:
        """Return the rates of the last steps of the epochs after the first-th, up to the last-th."""
        return self.of_steps(np.arange(first + 1, last + 1) * self.steps_per_epoch - 1)


class _Training(Protocol):
    """A backend's `Training`."""

    def set_learning_rates(self, learning_rates: NDArray[np.float64]) -> None: ...
    def run(
        self,
        last_epoch: int,
        seconds: float,
        losses: NDArray[np.float64],
        validation_losses: NDArray[np.float64] | None = None,
        last_step: int | None = None,
    ) -> str: ...


class _Job:
    """What is trained, on what."""

    def __init__(
        self,
        network: Network,
        loss: Loss | Custom,
        optimizer: Optimizer,
        settings: TrainingSettings,
        data: Data,
        state: TrainingState,
        validation: Data | None,
    ) -> None:
        self.network, self.loss, self.optimizer, self.settings = network, loss, optimizer, settings
        self.data, self.state, self.validation = data, state, validation

    def training(self, rates: NDArray[np.float64]) -> _Training:
        """Make the backend's object for a run."""
        rest = (self.optimizer, self.settings, self.data, self.state, rates, self.validation)
        if isinstance(self.loss, Custom):
            from backprop.backends.custom import CustomTraining

            return CustomTraining(self.network._core, self.network.layers, self.loss, *rest)
        network = self.network
        core, plan = network._core, network._plan
        widths, n_rows = [layer.units for layer in network.layers], len(self.data.X)
        batch_size = self.settings.batch_size or n_rows
        n_beside = len(self.validation.X) if self.validation is not None and batch_size >= n_rows else 0
        backend = network._backend.for_batches(batch_size, n_beside, widths, network.dtype)
        if backend != network._backend:
            core = backend.module(network.dtype)
            plan = core.Plan(network.n_inputs, network.layers)
        training: _Training = core.Training(plan, self.loss, *rest)
        return training

    def batch(self, start: int) -> Data:
        """Return the batch of this epoch that begins with the start-th row."""
        X, targets, weights = self.data
        end = start + (self.settings.batch_size or len(X))
        rows: Any = self.state.permutation[start:end] if len(self.state.permutation) else slice(start, end)
        return Data(X[rows], targets[rows], None if weights is None else weights[rows])


# --- the loop ------------------------------------------------------------------------------------------------------


class Run:
    """One call of `fit` while it trains."""

    def __init__(
        self,
        job: _Job,
        rates: _Rates,
        measures: _Measures,
        callbacks: Sequence[Callback],
        rule: Plateau | None,
        bar: Progress,
        interrupts: HeldInterrupts,
        last_epoch: int,
        records_rate: bool,
        resumes: bool,
    ) -> None:
        self.job, self.network, self.state, self.history = job, job.network, job.state, job.network.history
        self.rates, self.measures, self.callbacks, self.rule, self.bar = rates, measures, callbacks, rule, bar
        self.interrupts, self.call = interrupts, interrupts.call
        self.first_epoch, self.last_epoch, self.records_rate = job.state.epoch, last_epoch, records_rate
        # The core's rule stands in for the callback's own.
        self.begin_calls = [
            (each.every, each.on_epoch_begin) for each in callbacks if overrides(each, "on_epoch_begin")
        ]
        self.end_calls = [
            (each.every, each.on_epoch_end)
            for each in callbacks
            if each is not rule and overrides(each, "on_epoch_end")
        ]
        self.periods = {every for every, _ in (*self.begin_calls, *self.end_calls)}
        if measures.sets:
            self.periods.add(1)
        n_epochs = last_epoch - job.state.epoch
        self.history.expect(n_epochs)
        window = min(n_epochs, WINDOW)
        self.losses = np.empty(window)
        self.validation_losses = None if job.validation is None else np.empty(window)
        self.logs: dict[str, float] = {}
        self.wanted_scale = rates.scale
        self.resumes = resumes
        self.stop_reason: str | None = None
        self.next_look = self.next_snapshot = 0.0
        self.error: DivergedError | None = None

    # What `Network.stop` and `Network.scale_learning_rate` ask for, perhaps from another thread, is done between two
    # calls of the core.

    def stop(self, reason: str) -> None:
        """End training as soon as the core returns."""
        self.stop_reason = reason

    def scale_learning_rate(self, factor: float) -> None:
        """Multiply the rates of all later steps."""
        self.wanted_scale *= factor
        self.state.rate_scale = self.wanted_scale

    def train(self) -> None:
        """Train, call the callbacks and keep the history."""
        history, start = self.history, time.perf_counter()
        history.stop_reason = "interrupted"
        self.network._run = self
        with ExitStack() as ends:
            try:
                for callback in self.callbacks:
                    if overrides(callback, "on_train_begin"):
                        self.call(callback.on_train_begin, self.network, self.logs)
                    if overrides(callback, "on_train_end"):
                        ends.callback(self.end, callback)
                if self.resumes:
                    self.resume_callbacks()
                self.bar.begin(self.last_epoch - self.first_epoch)
                history.stop_reason = self.loop()
            finally:
                self.network._run = None
                history.elapsed += time.perf_counter() - start
                self.bar.close(self.state.epoch - self.first_epoch, self.logs.get("loss", math.nan))
                self.note_callbacks()

    def note_callbacks(self) -> None:
        """Put the states of the callbacks where a checkpoint finds them."""
        if self.rule is not None:
            self.report_best(self.rule)
        self.state.callbacks = [(type(callback).__name__, callback.state()) for callback in self.callbacks]

    def resume_callbacks(self) -> None:
        """Give the callbacks back the states that they had; those that are new have none."""
        for callback, (kind, state) in zip(self.callbacks, self.state.callbacks, strict=False):
            if kind == type(callback).__name__ and state:
                callback.resume(state)

    def end(self, callback: Callback) -> None:
        """Tell a callback that training has ended."""
        self.call(callback.on_train_end, self.network, self.logs)

    def loop(self) -> str:
        """Let the core train until there is a reason to stop."""
        state, call = self.state, self.call
        self.begin_epoch()
        learning_rates = self.rates.ahead(state, self.last_epoch)
        training = self.job.training(learning_rates)
        last_step = self.window_end(learning_rates)
        started = time.perf_counter()
        self.snapshot = Snapshot(state)
        self.note_snapshot(started)
        self.next_look = started + SLICE_SECONDS
        while self.stop_reason is None:
            rescaled = self.rates.scale != self.wanted_scale and is_finite(state)
            if rescaled:
                self.rates.scale = self.wanted_scale
                self.snapshot.take(state)  # replays know one scale only
            if rescaled or state.step == last_step:
                learning_rates = self.rates.ahead(state, self.last_epoch)
                training.set_learning_rates(learning_rates)
                last_step = self.window_end(learning_rates)
            epoch = state.epoch
            try:
                stop = training.run(self.next_stop(), SLICE_SECONDS, self.losses, self.validation_losses, last_step)
            finally:
                if done := state.epoch - epoch:
                    self.record(done)
            if stop == "diverged":
                self.error = self.recover()
                return stop
            if done:
                for every, on_epoch_end in self.end_calls:
                    if state.epoch % every == 0:
                        call(on_epoch_end, self.network, state.epoch, self.logs)
            if stop == "tolerance":
                assert self.rule is not None
                self.apply(self.rule)
            if state.epoch == self.last_epoch and self.stop_reason is None:
                return "epochs"
            if self.stop_reason is not None:  # it is over: Ctrl-C must not take that away
                break
            self.interrupts.deliver()
            now = time.perf_counter()
            if now >= self.next_look:
                self.look(now)
            if done:
                self.begin_epoch()
        return self.stop_reason

    def next_stop(self) -> int:
        """Return the epoch at whose end Python has something to do."""
        epoch = self.state.epoch
        stop = min(self.last_epoch, epoch + WINDOW)
        for every in self.periods:
            stop = min(stop, (epoch // every + 1) * every)
        return stop

    def window_end(self, learning_rates: NDArray[np.float64]) -> int | None:
        """Return the step after the last one for which there is a rate."""
        return None if self.rates.schedule is None else self.state.step + len(learning_rates)

    def record(self, done: int) -> None:
        """Add the epochs that the core has done to the history; `logs` are those of the last one."""
        epoch = self.state.epoch
        values: dict[str, Any] = {"loss": self.losses[:done]}
        if self.validation_losses is not None:
            values["val_loss"] = self.validation_losses[:done]
        try:
            if self.measures.sets:
                measured = self.call(self.measures)
                values.update((name, np.array([value])) for name, value in measured.items())
        finally:  # a metric that raises takes nothing else away
            if self.records_rate:
                values["learning_rate"] = self.rates.of_epochs(epoch - done, epoch)
            self.history.extend(done, values)
            self.logs = {name: float(array[-1]) for name, array in values.items()}

    def begin_epoch(self) -> None:
        """Call what is due before the next epoch."""
        epoch = self.state.epoch
        for every, on_epoch_begin in self.begin_calls:
            if epoch % every == 0:
                self.call(on_epoch_begin, self.network, epoch + 1, self.logs)

    def apply(self, rule: Plateau) -> None:
        """Do what a callback wants done when the core has found no progress."""
        state = self.state
        self.report_best(rule)
        rule.stale_epochs = 0
        self.call(rule.on_plateau, self.network, state.epoch, self.logs)
        state.stale_epochs = rule.stale_epochs

    def report_best(self, rule: Plateau) -> None:
        """Tell a callback what the core has found to be the best."""
        state = self.state
        if state.best_epoch:
            rule.best, rule.best_epoch, rule.stale_epochs = state.best_loss, state.best_epoch, state.stale_epochs
            if rule.keeps_best:
                rule.best_parameters = state.best_parameters

    def look(self, now: float) -> None:
        """Do what is done once in a time slice."""
        state = self.state
        if now >= self.next_snapshot and is_finite(state):
            self.snapshot.take(state)
            self.note_snapshot(now)
        self.bar.show(state.epoch - self.first_epoch, self.logs.get("loss", math.nan))
        self.next_look = now + SLICE_SECONDS

    def note_snapshot(self, started: float) -> None:
        """Plan the next snapshot so that they take a small share of the time."""
        now = time.perf_counter()
        self.next_snapshot = now + max(SLICE_SECONDS, (now - started) / SNAPSHOT_SHARE)

    # --- divergence ---

    def recover(self) -> DivergedError:
        """Go back to the last finite parameters; the epoch that diverged counts as done."""
        state, job = self.state, self.job
        epoch, loss = state.epoch, self.logs["loss"]
        batch, place = None, None
        copied = deepcopy(self.snapshot)
        try:
            if not find_last_finite(state, self.snapshot, state.step, lambda step: self.replay(step, epoch)):
                self.snapshot = copied
            else:
                after = state.parameters.copy()
                permutation = state.permutation.copy()
                self.snapshot.restore(state)
                start = state.cursor % len(job.data.X)  # an epoch of which only the validation was left is over
                batch = start // self.rates.batch_size + 1
                state.permutation[...] = permutation
                place = origin(self.network, job.loss, job.batch(start), state.parameters, after)
        finally:
            self.snapshot.restore(state)
            state.epoch, state.cursor = epoch, 0
            state.loss_sum = state.weight_sum = 0.0
        place = place or Origin(None, "")
        return DivergedError(epoch, loss, job.optimizer.learning_rate, batch, place.layer, place.text)

    def replay(self, last_step: int, last_epoch: int) -> bool:
        """Train again from the snapshot to this step, at most to the end of this epoch; tell if all is finite there."""
        state = self.state
        self.snapshot.restore(state)
        training = None
        while state.step < last_step:
            learning_rates = self.rates.ahead(state, self.last_epoch)
            if training is None:
                training = self.job.training(learning_rates)
            training.set_learning_rates(learning_rates)
            window_end = self.window_end(learning_rates)
            stop = training.run(
                min(last_epoch, state.epoch + len(self.losses)),
                SLICE_SECONDS,
                self.losses,
                self.validation_losses,
                last_step if window_end is None else min(last_step, window_end),
            )
            if stop == "diverged":
                return False
            if stop == "tolerance":
                state.stale_epochs = 0
            if state.epoch == last_epoch:
                return True
            self.interrupts.deliver()
        return is_finite(state)
