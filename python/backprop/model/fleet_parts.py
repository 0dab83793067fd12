"""Parts of fleets, and fleets of parts: some of the members, networks side by side, members that are appended."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from copy import deepcopy
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from backprop.base import checks as check
from backprop.base import random
from backprop.base.fleet import MEMBER, NO_AVERAGE, FleetState
from backprop.base.fleet_history import FleetHistory
from backprop.base.frames import Names, compare
from backprop.base.interrupts import HeldInterrupts
from backprop.base.state import TrainingState
from backprop.base.types import new_block
from backprop.model.fleet import CallbackStates, FleetModel, Group
from backprop.model.model import Model

F = TypeVar("F", bound=FleetModel)


def of_networks(cls: type[F], networks: Iterable[Any]) -> F:
    """Return a fleet of copies of networks; `backprop.Fleet.of` documents it."""
    if isinstance(networks, Model) or not isinstance(networks, Iterable):
        raise TypeError(f"networks: needs a sequence of networks, got {check.shown(networks)}")
    given = list(networks)
    if not given:
        raise ValueError("networks: needs at least one, got none")
    for k, network in enumerate(given):
        if not isinstance(network, Model):
            raise TypeError(f"networks[{k}]: needs a Network, got {check.shown(network)}")
        _like(f"networks[{k}]", network, given[0])
    first = given[0]
    groups = _joined([_group_of(network, f"networks[{k}]", k) for k, network in enumerate(given)])
    history = FleetHistory.joined([network.history for network in given])
    fleet = cls._assembled(groups, first.dtype, first.backend, history)
    fleet._solved = {k: deepcopy(network._solved) for k, network in enumerate(given) if network._solved is not None}
    fleet._callbacks = _joined_callbacks([(_callbacks_of(network), 1) for network in given])
    return fleet


def append(fleet: FleetModel, other: Any) -> None:
    """Add copies of a network or of a fleet's members; `backprop.Fleet.append` documents it."""
    if not isinstance(other, (Model, FleetModel)):
        raise TypeError(f"other: needs a Network or a Fleet, got {check.shown(other)}")
    _like("other", other, fleet)
    with HeldInterrupts(), fleet._guard:
        start = len(fleet)
        if isinstance(other, Model):
            more = [_group_of(other, "other", start)]
            others = {} if other._solved is None else {0: other._solved}
            theirs, n_more = _callbacks_of(other), 1
        else:
            everything, others = slice(None), other._solved
            theirs, n_more = other._callbacks, len(other)
            more = [group.part(everything, group.members + start) for group in other._groups]
        groups = _joined([*fleet._groups, *more])
        callbacks = _joined_callbacks([(fleet._callbacks, start), (theirs, n_more)])
        history = FleetHistory.joined([fleet.history, other.history])
        solved = fleet._solved | {start + k: deepcopy(run) for k, run in others.items()}
        fleet._groups, fleet._size, fleet.history = groups, start + n_more, history
        fleet._callbacks, fleet._solved = callbacks, solved


def numbers_of(name: str, size: int, index: Any) -> NDArray[np.int64]:
    """Return the numbers of some members, by what NumPy takes as an index of one axis."""
    try:
        numbers: NDArray[np.int64] = np.arange(size)[index]
        return numbers
    except (IndexError, TypeError) as error:
        wanted = f"a number, a slice, a list of numbers or a mask for {size} members"
        raise IndexError(f"{name}: needs {wanted}, got {check.shown(index)} ({error})") from error


