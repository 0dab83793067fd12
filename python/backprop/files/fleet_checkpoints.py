"""Checkpoints of fleets: a file of a fleet with its training in it, as `backprop.files.checkpoints` for a network.

More tensors, whose names begin with ``training.``, and one more entry in the metadata hold the state of every member.
For the members of group g, n in all, there are

- ``training.groups.g.slots`` (n, slots, parameters) and ``training.groups.g.best_parameters`` (n or 0, parameters)
- ``training.groups.g.members`` (n, words): the records of `backprop.base.fleet.MEMBER` as numbers of 64 bits
- ``training.groups.g.average`` (n, parameters) and ``training.groups.g.averaged`` (n,), where there are any
- ``training.groups.g.learning_rates`` and ``training.groups.g.n_shuffled`` (n,) where the group has them
- ``training.groups.g.optimizer`` (n,): the place of each member's optimizer in a list, where there are several kinds

Minimisations are in `backprop.files.fleet_solving`. The history is ``training.history.0`` (epochs, members of the
fleet) and so on, ``training.history.epochs`` and ``training.history.stop_reason``. A SHA-256 over everything tells a
damaged file from a whole one.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backprop.base import checks as check
from backprop.base.atomic import write_atomically
from backprop.base.fleet import DIVERGED, ENDING, MEMBER, NO_AVERAGE, RUNNING, SWAPPED, TOLERANCE, FleetState
from backprop.base.fleet_history import FleetHistory
from backprop.files import checkpoints, columns, fleets, models
from backprop.files.checkpoints import KEY
from backprop.files.columns import INDEX, Tensors
from backprop.files.fleet_callbacks import callback, states
from backprop.files.fleet_solving import restore_solving, solving
from backprop.model.fleet import FleetModel, Group
from backprop.reference.optimizers import OPTIMIZERS, Optimizer

_WORD, _REAL = np.dtype(np.uint64), np.dtype(np.float64)
_N_WORDS = MEMBER.itemsize // _WORD.itemsize
_COUNTERS = ("step", "epoch", "cursor", "first_epoch", "best_epoch", "diverged_epoch", "position")
_MOST = 2**62  # of a counter
_STATUSES = RUNNING, TOLERANCE, DIVERGED, ENDING  # between two calls of the core


def save(fleet: FleetModel, path: str | os.PathLike[str]) -> None:
    """Write a checkpoint; `Fleet.save_checkpoint` documents it."""
    if fleet._run is not None:
        fleet._run.note_state()
    tensors, metadata = fleets.contents(fleet, None)
    more, metadata[KEY] = _training(fleet)
    tensors.update(more)
    metadata["sha256"] = checkpoints.digest(tensors, metadata)
    write_atomically(path, models.serialized(tensors, metadata))


def _training(fleet: FleetModel) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Return the tensors and the metadata of a training."""
    tensors: dict[str, NDArray[Any]] = {}
    groups = []
    for g, group in enumerate(fleet._groups):
        more, entry = _group(f"training.groups.{g}.", group)
        tensors.update(more)
        if fleet._solved:
            more, entry["solving"] = solving(f"training.groups.{g}.", group, fleet._solved)
            tensors.update(more)
        groups.append(entry)
    history = fleet.history
    reasons, tensors["training.history.stop_reason"] = columns.counted(history.stop_reason.tolist())
    tensors["training.history.epochs"] = history.epochs
    tensors.update((f"training.history.{k}", history[name]) for k, name in enumerate(history))
    metadata = {
        "member": list(MEMBER.names or ()),
        "groups": groups,
        "callbacks": [callback(f"training.callbacks.{k}.", *each, tensors) for k, each in enumerate(fleet._callbacks)],
        "history": {"names": list(history), "stop_reasons": reasons, "elapsed": float(history.elapsed).hex()},
    }
    return {name: np.ascontiguousarray(array) for name, array in tensors.items()}, metadata


