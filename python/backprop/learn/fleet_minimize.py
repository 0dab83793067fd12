"""`minimize` of a fleet: each member by itself, threads over members."""

from __future__ import annotations

import math
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar

import numpy as np

from backprop.base.fleet_history import mean_loss
from backprop.base.guard import Guard
from backprop.base.interrupts import HeldInterrupts
from backprop.base.types import Data
from backprop.learn import pace
from backprop.learn.callbacks import Callback, LambdaCallback, Progress
from backprop.learn.fit import checked_threads, progress_bar
from backprop.learn.fleet_fit import MemberLog, validation_rows
from backprop.learn.fleet_members import report
from backprop.learn.solution import Solution
from backprop.learn.solve import NotFiniteError, check_solver
from backprop.learn.solving import Ready, Request, callbacks_of, checked_method
from backprop.model import fleet_rows, rows
from backprop.model.fleet import FleetModel, Group
from backprop.model.model import Model
from backprop.reference.solvers import SOLVERS, Solver

P = ParamSpec("P")
R = TypeVar("R")


def minimize(
    fleet: FleetModel,
    X: Any,
    y: Any,
    *,
    method: str | Solver,
    loss: Any,
    sample_weight: Any,
    validation_data: Any,
    validation_split: float,
    metrics: Any,
    max_iter: int,
    tolerance: float | str,
    penalty_per_row: bool,
    callbacks: Any,
    log: Any,
    resume: bool,
    n_threads: int | str,
    progress: bool | str,
    options: Mapping[str, Any] | None,
) -> list[Solution]:
    """Train a fleet with a minimizer; `backprop.Fleet.minimize` documents it."""
    method = checked_method(method, SOLVERS)
    request = Request.of(
        method, tolerance, options, max_iter, penalty_per_row=penalty_per_row, metrics=metrics, resume=resume
    )
    every_callback = callbacks_of(callbacks)
    if log is not None:
        every_callback.append(MemberLog(log, "iteration"))
    for callback in every_callback:
        callback.of_member(0)  # what a fleet cannot use says so
    bar = progress_bar(progress, every_callback)
    every_callback = [callback for callback in every_callback if callback is not bar]
    members, columns = _members(fleet, X, y, loss, sample_weight, validation_data, validation_split)
    run = FleetMinimising(fleet, request, every_callback, bar, members)
    used = checked_threads(n_threads, run.work, fleet._core.MAX_THREADS)
    with HeldInterrupts() as interrupts, fleet._guard:
        for group, names in zip(fleet._groups, columns, strict=True):
            group.feature_names = names
            group.optimizers, group.learning_rates = (None,), None  # what they remember does not fit
        fleet._callbacks = []
        return run.train(interrupts, used)