def part_of(fleet: F, index: Any) -> F:
    """Return some of the members as a fleet."""
    places = numbers_of("index", len(fleet), index)
    if places.ndim != 1 or not len(places):
        raise IndexError(f"index: needs at least one member, got {check.shown(index)}")
    groups = []
    for group in fleet._groups:
        rows = np.searchsorted(group.members, places)
        found = np.flatnonzero(group.members[np.minimum(rows, len(group) - 1)] == places)
        if len(found):
            rows = rows[found]
            step = int(rows[1] - rows[0]) if len(rows) > 1 else 1
            is_slice = isinstance(index, slice) and bool((np.diff(rows) == step).all())
            end = int(rows[-1]) + int(np.sign(step))
            own: Any = slice(int(rows[0]), end if end >= 0 else None, step) if is_slice else rows
            groups.append(group.part(own, found.astype(np.int64)))
    part = fleet._assembled(tuple(groups), fleet._dtype, fleet._backend.name, fleet.history.part(places))
    chosen = places.tolist()
    part._solved = {new: deepcopy(fleet._solved[k]) for new, k in enumerate(chosen) if k in fleet._solved}
    part._callbacks = [
        (kind, [deepcopy(states[k]) for k in chosen] if states else []) for kind, states in fleet._callbacks
    ]
    return part


def _callbacks_of(network: Model) -> CallbackStates:
    """Return what a network's callbacks know, as a fleet of one keeps it."""
    return [] if network._state is None else [(kind, [state]) for kind, state in network._state.callbacks]


def _joined_callbacks(of_fleets: Sequence[tuple[CallbackStates, int]]) -> CallbackStates:
    """Return copies of what the callbacks of fleets of these sizes know, one fleet after the other.

    Runs go on with the same callbacks for all members, so each place has those of one class: the first that knows
    something there. Members whose callback was of another class begin with nothing, as they would alone.
    """
    joined: CallbackStates = []
    for place in range(max(len(callbacks) for callbacks, _ in of_fleets)):
        entries = [callbacks[place] if place < len(callbacks) else ("", []) for callbacks, _ in of_fleets]
        kind = next((kind for kind, states in entries if any(states)), "") or next(kind for kind, _ in entries if kind)
        states: list[dict[str, Any]] = []
        for (own, known), (_, size) in zip(entries, of_fleets, strict=True):
            states.extend(deepcopy(known) if own == kind and known else [{} for _ in range(size)])
        joined.append((kind, states if any(states) else []))
    return joined


def _like(name: str, other: Model | FleetModel, first: Model | FleetModel) -> None:
    if other.dtype != first.dtype or other.backend != first.backend:
        wanted, got = (f"{each.dtype} on backend {each.backend!r}" for each in (first, other))
        raise ValueError(f"{name}: needs {wanted} as the first, got {got}")


def _group_of(network: Model, name: str, place: int) -> Group:
    """Return a network as a group of one."""
    state, n_parameters = network._state, network.n_parameters
    members = np.array([place], np.int64)
    parameters = network.parameters.reshape(1, n_parameters)
    layers, columns = (network.layers,), network.feature_names
    group = Group(members, network.n_inputs, layers, (network.seed,), parameters, feature_names=columns)
    if state is not None:
        records, empty = np.zeros(1, MEMBER), np.empty((0, n_parameters), network.dtype)
        best, average = (array[None] if len(array) else empty for array in (state.best_parameters, state.average))
        averaged = np.zeros(len(average), np.int8)
        group.state = FleetState(parameters, state.slots[None], records, best, average, averaged)
        group.state.put(0, state, _epoch_random(state, name))
        group.optimizers = (network._optimizer,)
        group.n_shuffled = np.array([len(state.permutation)])
    return group


def _epoch_random(state: TrainingState, name: str) -> list[int] | None:
    """Return where the random numbers were at the start of the epoch; None where it is at one.

    Since then, n - 1 of them have given the order of the n rows, and with dropout one for each step more.
    """
    n_rows = len(state.permutation)
    if state.cursor == 0 or n_rows == 0:
        return None
    for steps in range(state.cursor + 1):
        start = random.bit_generator(random.words(state.bit_generator))
        start.advance(-(n_rows - 1 + steps))
        numbers = random.words(start)
        if np.array_equal(random.shuffled(n_rows, start), state.permutation):
            return numbers[:2]
    raise ValueError(f"{name}: needs an order of rows that its random numbers give; finish its epoch first")


# --- groups of one shape side by side -------------------------------------------------------------------------------


def _joined(groups: Sequence[Group]) -> tuple[Group, ...]:
    """Return the groups with those of one shape made one, each with copies."""
    alike: dict[Any, list[Group]] = {}
    for group in groups:
        alike.setdefault(_shape(group), []).append(group)
    return tuple(map(_side_by_side, alike.values()))


