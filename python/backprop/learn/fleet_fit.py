"""`fit` of a fleet: checks of what users give, and the run that follows from it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from backprop.base import checks as check
from backprop.base.fleet import ENDING, FleetData
from backprop.base.fleet_history import FleetHistory
from backprop.base.interrupts import HeldInterrupts
from backprop.base.types import TrainingSettings
from backprop.learn import fit as network_fit
from backprop.learn import metrics as metric_functions
from backprop.learn.callbacks import Callback, Plateau, Progress, TerminateOnNaN
from backprop.learn.callbacks.averages import only_average
from backprop.learn.divergence import DivergedError
from backprop.learn.fleet_divergence import FleetDivergedError
from backprop.learn.fleet_measures import FleetMeasures
from backprop.learn.fleet_part import Part, begin, resumable
from backprop.learn.fleet_run import FleetRun, PartRun
from backprop.learn.fleet_settings import PENALTIES, MemberSettings
from backprop.learn.schedules import Schedule, as_schedule
from backprop.model import fleet_rows, rows
from backprop.model.fleet import FleetModel, Group


class MemberLog(Callback):
    """Calls a function with a member's number, its steps or iterations, and what was recorded."""

    def __init__(self, function: Any, counted: str, member: int = -1) -> None:
        if not callable(function):
            raise TypeError(f"log: needs a function of member, {counted} and metrics, got {check.shown(function)}")
        self.function, self.counted, self.member = function, counted, member

    def of_member(self, member: int) -> Self:
        """Return the callback of one member."""
        return type(self)(self.function, self.counted, member)

    def on_epoch_end(self, network: Any, epoch: int, logs: Mapping[str, float]) -> None:
        """Call the function."""
        self.function(self.member, network._state.step if self.counted == "step" else epoch, dict(logs))


def fit(
    fleet: FleetModel,
    X: Any,
    y: Any,
    *,
    loss: Any = "auto",
    optimizer: Any = "adam",
    learning_rate: Any = None,
    l1: Any = None,
    l2: Any = None,
    dropout: Any = None,
    schedule: Schedule | Callable[[int], float] | None = None,
    epochs: int = 100,
    batch_size: int | None = 32,
    shuffle: bool = True,
    sample_weight: Any = None,
    class_weight: Any = None,
    validation_data: Any = None,
    validation_split: float = 0.0,
    metrics: Any = (),
    callbacks: Iterable[Callback] = (),
    log: Callable[[int, int, dict[str, float]], Any] | None = None,
    clip_norm: float | None = None,
    clip_value: float | None = None,
    tolerance: float | None = None,
    patience: int = 10,
    on_divergence: str = "raise",
    initial_epoch: int | None = None,
    resume: bool = False,
    n_threads: int | str = "auto",
    progress: bool | str = "auto",
    elsewhere: Callable[[Begun], dict[int, DivergedError]] | None = None,
) -> FleetHistory:
    """Train a fleet; `backprop.Fleet.fit` documents the arguments.

    elsewhere: what trains the members from where they begin, and returns the errors of those that diverged, where this
    process does not do it.
    """
    own = MemberSettings(len(fleet), optimizer, learning_rate, dict(zip(PENALTIES, (l1, l2, dropout), strict=True)))
    epochs, initial_epoch = network_fit.checked_epochs(epochs, initial_epoch, resume)
    if batch_size is not None:
        batch_size = check.integer("batch_size", batch_size, at_least=1, clipped=True)
    if schedule is not None:
        schedule = as_schedule("schedule", schedule)
    data = _Rows(fleet, X, y, loss, sample_weight, class_weight, validation_data, validation_split, metrics)
    if data.groups[0][1].sees_derivatives and own.penalties.get("dropout", np.zeros(1)).any():
        raise ValueError(f"dropout: needs None or 0 for {data.groups[0][1].name}, got {check.shown(dropout)}")
    every_callback = _callbacks(callbacks, log, tolerance, patience)
    names = network_fit.recorded(data.names, schedule, every_callback)
    rule = next((each for each in every_callback if isinstance(each, Plateau) and each.suits_core()), None)
    raises = check.choice("on_divergence", on_divergence, ("raise", "stop")) == "raise"
    raises = raises and not any(isinstance(callback, TerminateOnNaN) for callback in every_callback)
    bar = network_fit.progress_bar(progress, every_callback)
    averaging = only_average(every_callback)
    average = None if averaging is None else averaging.average(epochs)
    goes_through = not metrics and all(callback is rule for callback in every_callback)
    used = _threads(fleet, data, epochs if goes_through else 1, n_threads)
    settings = network_fit.training_settings(rule, batch_size, shuffle, clip_norm, clip_value, False, used, average)
    resume = check.boolean("resume", resume)

    with HeldInterrupts() as interrupts, fleet._guard:
        active, wanted = _begin(fleet, data, own, settings, epochs, initial_epoch, resume)
        for group, columns in zip(fleet._groups, data.columns, strict=True):
            group.feature_names = columns
        errors: dict[int, DivergedError] = {}
        if elsewhere is not None and active.any():
            groups = [(group, plain, validation) for group, _, _, plain, validation, _ in data.groups]
            errors = elsewhere(Begun(active, wanted.astype(np.bool_), groups, bar, interrupts))
        else:  # where nothing is left to do, the callbacks are told what was found
            parts = _parts(fleet, data, own, settings)
            run = FleetRun(fleet, epochs, every_callback, rule, averaging, bar, interrupts, schedule, names)
            run.wanted, run.is_wanted = wanted, True
            runs = []
            for part, measures in parts:
                part.open()
                runs.append(PartRun(run, part, metrics, measures, active[part.members], len(parts) == 1))
            run.train(runs)
            errors = run.errors
    if errors and raises:
        raise FleetDivergedError(errors)
    return fleet.history


