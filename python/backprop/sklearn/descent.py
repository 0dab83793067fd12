"""How the estimators of `backprop.sklearn` are trained with an optimizer: by scikit-learn's rules, inside the core."""

from __future__ import annotations

import math
import sys
import time
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning

from backprop.backends import choice
from backprop.base import threads
from backprop.base.interrupts import HeldInterrupts
from backprop.base.state import TrainingState, n_averaged
from backprop.base.types import RealArray, TrainingSettings
from backprop.learn import pace
from backprop.learn.callbacks import Callback, Progress
from backprop.learn.callbacks.averages import WeightAveraging, only_average, only_averages
from backprop.learn.fit import all_callbacks
from backprop.learn.schedules import Schedule
from backprop.reference.optimizers import Optimizer
from backprop.sklearn.listeners import Listeners
from backprop.sklearn.solvers import Problem

# Below this the adaptive learning rate is not divided any more.
_LEAST_RATE = 1e-6
# So many epochs are trained, and so many learning rates made, in one go.
_EPOCHS_AT_ONCE = 1000
_RATES_AT_ONCE = 100_000


class Descent:
    """One call of `fit` or `partial_fit` with a stochastic solver: keeps the estimator's records."""

    def __init__(
        self,
        estimator: Any,
        problem: Problem,
        random_state: Callable[[], np.random.RandomState],
        incremental: bool,
    ) -> None:
        self.estimator, self.incremental = estimator, incremental
        self.n_rows = problem.data.X.shape[0]
        self.last_epoch = 1 if incremental else int(estimator.max_iter)
        self.prints = bool(estimator.verbose) and not isinstance(estimator.verbose, str)
        self.schedule: str | Schedule = estimator._schedule()
        self.first_rate: float = estimator._rate()
        self.first_t: int = estimator.t_
        callbacks = all_callbacks(estimator.callbacks or (), None, None, 1)
        self.averaging = self._averaging(callbacks, problem)
        self.listeners = None
        if not all(map(only_averages, callbacks)):
            names = ["loss", "learning_rate"] + ["val_loss"] * (problem.validation is not None)
            names += [f"val_{problem.objective.score}"] * (problem.score is not None)
            self.listeners = Listeners(callbacks, names, problem.network(), self.evaluated)
            # The callbacks see what is trained.
            problem = problem._replace(parameters=self.listeners.network.parameters)
        self.problem = problem
        self.optimizer: Optimizer = estimator._optimizer()
        self.settings = settings = self._settings()
        self.batch_size = settings.batch_size or self.n_rows
        self.steps_per_epoch = -(-self.n_rows // self.batch_size)
        self.state = self._state(self.optimizer, settings, random_state)
        self.first_step = self.state.step
        self.best_parameters = None if problem.score is None else problem.parameters.copy()
        self._open_records()
        estimator.n_iter_ = 0
        self.first_epoch = len(estimator.loss_curve_)
        self.epochs_at_once = 1
        if problem.score is None:
            self.epochs_at_once = min(self.last_epoch, _EPOCHS_AT_ONCE)
        if self.has_windows():
            self.epochs_at_once = max(1, min(self.epochs_at_once, _RATES_AT_ONCE // self.steps_per_epoch))
        self.stopped = False
        """whether there was a reason to stop before the last epoch"""
        self.diverged = False
        """whether that reason were parameters that are not finite"""
        if self.averaging is not None:
            self.averaging.forget()

    def has_begun(self) -> bool:
        """Whether there has been a step."""
        return self.state.step > self.first_step

    def _averaging(self, callbacks: list[Callback], problem: Problem) -> WeightAveraging | None:
        """Return the callback that averages, if any."""
        averaging = only_average(callbacks)
        if averaging is not None:
            if self.incremental:
                raise ValueError(
                    "callbacks: needs none that averages for partial_fit, each call of which is one epoch; got "
                    f"{averaging!r}"
                )
            if hasattr(problem.data.X, "toarray"):
                raise ValueError(
                    f"callbacks: needs none that averages for sparse rows that fill the memory, got {averaging!r}"
                )
        return averaging

    def _settings(self) -> TrainingSettings:
        est = self.estimator
        batch_size = min(200, self.n_rows) if isinstance(est.batch_size, str) else int(est.batch_size)
        if batch_size > self.n_rows:
            warnings.warn(
                "Got `batch_size` less than 1 or larger than sample size. It is going to be clipped",
                stacklevel=choice._caller_level(),
            )
        batch_size = min(batch_size, self.n_rows)
        own_rule = self.problem.score is None
        return TrainingSettings(
            batch_size=batch_size if batch_size < self.n_rows else None,
            shuffle=bool(est.shuffle),
            penalty_per_row=True,
            tolerance=float(est.tol) / self.problem.objective.unit if own_rule else None,
            equal_is_progress=True,
            patience=int(min(est.n_iter_no_change, sys.maxsize - 1)) + 1,
            average=None if self.averaging is None else self.averaging.average(self.last_epoch),
            n_threads=threads.choose(
                None if isinstance(est.n_threads, str) else int(est.n_threads),
                6.0 * len(self.problem.parameters) * batch_size,
                self.problem.core.MAX_THREADS,
            ),
            fixed_threads=threads.are_fixed(),
        )

    def _state(
        self, optimizer: Optimizer, settings: TrainingSettings, random_state: Callable[[], np.random.RandomState]
    ) -> TrainingState:
        """Return a state that goes on with what the optimizer remembers (`partial_fit`), or one that starts afresh."""
        est, parameters = self.estimator, self.problem.parameters
        slots, step = optimizer.new_slots(len(parameters), parameters.dtype), 0
        known: Any = getattr(est, "_slots", None)
        self.goes_on = self.incremental and known is not None and known.shape == slots.shape
        if self.goes_on:
            slots[...], step = known, est._step
        else:
            est._n_reductions = 0
        # Nothing is drawn where nothing is random, so that a shared RandomState moves no further than it must.
        draws = (settings.shuffle and settings.batch_size is not None) or np.any(est.dropout)
        seed = random_state().randint(np.iinfo(np.int32).max) if draws else 0
        average: RealArray = np.zeros(len(parameters) * (settings.average is not None), parameters.dtype)
        return TrainingState(parameters, slots, np.random.PCG64(seed), step=step, average=average)

    def _open_records(self) -> None:
        """Bring the attributes that grow with the epochs into the form that this call needs."""
        est = self.estimator
        if not hasattr(est, "loss_curve_"):  # the last solver was L-BFGS
            est.loss_curve_ = []
            est._no_improvement_count = 0
        if self.problem.score is not None:
            est.best_loss_ = None
            if getattr(est, "validation_scores_", None) is None:
                est.validation_scores_, est.best_validation_score_ = [], -math.inf
        else:
            est.validation_scores_ = est.best_validation_score_ = None
            if getattr(est, "best_loss_", None) is None:
                est.best_loss_ = math.inf
            self.state.best_loss = est.best_loss_ / self.problem.objective.unit
            self.state.stale_epochs = est._no_improvement_count
        if self.problem.validation is None:
            est.validation_loss_curve_ = None
        elif getattr(est, "validation_loss_curve_", None) is None:
            est.validation_loss_curve_ = []

    # --- learning rates --------------------------------------------------------------------------------------------

    def has_windows(self) -> bool:
        """Whether the learning rate changes by itself, so that the core gets the rates of so many steps at a time."""
        return self.schedule not in ("constant", "adaptive")

    def rate(self, epoch: int = 0) -> float:
        """Return the learning rate of an epoch, counted from 0 in this call, by scikit-learn's rules."""
        rate: float = self.first_rate
        if self.schedule == "invscaling" and (epoch or self.goes_on):
            rate /= float(self.first_t + epoch * self.n_rows + 1) ** float(self.estimator.power_t)
        for _ in range(self.estimator._n_reductions):
            rate /= 5.0
        return rate if self.listeners is None else rate * self.listeners.scale

    def rates(self, last_epoch: int) -> NDArray[np.float64]:
        """Return the learning rate of each step from here to the end of that epoch."""
        state = self.state
        begun = -(-state.cursor // self.batch_size)
        if isinstance(self.schedule, str):
            rates = np.repeat([self.rate(epoch) for epoch in range(state.epoch, last_epoch)], self.steps_per_epoch)
            return rates[begun:]
        n_steps = (last_epoch - state.epoch) * self.steps_per_epoch - begun
        steps = np.arange(state.step, state.step + n_steps, dtype=np.int64)
        return self.rate() * self.schedule.factors(steps, self.steps_per_epoch)

    def next_rate(self) -> float:
        """Return the learning rate of the next step."""
        return float(self.rates(self.state.epoch + 1)[0])

    # --- epochs ----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Get ready to train alone."""
        problem = self.problem
        self.losses = np.empty(self.epochs_at_once)
        self.validation_losses = None if problem.validation is None else np.empty(self.epochs_at_once)
        self.run = problem.training(self.optimizer, self.settings, self.state, np.array([self.rate()]))

    def train(self) -> None:
        """Train until a stop rule says so or all epochs are done."""
        est = self.estimator
        bar = self._bar()
        with HeldInterrupts() as self.interrupts, ExitStack() as stack:
            if self.listeners is not None:
                stack.enter_context(self.listeners.attached(self.interrupts))
            stack.callback(lambda: bar.close(est.n_iter_, getattr(est, "loss_", math.nan)))
            bar.begin(self.last_epoch)
            self.loop(bar)
            self.finish()
            if self.listeners is not None:
                self.listeners.network.history.stop_reason = "tolerance" if self.stopped else "epochs"

    def finish(self) -> None:
        """Give the network its average, if that is wanted."""
        self.note_average()
        if self.averaging is not None and not self.diverged:
            self.averaging.finish(self.state)

    def note_average(self) -> None:
        """Tell the callback how many are averaged, and where the average is."""
        if self.averaging is not None:
            self.averaging.n_averaged = self.n_averaged()
            self.averaging.swapped = self.state.swapped

    def close(self) -> None:
        """Warn where training ended because the epochs did."""
        est = self.estimator
        if not (self.stopped or self.incremental or self.diverged):
            warnings.warn(
                f"Stochastic Optimizer: Maximum iterations ({est.max_iter}) reached and the optimization hasn't "
                "converged yet.",
                ConvergenceWarning,
                stacklevel=choice._caller_level(),
            )

    def loop(self, bar: Progress) -> None:
        """Let the core train until there is a reason to stop or all epochs are done."""
        est, state, listeners = self.estimator, self.state, self.listeners
        next_slice, begins = 0.0, True
        while state.epoch < self.last_epoch:
            last_epoch = min(self.last_epoch, state.epoch + self.epochs_at_once)
            if listeners is not None:
                epoch = self.first_epoch + state.epoch
                if begins:
                    listeners.epoch_begins(epoch, self.settings.batch_size is None)
                last_epoch = min(last_epoch, listeners.next_call(epoch) - self.first_epoch)
            first_epoch = state.epoch
            reason = self.advance(last_epoch)
            begins = state.epoch > first_epoch
            self.stopped = self.ends()
            self.diverged = reason == "diverged" and not np.isfinite(state.parameters).all()
            if self.diverged:
                break  # what follows would be NaN again and again
            if listeners is not None and begins:
                listeners.epoch_ends(self.first_epoch + state.epoch)
                self.stopped = self.stopped or listeners.stop_reason is not None
            if self.stopped:
                return
            self.interrupts.deliver()
            if (now := time.perf_counter()) >= next_slice:
                bar.show(est.n_iter_, est.loss_curve_[-1] if est.n_iter_ else math.nan)
                next_slice = now + pace.SLICE_SECONDS

    def move(self, state: TrainingState) -> None:
        """Go on with this state in place of the present one."""
        self.state = state
        self.problem = self.problem._replace(parameters=state.parameters)

    def n_averaged(self) -> int:
        """Return how many sets of parameters are in the average."""
        average, state = self.settings.average, self.state
        return 0 if average is None else int(
            n_averaged(average, state.epoch, state.cursor, self.n_rows, self.batch_size)
        )  # fmt: skip

    def evaluated(self) -> RealArray:
        """Return the parameters of which validation losses and scores are."""
        average = self.settings.average
        averages = average is not None and average.measured and self.n_averaged() > 0
        return self.state.average if averages else self.state.parameters

    def result(self, *, goes_on: bool) -> RealArray:
        """Return the parameters to keep: with early stopping the best, else those that the network has.

        Where training goes on, its end has not yet given the network the average. Those of a training that has
        diverged are the last.
        """
        state, averaging = self.state, self.averaging
        if self.diverged:
            return state.parameters
        if self.best_parameters is not None:
            return self.best_parameters
        averages = goes_on and averaging is not None and averaging.restore and self.n_averaged() > 0
        return state.average if averages else state.parameters

    def advance(self, last_epoch: int) -> str:
        """Train up to that epoch, or for a while; keep the records."""
        first_epoch = self.state.epoch
        if self.has_windows():
            self.run.set_learning_rates(self.rates(last_epoch))
        elif self.listeners is not None or self.schedule == "adaptive":  # either may have changed it
            self.run.set_learning_rates(np.array([self.rate()]))
        reason: str = self.run.run(last_epoch, pace.SLICE_SECONDS, self.losses, self.validation_losses)
        if (done := self.state.epoch - first_epoch) > 0:
            self.record(self.losses[:done], None if self.validation_losses is None else self.validation_losses[:done])
        return reason

    def record(self, losses: NDArray[np.float64], validation_losses: NDArray[np.float64] | None) -> None:
        """Keep the records of the epochs that have just been done."""
        est, unit, done = self.estimator, self.problem.objective.unit, len(losses)
        records = {"loss": losses * unit}
        if validation_losses is not None:
            records["val_loss"] = validation_losses * unit
            est.validation_loss_curve_ += records["val_loss"].tolist()
        est.loss_curve_ += records["loss"].tolist()
        est.loss_ = est.loss_curve_[-1]
        est.t_ += done * self.n_rows
        if self.prints:
            for k in range(done):
                print(f"Iteration {est.n_iter_ + k + 1}, loss = {est.loss_curve_[k - done]:.8f}")
        est.n_iter_ += done
        if self.problem.score is None:
            est.best_loss_ = self.state.best_loss * unit
            est._no_improvement_count = self.state.stale_epochs
        else:
            self.validate()
            records[f"val_{self.problem.objective.score}"] = np.array(est.validation_scores_[-1:])
        if self.listeners is not None:
            self.listeners.record(done, {**records, "learning_rate": np.full(done, self.next_rate())})

    def validate(self) -> None:
        """Apply scikit-learn's rule of early stopping to the validation score of one epoch."""
        est = self.estimator
        score = self.problem.validation_score(self.evaluated())
        est.validation_scores_.append(score)
        if self.prints:
            print(f"Validation score: {score:f}")
        if score < est.best_validation_score_ + est.tol:
            est._no_improvement_count += 1
        else:
            est._no_improvement_count = 0
        if score > est.best_validation_score_:
            est.best_validation_score_ = score
            self.best_parameters = self.evaluated().copy()

    def ends(self) -> bool:
        """Return whether training is to stop, after the rules for a plateau."""
        est = self.estimator
        return bool(est._no_improvement_count > est.n_iter_no_change) and self.on_plateau()

    def on_plateau(self) -> bool:
        """Stop (True), or go on with a lower learning rate."""
        est = self.estimator
        if self.schedule != "adaptive":
            stops, what = True, "Stopping."
        elif self.rate() <= _LEAST_RATE:
            stops, what = True, "Learning rate too small. Stopping."
        else:
            est._n_reductions += 1
            est._no_improvement_count = self.state.stale_epochs = 0
            stops, what = False, f"Setting learning rate to {self.rate():f}"
        if self.prints:
            monitored = "Training loss" if self.problem.score is None else "Validation score"
            epochs = f"{est.n_iter_no_change} consecutive epochs"
            print(f"{monitored} did not improve more than tol={est.tol:f} for {epochs}. {what}")
        return stops

    def _bar(self) -> Progress:
        """Return the progress bar: that among the callbacks, or one that may stay hidden."""
        callbacks = () if self.listeners is None else self.listeners.callbacks
        after = 0.0 if self.estimator.verbose == "progress" else math.inf
        return next((each for each in callbacks if isinstance(each, Progress)), Progress(after=after))
