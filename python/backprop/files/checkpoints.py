"""Checkpoints: a network in the middle of its training, in one file that loses nothing.

A checkpoint is a model file (`backprop.load` reads it) with more tensors in it, whose names begin with ``training.``,
and with one more entry in its metadata: counters, the state of the random numbers, the optimizer, the stop rule, the
callbacks and the history; a minimisation has an entry of its own. Training that goes on from it gives the same numbers,
bit for bit, as if it had never stopped. A SHA-256 over all of it tells a damaged file from a whole
one. Nothing in it can name code.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backprop.base import checks as check
from backprop.base.atomic import write_atomically
from backprop.base.history import History
from backprop.base.solving import SolverRun, SolverState
from backprop.base.state import TrainingState
from backprop.files import columns, models
from backprop.model.model import Model
from backprop.reference.optimizers import OPTIMIZERS
from backprop.reference.solvers import SOLVERS

KEY, SOLVING_KEY = "training", "solving"
_INTEGERS = ("step", "epoch", "cursor", "first_epoch", "best_epoch", "stale_epochs")
_REALS = ("loss_sum", "weight_sum", "best_loss", "rate_scale")
SOLVER_INTEGERS = ("iteration", "evaluations", "counted")
SOLVER_REALS = ("loss", "slope", "damping", "alpha", "beta", "gamma")
_MOST = 2**62  # of a counter


def save(model: Model, path: str | os.PathLike[str]) -> None:
    """Write a checkpoint; `Network.save_checkpoint` documents it."""
    tensors, metadata = models.contents(model, None)
    if model._run is not None and (model._state is not None or model._solved is not None):
        model._run.note_callbacks()
    if model._state is not None:
        more, metadata[KEY] = _training(model, model._state)
        tensors.update(more)
    if model._solved is not None:
        more, metadata[SOLVING_KEY] = _solving(model._solved)
        tensors.update(more)
    for key in (KEY, SOLVING_KEY):
        if key in metadata:
            more, metadata[key]["history"] = _history(model.history)
            tensors.update(more)
            break
    metadata["sha256"] = digest(tensors, metadata)
    write_atomically(path, models.serialized(tensors, metadata))


def digest(tensors: Mapping[str, NDArray[Any]], metadata: Mapping[str, Any]) -> str:
    """Return the SHA-256 of everything but itself."""
    total = hashlib.sha256()
    rest = {key: value for key, value in metadata.items() if key != "sha256"}
    total.update(json.dumps(rest, sort_keys=True).encode())
    for name in sorted(tensors):
        array = np.ascontiguousarray(tensors[name])
        total.update(f"{name} {array.dtype.str} {array.shape}".encode())
        total.update(array.data.cast("B") if array.size else b"")
    return total.hexdigest()


# --- what a training is made of ------------------------------------------------------------------------------------


def _training(model: Model, state: TrainingState) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Return the tensors and the metadata of a training."""
    optimizer = model._optimizer
    tensors: dict[str, NDArray[Any]] = {
        "training.slots": state.slots,
        "training.permutation": state.permutation,
        "training.best_parameters": state.best_parameters.astype(model.dtype, copy=False),
    }
    if state.average.size:
        tensors["training.average"] = state.average
    more, callbacks = _callbacks("training", state.callbacks)
    tensors.update(more)
    metadata = {
        **{name: int(getattr(state, name)) for name in _INTEGERS},
        **{name: float(getattr(state, name)).hex() for name in _REALS},
        "bit_generator": dict(state.bit_generator.state["state"]),
        **({"swapped": state.swapped} if state.average.size else {}),
        **({} if state.ending is None else {"ending": state.ending}),
        "optimizer": None
        if optimizer is None
        else {"name": optimizer.name, **{field.name: getattr(optimizer, field.name) for field in fields(optimizer)}},
        "callbacks": callbacks,
    }
    return {name: np.ascontiguousarray(array) for name, array in tensors.items()}, metadata