def _shape(group: Group) -> tuple[int, tuple[Any, ...]]:
    """Return what the members of a group have in common."""
    layers = tuple(
        (replace(layer, weight_init="auto", bias_init="auto", l1=0.0, l2=0.0, dropout=0.0,
                 bias_trainable=layer.trains_biases), layer.l1 > 0, layer.l2 > 0, layer.dropout > 0)
        for layer in group.layers[0]
    )  # fmt: skip
    return group.n_inputs, layers


def _side_by_side(groups: list[Group]) -> Group:
    """Return members of one shape as one group, in their order in the fleet."""
    members = np.concatenate([group.members for group in groups])
    order = np.argsort(members, kind="stable")
    size, n_parameters = len(members), groups[0].parameters.shape[1]
    dtype = groups[0].parameters.dtype
    parameters = new_block("size", (size, n_parameters), dtype)
    parameters[...] = np.concatenate([group.parameters for group in groups])[order]
    joined = Group(
        members[order], groups[0].n_inputs, _each(groups, order, "layers"),
        random.kept(_each(groups, order, "seeds", all_alike=False)), parameters,
        optimizers=tuple(_each(groups, order, "optimizers")), feature_names=_columns(groups),
    )  # fmt: skip
    if any(group.state is not None for group in groups):
        joined.state = _states(groups, order, parameters)
        shuffled = [
            np.zeros(len(group), np.int64) if group.n_shuffled is None else group.n_shuffled for group in groups
        ]
        joined.n_shuffled = np.concatenate(shuffled)[order]
    if any(group.learning_rates is not None for group in groups):
        rates = [group.optimizer_of(row) for group in groups for row in range(len(group))]
        joined.learning_rates = np.array([np.nan if each is None else each.learning_rate for each in rates])[order]
    return joined


def _each(groups: list[Group], order: NDArray[np.int64], name: str, all_alike: bool = True) -> Any:
    """Return something of each member, or one where that is the same for all."""
    values: list[Any] = []
    for group in groups:
        own: Sequence[Any] = getattr(group, name)
        values.extend(list(own) * len(group) if all_alike and len(own) == 1 else own)
    if all_alike and all(value is values[0] or value == values[0] for value in values):
        return (values[0],)
    return tuple(values[k] for k in order.tolist())


def _columns(groups: list[Group]) -> Names | None:
    """Return the names of the columns that the members of one shape know; ValueError where they differ."""
    known: Names | None = None
    for group in groups:
        compare(f"networks[{group.members[0]}].feature_names", group.feature_names, known)
        known = known or group.feature_names
    return known


def _states(groups: list[Group], order: NDArray[np.int64], parameters: Any) -> FleetState:
    """Return the states of all members; those that were never trained get one that their training begins with."""
    n_parameters, dtype = parameters.shape[1], parameters.dtype
    states = [group.state for group in groups]
    n_slots = max(state.slots.shape[1] for state in states if state is not None)
    size = len(order)
    slots, members = np.zeros((size, n_slots, n_parameters), dtype), np.zeros(size, MEMBER)
    best, average = (
        np.zeros((size * any(len(getattr(state, name)) for state in states if state is not None), n_parameters), dtype)
        for name in ("best_parameters", "average")
    )
    averaged = np.full(len(average), NO_AVERAGE, np.int8)
    start = 0
    for group, state in zip(groups, states, strict=True):
        part = slice(start, start + len(group))
        start += len(group)
        if state is None:
            members["random"][part] = random.words_of_seeds(group.seeds, random.TRAINING)
            members["rate_scale"][part], members["best_loss"][part] = 1.0, np.inf
            members["epoch_random"][part] = members["random"][part, :2]
            continue
        members[part], slots[part, : state.slots.shape[1]] = state.members, state.slots
        if len(state.best_parameters):
            best[part] = state.best_parameters
        if len(state.average):
            average[part], averaged[part] = state.average, state.averaged
    rest: list[Any] = [array[order] if len(array) else array for array in (best, average, averaged)]
    return FleetState(parameters, slots[order], members[order], *rest)