def _group(prefix: str, group: Group) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Return what a group has of its training."""
    tensors: dict[str, NDArray[Any]] = {}
    for name in ("learning_rates", "n_shuffled"):
        array = getattr(group, name)
        if array is not None:
            tensors[prefix + name] = array
    if group.state is not None:
        tensors[prefix + "slots"] = group.state.slots
        tensors[prefix + "best_parameters"] = group.state.best_parameters
        tensors[prefix + "members"] = group.state.members.view(_WORD).reshape(len(group), _N_WORDS)
        if len(group.state.averaged):
            tensors[prefix + "average"], tensors[prefix + "averaged"] = group.state.average, group.state.averaged
    kinds = list(dict.fromkeys(map(type, group.optimizers)))
    if len(kinds) > 1:
        tensors[prefix + "optimizer"] = np.array([kinds.index(type(each)) for each in group.optimizers], INDEX)
    entries: list[Any] = []
    for k, kind in enumerate(kinds):
        own = [each for each in group.optimizers if type(each) is kind]
        if own[0] is None:
            entries.append(None)
            continue
        entry, more = columns.settings(f"{prefix}optimizers.{k}.", own)
        tensors.update(more)
        entries.append({"name": own[0].name, **entry})
    return tensors, {"optimizers": entries}


# --- reading -------------------------------------------------------------------------------------------------------


def restore(fleet: FleetModel, metadata: Mapping[str, Any], tensors: Tensors) -> None:
    """Give a fleet its training back; every size is checked against the fleet."""
    if metadata["member"] != list(MEMBER.names or ()):
        raise ValueError(f"member: needs records of {list(MEMBER.names or ())}")
    if len(metadata["groups"]) != len(fleet._groups):
        raise ValueError(f"groups: needs {len(fleet._groups)}, got {len(metadata['groups'])}")
    for g, (group, entry) in enumerate(zip(fleet._groups, metadata["groups"], strict=True)):
        _restore_group(f"training.groups.{g}.", group, entry, tensors)
        fleet._solved.update(restore_solving(f"training.groups.{g}.", group, entry.get("solving", ()), tensors))
    fleet.history = _history(len(fleet), metadata["history"], tensors)
    fleet._callbacks = [
        (str(entry["class"]), states(f"training.callbacks.{k}.", entry, tensors, len(fleet)))
        for k, entry in enumerate(metadata["callbacks"])
    ]


def _restore_group(prefix: str, group: Group, entry: Mapping[str, Any], tensors: Tensors) -> None:
    n, n_parameters = group.parameters.shape
    group.optimizers = _optimizers(prefix, entry["optimizers"], tensors, n)
    if prefix + "learning_rates" in tensors:
        group.learning_rates = tensors.take(prefix + "learning_rates", _REAL, (n,)).copy()
        if not (np.isfinite(group.learning_rates) & (group.learning_rates > 0)).all():
            raise ValueError(f"{prefix}learning_rates: needs finite numbers > 0")
    if prefix + "n_shuffled" in tensors:
        group.n_shuffled = tensors.take(prefix + "n_shuffled", INDEX, (n,)).copy()
        if not (0 <= group.n_shuffled.min() <= group.n_shuffled.max() <= _MOST):
            raise ValueError(f"{prefix}n_shuffled: needs numbers >= 0")
    if prefix + "members" not in tensors:
        return
    members = tensors.take(prefix + "members", _WORD, (n, _N_WORDS)).copy().view(MEMBER)[:, 0]
    _check_members(prefix + "members", members, group.n_shuffled)
    dtype = group.parameters.dtype
    slots = tensors.take(prefix + "slots", dtype, (n, None, n_parameters)).copy()
    needed = max(0 if each is None else each.n_slots for each in group.optimizers)
    if slots.shape[1] < needed or np.isnan(slots.max(initial=0)):  # an infinite mean of squares just takes no steps
        raise ValueError(f"{prefix}slots: needs numbers and no NaN, {needed} for each parameter")
    best = tensors.take(prefix + "best_parameters", dtype, (None, n_parameters)).copy()
    if len(best) not in (0, n):
        raise ValueError(f"{prefix}best_parameters: needs those of 0 or {n} members, got {len(best)}")
    group.state = FleetState(group.parameters, slots, members, best)
    if prefix + "averaged" in tensors:
        group.state.average = tensors.take(prefix + "average", dtype, (n, n_parameters)).copy()
        group.state.averaged = averaged = tensors.take(prefix + "averaged", np.dtype(np.int8), (n,)).copy()
        if not NO_AVERAGE <= averaged.min() <= averaged.max() <= SWAPPED:
            raise ValueError(f"{prefix}averaged: needs numbers from {NO_AVERAGE} to {SWAPPED}")


def _check_members(name: str, members: NDArray[Any], n_shuffled: NDArray[np.int64] | None) -> None:
    """Raise ValueError for records that no training leaves behind."""
    for field in _COUNTERS:
        if not 0 <= members[field].min() <= members[field].max() <= _MOST:
            raise ValueError(f"{name}: needs {field} from 0 to {_MOST}")
    if not np.isin(members["status"], _STATUSES).all():
        raise ValueError(f"{name}: needs a status among {_STATUSES}")
    if (np.abs(members["stale_epochs"].astype(np.float64)) > _MOST).any():
        raise ValueError(f"{name}: needs stale_epochs of at most {_MOST}")
    if n_shuffled is not None and ((n_shuffled > 0) & (members["cursor"] > n_shuffled)).any():
        raise ValueError(f"{name}: needs cursor within the rows")


def _optimizers(prefix: str, entries: Sequence[Any], tensors: Tensors, n: int) -> tuple[Optimizer | None, ...]:
    """Return the last optimizer of all members, or of each."""
    index = np.zeros(n, INDEX)
    if len(entries) != 1:
        index = tensors.take(prefix + "optimizer", INDEX, (n,))
        if not 0 <= index.min() <= index.max() < len(entries):
            raise ValueError(f"{prefix}optimizer: needs places in a list of {len(entries)}")
    kinds: list[tuple[Any, ...]] = []
    for k, entry in enumerate(entries):
        if entry is None:
            kinds.append((None,))
            continue
        kind = OPTIMIZERS[check.choice("optimizer", entry["name"], OPTIMIZERS)]
        known = {field.name for field in fields(kind)}
        if not {*entry["shared"], *entry["own"]} <= known:
            raise ValueError(f"optimizer: {entry['name']} has {sorted(known)}")
        kinds.append(columns.records(f"{prefix}optimizers.{k}.", entry, tensors, kind, int((index == k).sum())))
    if len(kinds) == 1:
        return kinds[0]
    found: NDArray[Any] = np.empty(n, object)
    for k, own in enumerate(kinds):
        found[index == k] = own[0] if len(own) == 1 else np.array(own, object)
    return tuple(found)


def _history(size: int, metadata: Mapping[str, Any], tensors: Tensors) -> FleetHistory:
    history = FleetHistory(size)
    names = [name for name in metadata["names"] if isinstance(name, str)]
    epochs = tensors.take("training.history.epochs", INDEX, (size,)).copy()
    if epochs.min() < 0:
        raise ValueError("training.history.epochs: needs numbers >= 0")
    n_epochs = int(epochs.max())
    arrays = {name: tensors.take(f"training.history.{k}", _REAL, (n_epochs, size)) for k, name in enumerate(names)}
    if "loss" not in arrays or len(arrays) != len(metadata["names"]):
        raise ValueError("history: needs a loss, and each name once")
    history.room(names, n_epochs)
    for name, array in arrays.items():
        history.put(name, slice(n_epochs), slice(None), array)
    history.epochs = epochs
    reasons = tensors.take("training.history.stop_reason", INDEX, (size,))
    history.stop_reason[:] = columns.values_of("stop_reason", metadata["stop_reasons"], reasons)
    history.elapsed = columns.real(metadata["elapsed"])
    return history
