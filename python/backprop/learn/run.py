"""The loop around the core: time slices, Ctrl-C, callbacks, history, the way back where training diverges."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from copy import deepcopy
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backprop.base.interrupts import HeldInterrupts
from backprop.base.types import RealArray
from backprop.learn import pace
from backprop.learn.callbacks import Callback, Plateau, Progress, overrides
from backprop.learn.callbacks.averages import WeightAveraging
from backprop.learn.callbacks.callback import resume_all
from backprop.learn.callbacks.plateaus import called_by, keeps_loss, keeps_measured, rank, tell_all
from backprop.learn.divergence import DivergedError, Origin, Snapshot, find_last_finite, is_finite, origin
from backprop.learn.job import Job
from backprop.learn.measures import Measures
from backprop.learn.rates import Rates


class Run:
    """One call of `fit` while it trains."""

    def __init__(
        self,
        job: Job,
        rates: Rates,
        measures: Measures,
        callbacks: Sequence[Callback],
        rule: Plateau | None,
        averaging: WeightAveraging | None,
        bar: Progress,
        interrupts: HeldInterrupts,
        last_epoch: int,
        records_rate: bool,
        resumes: bool,
    ) -> None:
        self.job, self.network, self.state, self.history = job, job.network, job.state, job.network.history
        self.rates, self.measures, self.callbacks, self.rule, self.bar = rates, measures, callbacks, rule, bar
        self.averaging = averaging
        self.interrupts, self.call = interrupts, interrupts.call
        self.first_epoch, self.last_epoch, self.records_rate = job.state.epoch, last_epoch, records_rate
        # The core's rule stands in for the callback's own.
        self.begin_calls = self.calls("on_epoch_begin", callbacks)
        self.end_calls = self.calls("on_epoch_end", sorted((each for each in callbacks if each is not rule), key=rank))
        self.stateful = [each for each in callbacks if overrides(each, "state")]
        self.kept: list[dict[str, Any]] = []
        self.periods = {every for every, *_ in (*self.begin_calls, *self.end_calls)}
        self.measured = None
        if job.settings.batch_size is None and (keeps_loss(job.settings) or any(map(keeps_measured, callbacks))):
            self.measured = self.state.parameters.copy()
        if measures.sets or self.measured is not None:
            self.periods.add(1)
        n_epochs = last_epoch - job.state.epoch
        self.before = self.history.epochs
        self.history.expect(n_epochs)
        window = min(n_epochs, pace.WINDOW)
        self.losses = np.empty(window)
        self.validation_losses = None if job.validation is None else np.empty(window)
        self.logs: dict[str, float] = {}
        self.wanted_scale = rates.scale
        self.resumes, self.begun = resumes, False
        self.stop_reason: str | None = None
        self.next_slice = self.next_snapshot = 0.0
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
        with ExitStack() as last, ExitStack() as ends:
            try:
                self.note_average()
                for callback in self.callbacks:
                    if overrides(callback, "on_train_begin"):
                        self.tell(callback, "on_train_begin", self.logs)
                    if overrides(callback, "on_train_end"):
                        (last if callback.writes_checkpoints else ends).callback(self.tell_end, callback)
                if self.resumes:
                    self.resume_callbacks()
                self.begun = True
                self.bar.begin(self.last_epoch - self.first_epoch)
                try:
                    self.loop()
                finally:
                    self.finish()
            finally:
                self.network._run = None
                history.elapsed += time.perf_counter() - start
                self.bar.close(self.state.epoch - self.first_epoch, self.logs.get("loss", math.nan))
                self.note_callbacks()

    def finish(self) -> None:
        """Leave what belongs to the end of training where it has come to one, whatever a callback raised then."""
        self.note_average()
        if self.stop_reason is not None:
            if self.averaging is not None and self.stop_reason != "diverged":
                self.averaging.finish(self.state)
            self.history.stop_reason = self.stop_reason

    def note_callbacks(self) -> None:
        """Put the states of the callbacks where a checkpoint finds them."""
        if self.rule is not None:
            self.report_best(self.rule)
        self.note_average()
        if self.resumes and not self.begun:  # what was left to do still is, and callbacks have not what they had
            return
        self.state.ending = self.stop_reason if self.network._run is self else None
        for callback in filter(keeps_measured, self.callbacks):
            callback.measured = self.measured if self.state.cursor else None
        self.state.callbacks = [(type(callback).__name__, callback.state()) for callback in self.callbacks]

    def resume_callbacks(self) -> None:
        """Give the callbacks back the states that they had; those that are new have none."""
        resume_all(self.callbacks, self.state.callbacks)
        for callback in filter(keeps_measured, self.callbacks):
            if self.measured is not None and self.state.cursor and callback.measured is not None:
                self.measured[...] = callback.measured
        if self.state.swapped:  # it goes on from the parameters of the last step
            self.state.swap()

    def note_average(self) -> None:
        """Tell the callback how many are averaged, and where the average is."""
        average, state = self.job.settings.average, self.state
        if self.averaging is not None and average is not None:
            self.averaging.note(average, state, len(self.job.data.X), self.rates.batch_size)

    def evaluated(self) -> RealArray:
        """Return the parameters of which the validation loss and the metrics are."""
        self.note_average()
        average = self.job.settings.average
        if self.averaging is not None and average is not None and average.measured and self.averaging.n_averaged:
            return self.state.average
        return self.state.parameters

    def calls(self, name: str, callbacks: Sequence[Callback]) -> list[tuple[int, Callback, Callable[..., Any]]]:
        """Return those callbacks that override a method, every how many epochs it is due, and how it is called."""
        return [(each.every, each, called_by(self.call, each, name)) for each in callbacks if overrides(each, name)]

    def tell(self, callback: Callback, name: str, *arguments: Any) -> None:
        """Call a method of a callback; Ctrl-C may interrupt it, unless it is ours."""
        called_by(self.call, callback, name)(self.network, *arguments)

    def tell_end(self, callback: Callback) -> None:
        """Tell a callback that training has ended."""
        self.tell(callback, "on_train_end", self.logs)

    def take_up_end(self) -> None:
        """Do what an epoch has left to do after whose callbacks a checkpoint was written."""
        state = self.state
        if state.cursor or state.epoch == state.first_epoch:
            return
        self.logs = {name: float(self.history[name][-1]) for name in self.history}
        self.stop_reason = self.stop_reason or state.ending
        try:
            if self.rule is not None and state.stale_epochs >= self.rule.patience:
                self.apply(self.rule)
        finally:
            self.come_to_end()

    def come_to_end(self) -> None:
        """Give training its reason to stop if all epochs are done and there is no other one."""
        if self.state.epoch == self.last_epoch and self.stop_reason is None:
            self.stop_reason = "epochs"

    def loop(self) -> None:
        """Let the core train until there is a reason to stop."""
        state = self.state
        if self.resumes:
            self.take_up_end()
        if self.stop_reason is not None:
            return
        self.begin_epoch()
        learning_rates = self.rates.ahead(state, self.last_epoch)
        training = self.job.training(learning_rates)
        last_step = self.window_end(learning_rates)
        started = time.perf_counter()
        self.snapshot = Snapshot(state)
        self.keep_callbacks()
        self.note_snapshot(started)
        self.next_slice = started + pace.SLICE_SECONDS
        try:
            while self.stop_reason is None:
                rescaled = self.rates.scale != self.wanted_scale and is_finite(state)
                if rescaled:
                    self.rates.scale = self.wanted_scale
                    self.snapshot.take(state)  # replays know one scale only
                    self.keep_callbacks()
                if rescaled or state.step == last_step:
                    learning_rates = self.rates.ahead(state, self.last_epoch)
                    training.set_learning_rates(learning_rates)
                    last_step = self.window_end(learning_rates)
                epoch, stop = state.epoch, "time"
                try:
                    stop = training.run(
                        self.next_stop(), pace.SLICE_SECONDS, self.losses, self.validation_losses, last_step
                    )
                finally:
                    done = state.epoch - epoch
                    self.settle(done, stop)
                if self.stop_reason is not None:  # it is over: Ctrl-C must not take that away
                    break
                self.interrupts.deliver()
                now = time.perf_counter()
                if now >= self.next_slice:
                    self.once_per_slice(now)
                if done:
                    self.begin_epoch()
        except BaseException:
            if not is_finite(state):
                self.go_back()
                self.stop_reason = None
            raise
        if self.stop_reason not in ("epochs", "diverged"):
            self.ensure_finite()

    def settle(self, done: int, stop: str) -> None:
        """Do what a call of the core has left to do after so many epochs, whatever one of the callbacks raises."""
        error: BaseException | None = None
        try:
            if done:
                self.keep_measured()  # before the metrics, for one may raise
                self.record(done)
            if stop == "diverged":
                self.error = self.recover()
                self.stop_reason = stop
                return
        except BaseException as raised:
            if stop == "diverged":
                raise
            error = raised
        if done:
            epoch = self.state.epoch
            due = [(callback, call) for every, callback, call in self.end_calls if epoch % every == 0]
            error = tell_all(due, self.network, epoch, self.logs, error)
        try:
            if stop == "tolerance":
                assert self.rule is not None
                self.apply(self.rule)
        except BaseException as raised:
            error = error or raised
        self.come_to_end()
        if error is not None:
            raise error

    def next_stop(self) -> int:
        """Return the epoch at whose end Python has something to do."""
        epoch = self.state.epoch
        stop = min(self.last_epoch, epoch + pace.WINDOW)
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
                measured = self.call(self.measures, self.evaluated())
                values.update((name, np.array([value])) for name, value in measured.items())
        finally:  # a metric that raises takes nothing else away
            if self.records_rate:
                values["learning_rate"] = self.rates.of_epochs(epoch - done, epoch)
            self.history.extend(done, values)
            self.logs = {name: float(array[-1]) for name, array in values.items()}

    def begin_epoch(self) -> None:
        """Call what is due before the next epoch."""
        state = self.state
        for every, _, on_epoch_begin in self.begin_calls:
            if state.epoch % every == 0:
                on_epoch_begin(self.network, state.epoch + 1, self.logs)

        if self.measured is not None and state.cursor == 0:
            self.measured[...] = state.parameters

    def keep_measured(self) -> None:
        """Put parameters from before the step in the place of those that the core has kept after it."""
        state = self.state
        if self.measured is not None and keeps_loss(self.job.settings) and state.best_epoch == state.epoch:
            state.best_parameters[...] = self.measured

    def apply(self, rule: Plateau) -> None:
        """Do what a callback wants done when the core has found no progress."""
        state = self.state
        self.report_best(rule)
        rule.stale_epochs = 0
        try:
            self.tell(rule, "on_plateau", state.epoch, self.logs)
        finally:
            state.stale_epochs = rule.stale_epochs

    def report_best(self, rule: Plateau) -> None:
        """Tell a callback what the core has found to be the best."""
        state = self.state
        if state.best_epoch:
            rule.best, rule.best_epoch, rule.stale_epochs = state.best_loss, state.best_epoch, state.stale_epochs
            if rule.keeps_best:
                rule.best_parameters = state.best_parameters

    def once_per_slice(self, now: float) -> None:
        """Do what is done once in a time slice."""
        state = self.state
        if now >= self.next_snapshot and is_finite(state):
            self.snapshot.take(state)
            self.keep_callbacks()
            self.note_snapshot(now)
        self.bar.show(state.epoch - self.first_epoch, self.logs.get("loss", math.nan))
        self.next_slice = now + pace.SLICE_SECONDS

    def note_snapshot(self, started: float) -> None:
        """Plan the next snapshot so that they take a small share of the time."""
        now = time.perf_counter()
        self.next_snapshot = now + max(pace.SLICE_SECONDS, (now - started) / pace.SNAPSHOT_SHARE)

    # --- divergence ---

    def keep_callbacks(self) -> None:
        """Copy what `go_back` needs beside the snapshot."""
        self.kept = [deepcopy(callback.state()) for callback in self.stateful]
        if self.measured is not None:
            self.kept_measured = self.measured.copy()

    def ensure_finite(self) -> None:
        """Leave no network whose epoch will diverge, but has not ended."""
        if not is_finite(self.state):
            self.go_back()

    def go_back(self) -> None:
        """Go back to the snapshot and to its epoch: an interrupted run goes on from where all was finite.

        Repeating the steps up to the last finite one could take longer than Ctrl-C may.
        """
        state = self.state
        self.snapshot.restore(state)
        state.rate_scale = self.wanted_scale  # asked for by another thread since
        self.history.forget(self.before + state.epoch - self.first_epoch)
        self.logs = {name: float(self.history[name][-1]) for name in self.logs if state.epoch > self.first_epoch}
        if self.measured is not None:
            self.measured[...] = self.kept_measured
        for callback, kept in zip(self.stateful, self.kept, strict=True):
            callback.resume(kept)

    def recover(self) -> DivergedError:
        """Go back to the last finite parameters; the epoch that diverged counts as done."""
        state, job = self.state, self.job
        epoch, loss = state.epoch, self.logs["loss"]
        best = state.best_parameters.copy()  # a repetition keeps those from the ends of epochs
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
        except BaseException:
            self.snapshot = copied
            self.go_back()
            raise
        self.snapshot.restore(state)
        state.best_parameters[...] = best
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
                pace.SLICE_SECONDS,
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
