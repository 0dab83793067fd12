"""The minimisations of a fleet's members in its checkpoint: what `minimize(resume=True)` goes on with.

For the members of group g whose minimisations are of the j-th kind, the same solver, loss and classes of callbacks,
m in all, there are the tensors ``training.groups.g.solving.j.``

- ``members`` (m,): their rows in the group
- ``point`` (m, parameters) and ``pairs`` (all pairs, 2, parameters), those of one member after those of another
- ``scale`` (m, parameters), where one of them has some
- ``integers`` (m, names), the number of pairs last, and ``reals`` (m, names); ``reason`` (m,), places in a list
- ``n_rows`` (m,), of their data, 0 where that is not known; older files have none
- ``solver.*`` for settings that are not the same for all, ``callbacks.*`` as those of a training
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backprop.base import checks as check
from backprop.base.solving import SolverRun, SolverState
from backprop.files import columns
from backprop.files.checkpoints import SOLVER_INTEGERS, SOLVER_REALS
from backprop.files.columns import INDEX, Tensors
from backprop.files.fleet_callbacks import callback, states
from backprop.model.fleet import Group
from backprop.reference.solvers import SOLVERS

_REAL = np.dtype(np.float64)


def solving(
    prefix: str, group: Group, solved: Mapping[int, SolverRun]
) -> tuple[dict[str, NDArray[Any]], list[dict[str, Any]]]:
    """Return tensors and metadata of the minimisations of a group's members, by their places in the fleet."""
    kinds: dict[Any, list[int]] = {}
    for row, k in enumerate(group.members.tolist()):
        if k in solved:
            run = solved[k]
            kind = type(run.solver), run.loss, tuple(name for name, _ in run.callbacks)
            kinds.setdefault(kind, []).append(row)
    tensors: dict[str, NDArray[Any]] = {}
    entries = []
    for j, rows in enumerate(kinds.values()):
        runs = [solved[k] for k in group.members[rows].tolist()]
        entries.append(_kind(f"{prefix}solving.{j}.", np.array(rows, INDEX), runs, tensors))
    return tensors, entries


def _kind(
    prefix: str, rows: NDArray[np.int64], runs: list[SolverRun], tensors: dict[str, NDArray[Any]]
) -> dict[str, Any]:
    found = [run.state for run in runs]
    n_parameters = len(found[0].point)
    pairs = [pair for state in found for pair in state.pairs]
    tensors[prefix + "members"] = rows
    tensors[prefix + "point"] = np.array([state.point for state in found])
    tensors[prefix + "pairs"] = np.array(pairs, np.float64).reshape(len(pairs), 2, n_parameters)
    if any(state.scale.size for state in found):
        none = np.zeros(n_parameters)
        tensors[prefix + "scale"] = np.array([state.scale if state.scale.size else none for state in found])
    integers = [[*(getattr(state, name) for name in SOLVER_INTEGERS), len(state.pairs)] for state in found]
    tensors[prefix + "integers"] = np.array(integers, INDEX)
    tensors[prefix + "reals"] = np.array([[getattr(state, name) for name in SOLVER_REALS] for state in found], _REAL)
    reasons, tensors[prefix + "reason"] = columns.counted([run.reason for run in runs])
    tensors[prefix + "n_rows"] = np.array([run.n_rows or 0 for run in runs], INDEX)
    settings, more = columns.settings(prefix + "solver.", [run.solver for run in runs])
    tensors.update(more)
    kept = [
        callback(f"{prefix}callbacks.{c}.", name, [run.callbacks[c][1] for run in runs], tensors)
        for c, (name, _) in enumerate(runs[0].callbacks)
    ]
    solver = {"name": runs[0].solver.name, **settings}
    return {"solver": solver, "reasons": reasons, "callbacks": kept, "loss_name": runs[0].loss}


def restore_solving(prefix: str, group: Group, entries: Any, tensors: Tensors) -> dict[int, SolverRun]:
    """Return what `solving` was given."""
    found: dict[int, SolverRun] = {}
    for j, entry in enumerate(entries):
        rows, runs = _restored_kind(f"{prefix}solving.{j}.", group, entry, tensors)
        found.update(zip(group.members[rows].tolist(), runs, strict=True))
    return found


def _restored_kind(
    prefix: str, group: Group, entry: Mapping[str, Any], tensors: Tensors
) -> tuple[NDArray[np.int64], list[SolverRun]]:
    size, n_parameters = group.parameters.shape
    rows = tensors.take(prefix + "members", INDEX, (None,))
    if not len(rows) or not 0 <= rows.min() <= rows.max() < size or len(np.unique(rows)) != len(rows):
        raise ValueError(f"{prefix}members: needs some of {size} members, each once")
    m = len(rows)
    integers = tensors.take(prefix + "integers", INDEX, (m, len(SOLVER_INTEGERS) + 1))
    ends = np.cumsum(integers[:, -1])
    point = tensors.take(prefix + "point", _REAL, (m, n_parameters))
    pairs = tensors.take(prefix + "pairs", _REAL, (None, 2, n_parameters))
    if integers.min() < 0 or ends[-1] != len(pairs):
        raise ValueError(f"{prefix}integers: needs numbers >= 0, the last of which are those of {len(pairs)} pairs")
    scale = np.empty((m, 0))
    if prefix + "scale" in tensors:
        scale = tensors.take(prefix + "scale", _REAL, (m, n_parameters))
    if not all(np.isfinite(each).all() for each in (point, pairs, scale)) or scale.min(initial=0) < 0:
        raise ValueError(f"{prefix}point, {prefix}pairs, {prefix}scale: need finite numbers, the last >= 0")
    reals = tensors.take(prefix + "reals", _REAL, (m, len(SOLVER_REALS)))
    reasons = columns.values_of(prefix + "reason", entry["reasons"], tensors.take(prefix + "reason", INDEX, (m,)))
    n_rows = np.zeros(m, INDEX)
    if prefix + "n_rows" in tensors:
        n_rows = tensors.take(prefix + "n_rows", INDEX, (m,))
        if n_rows.min() < 0:
            raise ValueError(f"{prefix}n_rows: needs numbers >= 0")
    loss = None if entry.get("loss_name") is None else str(entry["loss_name"])
    kind = SOLVERS[check.choice("solver", entry["solver"]["name"], SOLVERS)]
    solvers = columns.records(prefix + "solver.", entry["solver"], tensors, kind, m)
    callbacks = [
        (str(each["class"]), states(f"{prefix}callbacks.{c}.", each, tensors, m))
        for c, each in enumerate(entry["callbacks"])
    ]
    runs = []
    for i in range(m):
        values: dict[str, Any] = dict(zip(SOLVER_INTEGERS, integers[i, :-1].tolist(), strict=True))
        values.update(zip(SOLVER_REALS, reals[i].tolist(), strict=True))
        own = [(s.copy(), y.copy()) for s, y in pairs[ends[i] - integers[i, -1] : ends[i]]]
        known = scale[i].copy() if scale[i].any() else np.empty(0)
        state = SolverState(point[i].copy(), pairs=own, scale=known, **values)
        kept = [(name, each[i] if each else {}) for name, each in callbacks]
        solver = solvers[i % len(solvers)]
        runs.append(SolverRun(solver, state, str(reasons[i]), kept, int(n_rows[i]) or None, loss))
    return rows, runs