class Begun(NamedTuple):
    """A fleet at the start of its training."""

    active: NDArray[np.bool_]
    """which members have something to do, (size,)"""
    ending: NDArray[np.bool_]
    """of which of them it is only to come to their end"""
    groups: list[tuple[Group, FleetData, FleetData | None]]
    """with the rows to learn from and those to validate with"""
    bar: Progress
    interrupts: HeldInterrupts


class _Rows:
    """The rows of each group, the loss and the metrics."""

    def __init__(
        self, fleet: FleetModel, X: Any, y: Any, loss: Any, sample_weight: Any, class_weight: Any,
        validation_data: Any, validation_split: Any, metrics: Any,
    ) -> None:  # fmt: skip
        functions = metric_functions.resolved(metrics)
        fleet_rows.refuse_pairs(validation_data, len(fleet), {group.n_inputs for group in fleet._groups})
        given, share = rows.given_validation(validation_data, validation_split)
        self.groups: list[tuple[Group, Any, FleetData, FleetData, FleetData | None, FleetMeasures]] = []
        X, columns = fleet_rows.opened("X", X)
        self.columns = [fleet_rows.columns_of("X", columns, own.members, own.feature_names) for own in fleet._groups]
        groups = fleet._data(X, y, loss, sample_weight)
        validations = None if given is None else validation_rows(fleet, self.columns, loss, *given)
        for g, (group, checked, whole) in enumerate(groups):
            data, validation = whole, None if validations is None else validations[g][2]
            if share:
                data, validation = fleet_rows.split_rows(whole, share, group.members)
            weighted = data
            if class_weight is not None:
                weighted = fleet_rows.with_class_weights(data, class_weight, checked, group.n_outputs, fleet.dtype)
            sets = {"": data} if validation is None else {"": data, "val_": validation}
            measures = FleetMeasures(fleet._core, group, checked, functions, sets)
            measures.check()
            self.groups.append((group, checked, weighted, data, validation, measures))
        validated = self.groups[0][4] is not None
        self.names = ["loss", *(["val_loss"] if validated else []), *self.groups[0][5].names]


def validation_rows(
    fleet: FleetModel, known: Any, loss: Any, X: Any, y: Any, sample_weight: Any, dtype: Any = None
) -> Any:
    """Return the rows to validate with, whose columns are those to learn from."""
    name = rows.VALIDATION_NAMES[0]
    X, columns = fleet_rows.opened(name, X)
    for group, own in zip(fleet._groups, known, strict=True):
        fleet_rows.columns_of(name, columns, group.members, own)
    return fleet._data(X, y, loss, sample_weight, rows.VALIDATION_NAMES, dtype)