def _callbacks(
    prefix: str, states: Sequence[tuple[str, Mapping[str, Any]]]
) -> tuple[dict[str, NDArray[Any]], list[dict[str, Any]]]:
    """Return the tensors and the metadata of the callbacks' states."""
    tensors: dict[str, NDArray[Any]] = {}
    callbacks = []
    for k, (kind, values) in enumerate(states):
        arrays = {key: value for key, value in values.items() if isinstance(value, np.ndarray)}
        tensors.update((f"{prefix}.callbacks.{k}.{key}", value) for key, value in arrays.items())
        rest = {key: columns.pack(value) for key, value in values.items() if key not in arrays}
        callbacks.append({"class": kind, "values": rest, "arrays": sorted(arrays)})
    return tensors, callbacks


def _history(history: History) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Return the tensors and the metadata of a history."""
    tensors = {f"training.history.{k}": np.ascontiguousarray(history[name]) for k, name in enumerate(history)}
    elapsed = float(history.elapsed).hex()
    return tensors, {"names": list(history), "stop_reason": history.stop_reason, "elapsed": elapsed}


def _solving(left: SolverRun) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Return the tensors and the metadata of a minimisation."""
    state, solver = left.state, left.solver
    pairs = np.array(state.pairs, np.float64).reshape(len(state.pairs), 2, len(state.point))
    tensors, callbacks = _callbacks("training.solving", left.callbacks)
    tensors.update({"training.solving.point": state.point, "training.solving.pairs": pairs})
    if state.scale.size:
        tensors["training.solving.scale"] = state.scale
    settings = {each.name: getattr(solver, each.name) for each in fields(solver)}
    metadata = {
        **{name: int(getattr(state, name)) for name in SOLVER_INTEGERS},
        **{name: float(getattr(state, name)).hex() for name in SOLVER_REALS},
        "solver": {"name": solver.name, **settings},
        "reason": left.reason,
        "callbacks": callbacks,
        "n_rows": left.n_rows,
        "loss_name": left.loss,
        **({} if left.asked is None else {"asked": left.asked}),
        **({} if left.ended == "time" else {"ended": left.ended}),
    }
    return {name: np.ascontiguousarray(array) for name, array in tensors.items()}, metadata


def restore(model: Model, metadata: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]]) -> None:
    """Give the model its training back; every size is checked against the model."""
    optimizer = None
    if metadata["optimizer"] is not None:  # as it is where a minimisation came after
        settings = dict(metadata["optimizer"])
        optimizer = OPTIMIZERS[check.choice("optimizer", settings.pop("name"), OPTIMIZERS)](**settings)
    integers = {name: check.integer(name, metadata[name], at_least=-_MOST, at_most=_MOST) for name in _INTEGERS}
    if min(integers[name] for name in ("step", "epoch", "cursor", "first_epoch", "best_epoch")) < 0:
        raise ValueError("counters: need numbers >= 0")
    numbers: dict[str, Any] = {**integers, **{name: columns.real(metadata[name]) for name in _REALS}}
    bit_generator = np.random.PCG64(0)
    words = {key: check.integer(key, metadata["bit_generator"][key], at_least=0, at_most=2**128 - 1)
             for key in ("state", "inc")}  # fmt: skip
    whole: Any = {"bit_generator": "PCG64", "state": words, "has_uint32": 0, "uinteger": 0}
    bit_generator.state = whole
    n = model.n_parameters
    permutation = _tensor(tensors, "training.permutation", np.dtype(np.int64), (None,))
    if len(permutation) and (np.sort(permutation) != np.arange(len(permutation))).any():
        raise ValueError("training.permutation: needs every row once")
    if len(permutation) and integers["cursor"] > len(permutation):
        raise ValueError(f"cursor: needs at most {len(permutation)}, got {integers['cursor']}")
    best = tensors["training.best_parameters"]
    state = TrainingState(
        model.parameters,
        _tensor(tensors, "training.slots", model.dtype, (None if optimizer is None else optimizer.n_slots, n)).copy(),
        bit_generator,
        permutation=permutation.copy(),
        best_parameters=_tensor(tensors, "training.best_parameters", model.dtype, (n if best.size else 0,)).copy(),
        average=_tensor(tensors, "training.average", model.dtype, (n,)).copy()
        if "training.average" in tensors
        else np.empty(0),
        swapped=check.boolean("swapped", metadata.get("swapped", False)),
        callbacks=_restored_callbacks("training", metadata, tensors),
        ending=str(metadata["ending"]) if "ending" in metadata else None,
        **numbers,
    )
    if np.isnan(state.slots.max(initial=0)):  # an infinite mean of squares just takes no steps
        raise ValueError("training.slots: needs numbers and no NaN")
    model._state, model._optimizer = state, optimizer
    _restore_history(model, metadata["history"], tensors)