class FleetMinimising:
    """One call of `minimize` of a fleet while it works: members wait for a thread."""

    def __init__(
        self,
        fleet: FleetModel,
        request: Request,
        callbacks: Sequence[Callback],
        bar: Progress,
        members: Sequence[tuple[int, Any, Data, Data | None]],
    ) -> None:
        self.fleet, self.request, self.callbacks, self.bar, self.members = fleet, request, callbacks, bar, members
        self.over = threading.Event()
        self.lock = threading.Lock()
        self.networks: dict[int, Model] = {}
        self.copies: dict[int, list[Callback]] = {}
        self.asked: dict[int, str] = {}
        first = self.ready(*members[0])
        self.work = first.work * len(members) * request.max_iter
        """about how much arithmetic there is to share, weighed by how seldom threads meet"""
        self.is_over = first.is_over()
        """whether no member has something to do"""
        self.check()

    def check(self) -> None:
        """Raise where a member cannot be minimised, before any of them begins."""
        request, seen = self.request, {id(self.fleet._place(self.members[0][0])[0])}
        for k, loss, data, validation in self.members[1:]:
            group, row = self.fleet._place(k)
            with _named(k):
                if request.resume or request.metrics or id(group) not in seen:
                    network, bar = self.fleet._trained_member(k), Progress(after=math.inf)
                    self.is_over &= Ready(request, network, loss, data, validation, (), bar).is_over()
                    seen.add(id(group))
                else:  # members of one shape differ in their rows only
                    check_solver(request.solver, group.layers_of(row), loss, data, 0)

    def ready(self, k: int, loss: Any, data: Data, validation: Data | None) -> Ready:
        """Return the minimisation of a member."""
        network: Model = self.fleet._trained_member(k)
        network._guard = Guard()  # its callbacks come from the thread that trains it
        own = [callback.of_member(k) for callback in self.callbacks]
        asked = LambdaCallback(on_train_begin=lambda network, _: self.stop_asked(k, network))
        self.copies[k] = own
        with _named(k):
            return Ready(self.request, network, loss, data, validation, [*own, asked], Progress(after=math.inf))

    # What `Fleet.stop` and checkpoints ask of a run.

    def stop(self, members: Any, reason: str) -> None:
        """End some members as soon as the core returns; those that wait end before they begin."""
        wanted = np.arange(len(self.fleet))[slice(None) if members is None else members]
        for k in np.atleast_1d(wanted).tolist():
            self.asked[k] = reason
            if (network := self.networks.get(k)) is not None:
                network.stop(reason)

    def stop_asked(self, k: int, network: Model) -> None:
        """End a member that begins, if that was asked for while it was waiting."""
        if k in self.asked:
            network.stop(self.asked[k])

    def note_state(self) -> None:
        """Nothing: members write themselves down as they end."""

    def train(self, interrupts: HeldInterrupts, n_threads: int) -> list[Solution]:
        """Minimise all members; the first exception of one ends all."""
        began = time.perf_counter()
        found: dict[int, Solution] = {}
        next_show = began
        self.bar.begin(0 if self.is_over else len(self.members), "member")
        self.fleet._run = self
        # In a browser no thread can be started.
        pool = InPlace() if sys.platform == "emscripten" else ThreadPoolExecutor(n_threads, "backprop")
        try:
            waiting: set[Future[tuple[int, Solution]]] = {pool.submit(self.member, *each) for each in self.members}
            while waiting:
                done, waiting = wait(waiting, pace.SLICE_SECONDS, FIRST_COMPLETED)
                found.update(future.result() for future in done)
                if (now := time.perf_counter()) >= next_show:
                    self.bar.show(len(found), mean_loss(self.fleet.history))
                    next_show = now + pace.SLICE_SECONDS
                interrupts.deliver()
        finally:
            self.over.set()
            pool.shutdown(cancel_futures=True)
            self.fleet._run = None
            self.fleet.history.elapsed += time.perf_counter() - began
            self.bar.close(len(found), mean_loss(self.fleet.history))
            self.report()
        return [found[k] for k, *_ in sorted(self.members, key=lambda member: member[0])]

    def member(self, k: int, loss: Any, data: Data, validation: Data | None) -> tuple[int, Solution]:
        """Minimise one member, in a thread of the pool."""
        ready = self.ready(k, loss, data, validation)
        network = self.networks[k] = ready.network
        have = network.history.epochs
        try:
            with network._guard:
                return k, ready.train(self, 1)
        except NotFiniteError as error:
            network.history.stop_reason = "diverged"
            return k, error.solution
        finally:
            with self.lock:
                self.networks.pop(k)
                self.note(k, network, have)

    def note(self, k: int, network: Model, have: int) -> None:
        """Enter what a member has recorded since it had so many epochs."""
        fleet, own = self.fleet, network.history
        n_epochs = own.epochs
        fleet.history.room(list(own), n_epochs)
        for name, values in own.items():
            fleet.history.put(name, slice(have, n_epochs), k, values[have:])
        fleet.history.epochs[k] = n_epochs
        fleet.history.stop_reason[k] = own.stop_reason
        if network._solved is not None:
            fleet._solved[k] = network._solved

    def report(self) -> None:
        """Let the user's own objects have arrays of what their copies have found, as `Fleet.fit` does."""
        begun = sorted(self.copies)
        for c, given in enumerate(self.callbacks):
            report(given, [self.copies[k][c] for k in begun], begun, len(self.fleet), anew=True)

    # What a member finds in the place of `HeldInterrupts`: one callback at a time, and an end where all are to end.

    def deliver(self) -> None:
        """Raise where all members are to end."""
        if self.over.is_set():
            raise _OverError

    def call(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call what is not ours."""
        with self.lock:
            return function(*args, **kwargs)


@contextmanager
def _named(k: int) -> Iterator[None]:
    """Say of which member it is what is wrong."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{error} (member {k})") from None


class _OverError(Exception):
    """Another member, or Ctrl-C, has ended all."""


def _members(
    fleet: FleetModel, X: Any, y: Any, loss: Any, sample_weight: Any, validation_data: Any, validation_split: Any
) -> tuple[list[tuple[int, Any, Data, Data | None]], list[Any]]:
    """Return number, loss, rows and validation rows of each member, and the names of the columns of each group."""
    fleet_rows.refuse_pairs(validation_data, len(fleet), {group.n_inputs for group in fleet._groups})
    given, share = rows.given_validation(validation_data, validation_split)
    X, columns = fleet_rows.opened("X", X)
    names = [fleet_rows.columns_of("X", columns, group.members, group.feature_names) for group in fleet._groups]
    groups = fleet._data(X, y, loss, sample_weight, dtype=np.float64)
    validations: list[Any] = [None] * len(groups)
    if given is not None:
        validations = [each for _, _, each in validation_rows(fleet, names, loss, *given, np.float64)]
    return list(_by_member(groups, validations, share)), names


def _by_member(
    groups: Sequence[tuple[Group, Any, Any]], validations: Sequence[Any], share: float
) -> Iterator[tuple[int, Any, Data, Data | None]]:
    for (group, checked, data), validation in zip(groups, validations, strict=True):
        if share:
            data, validation = fleet_rows.split_rows(data, share, group.members)
        for row, k in enumerate(group.members.tolist()):
            yield k, checked, data.of(row), None if validation is None else validation.of(row)


class InPlace(Executor):
    """A pool without threads: what is submitted is done at once, and what it raises is raised there."""

    def submit(self, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """Call a function; the future has its result."""
        future: Future[R] = Future()
        future.set_result(function(*args, **kwargs))
        return future