def _callbacks(callbacks: Any, log: Any, tolerance: Any, patience: Any) -> list[Callback]:
    """Return all callbacks, those for `log` and `tolerance` included."""
    found = network_fit.all_callbacks(callbacks, None, tolerance, patience)
    if log is not None:
        found.append(MemberLog(log, "step"))
    for callback in found:
        callback.of_member(0)  # what a fleet cannot use says so
    return found


def _threads(fleet: FleetModel, data: _Rows, epochs: int, n_threads: Any) -> int:
    """Return how many threads may compute, which meet once in so many epochs."""
    flops = sum(
        rows.flops(loss, group.n_inputs, group.parameters.shape[1], float(learned.n_rows.sum()))
        for group, loss, learned, *_ in data.groups
    )
    return network_fit.checked_threads(n_threads, epochs * flops, fleet._core.MAX_THREADS)


def _begin(
    fleet: FleetModel,
    data: _Rows,
    own: MemberSettings,
    settings: TrainingSettings,
    epochs: int,
    initial_epoch: int | None,
    resume: bool,
) -> tuple[NDArray[np.bool_], NDArray[Any]]:
    """Bring every group's state to where training begins.

    Return which members have something to do, and the reasons of those of whose end callbacks have to hear.
    """
    active, wanted = np.ones(len(fleet), np.bool_), np.full(len(fleet), None, object)
    resumed = []
    for group, _, learned, *_ in data.groups:
        optimizers, n_rows = own.optimizers_of(group.members), np.asarray(learned.n_rows)
        batch = n_rows if settings.batch_size is None else np.minimum(settings.batch_size, n_rows)
        n_shuffled = np.where(settings.shuffle & (batch < n_rows), n_rows, 0)
        going_on = np.zeros(len(group), np.bool_)
        if resume:
            going_on = resumable(group, optimizers, n_shuffled, n_rows, settings)
        resumed.append((group, optimizers, n_shuffled, going_on))
    for group, optimizers, n_shuffled, going_on in resumed:
        ending = going_on.copy() if group.state is None else going_on & (group.state.members["status"] == ENDING)
        begin(group, optimizers, n_shuffled, settings, initial_epoch, going_on)
        group.optimizers = optimizers
        group.learning_rates = None if own.learning_rates is None else own.learning_rates[group.members]
        if group.state is not None and going_on.any():
            reasons, record = fleet.history.stop_reason[group.members], group.state.members
            is_over = (reasons == "tolerance") | (reasons == "diverged")
            # One that was interrupted at the end of its last epoch has that end to come to, as a network.
            ends = (reasons == "interrupted") & (record["cursor"] == 0)
            is_over |= record["epoch"] - record["first_epoch"] >= epochs + ends
            ending &= is_over | (reasons != "epochs")  # where there are more epochs, it goes on
            active[group.members] = ~(going_on & is_over) | ending
            wanted[group.members[ending]], record["status"][ending] = reasons[ending], ENDING
    fleet._solved = {}
    if not resume:
        fleet._callbacks = []
    return active, wanted


def _parts(
    fleet: FleetModel, data: _Rows, own: MemberSettings, settings: TrainingSettings
) -> list[tuple[Part, FleetMeasures]]:
    """Return the members that one call of the core trains together."""
    parts: list[tuple[Part, FleetMeasures]] = []
    for group, loss, weighted, plain, validation, measures in data.groups:
        for kind in own.kinds(group):

            def some(whole: Any, kind: NDArray[np.int64] = kind, group: Group = group) -> Any:
                return whole if whole is None or len(kind) == len(group) else whole.part(kind)

            members = group.members[kind]
            part = Part(
                group, kind, own.layers_of(group, kind), loss, own.optimizers_of(members), own.rates_of(members),
                settings, some(weighted), some(plain), some(validation),
            )  # fmt: skip
            sets = {prefix: some(each) for prefix, each in measures.sets.items()}
            parts.append((part, FleetMeasures(fleet._core, group, loss, measures.functions, sets)))
    return parts