def restore_solving(model: Model, metadata: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]]) -> None:
    """Give the model its minimisation back."""
    settings = dict(metadata["solver"])
    solver = SOLVERS[check.choice("solver", settings.pop("name"), SOLVERS)](**settings)
    integers = {name: check.integer(name, metadata[name], at_least=0, at_most=_MOST) for name in SOLVER_INTEGERS}
    numbers: dict[str, Any] = {**integers, **{name: columns.real(metadata[name]) for name in SOLVER_REALS}}
    real, n = np.dtype(np.float64), model.n_parameters
    point = _tensor(tensors, "training.solving.point", real, (n,)).copy()
    pairs = _tensor(tensors, "training.solving.pairs", real, (None, 2, n))
    scale = np.empty(0)
    if "training.solving.scale" in tensors:  # older files have none
        scale = _tensor(tensors, "training.solving.scale", real, (n,)).copy()
    if not all(np.isfinite(each).all() for each in (point, pairs, scale)) or scale.min(initial=0) < 0:
        raise ValueError("solving: needs finite numbers, and a scale >= 0")
    state = SolverState(point, pairs=[(s.copy(), y.copy()) for s, y in pairs], scale=scale, **numbers)
    callbacks = _restored_callbacks("training.solving", metadata, tensors)
    n_rows, loss = metadata.get("n_rows"), metadata.get("loss_name")  # older files have none
    if n_rows is not None:
        n_rows = check.integer("n_rows", n_rows, at_least=1, at_most=_MOST)
    model._solved = SolverRun(
        solver,
        state,
        str(metadata["reason"]),
        callbacks,
        n_rows,
        None if loss is None else str(loss),
        asked=str(metadata["asked"]) if "asked" in metadata else None,
        ended=str(metadata.get("ended", "time")),
    )
    if "history" in metadata:
        _restore_history(model, metadata["history"], tensors)


def _restored_callbacks(
    prefix: str, metadata: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]]
) -> list[tuple[str, dict[str, Any]]]:
    return [
        (str(each["class"]), _callback_values(f"{prefix}.callbacks.{k}", each, tensors))
        for k, each in enumerate(metadata["callbacks"])
    ]


def _restore_history(model: Model, metadata: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]]) -> None:
    history = model.history
    names = [name for name in metadata["names"] if isinstance(name, str)]
    real = np.dtype(np.float64)
    arrays = {name: _tensor(tensors, f"training.history.{k}", real, (None,)) for k, name in enumerate(names)}
    lengths = {len(array) for array in arrays.values()}
    if "loss" not in arrays or len(lengths) != 1:
        raise ValueError("history: needs a loss, and as many numbers under each name")
    history.extend(lengths.pop(), arrays)
    reason = metadata["stop_reason"]
    history.stop_reason = None if reason is None else str(reason)
    history.elapsed = columns.real(metadata["elapsed"])


def _tensor(
    tensors: Mapping[str, NDArray[Any]], name: str, dtype: np.dtype[Any], shape: tuple[int | None, ...]
) -> NDArray[Any]:
    """Return a tensor, which must be of this dtype and shape; None stands for any length."""
    array = tensors[name]
    fits = array.ndim == len(shape) and all(want in (None, got) for want, got in zip(shape, array.shape, strict=True))
    if array.dtype != dtype or not fits:
        raise ValueError(f"{name}: needs {dtype} {shape}, got {array.dtype} {array.shape}")
    return array


def _callback_values(prefix: str, entry: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    values = {str(key): columns.unpack(value) for key, value in entry["values"].items()}
    values.update((str(key), tensors[f"{prefix}.{key}"].copy()) for key in entry["arrays"])
    return values
