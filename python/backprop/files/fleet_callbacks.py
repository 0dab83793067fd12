"""What the copies of a callback know, one for each of many members, as few tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backprop.base import checks as check
from backprop.files import columns
from backprop.files.columns import INDEX, Tensors


def callback(
    prefix: str, kind: str, states: Sequence[Mapping[str, Any]], tensors: dict[str, NDArray[Any]]
) -> dict[str, Any]:
    """Return what the copies of a callback know, one for each member.

    For each name there are as many tensors as kinds of values: one for numbers and texts, and one for arrays of each
    shape. Where only some of the members have a value of a kind, a tensor says which.
    """
    own: dict[str, list[Any]] = {}
    for key in dict.fromkeys(key for state in states for key in state):
        kinds: dict[Any, list[int]] = {}
        for k, state in enumerate(states):
            if key in state:
                value = state[key]
                kind_of_value = (value.shape, value.dtype.str) if isinstance(value, np.ndarray) else None
                kinds.setdefault(kind_of_value, []).append(k)
        own[key] = []
        for j, have in enumerate(kinds.values()):
            choices, array = columns.column([states[k][key] for k in have])
            own[key].append(choices)
            tensors[f"{prefix}{key}.{j}"] = array
            if len(have) < len(states):
                tensors[f"{prefix}{key}.{j}.members"] = np.array(have, INDEX)
    return {"class": kind, "size": len(states), "own": own}


def states(prefix: str, entry: Mapping[str, Any], tensors: Tensors, size: int) -> list[dict[str, Any]]:
    """Return what the copies of a callback know."""
    if entry["size"] not in (0, size):
        raise ValueError(f"{prefix}: needs the states of {size} members, got {check.shown(entry['size'])}")
    found: list[dict[str, Any]] = [{} for _ in range(entry["size"])]
    for key, kinds in entry["own"].items():
        for j, choices in enumerate(kinds):
            name = f"{prefix}{key}.{j}"
            have = list(range(len(found)))
            if f"{name}.members" in tensors:
                rows = tensors.take(f"{name}.members", INDEX, (None,))
                if len(rows) and not 0 <= rows.min() <= rows.max() < len(found):
                    raise ValueError(f"{name}.members: needs places of members")
                have = rows.tolist()
            array = tensors.take(name, None, None)
            if array.ndim == 0 or len(array) != len(have):
                raise ValueError(f"{name}: needs one for each of {len(have)} members, got {array.shape}")
            for k, value in zip(have, columns.values_of(name, choices, array), strict=True):
                found[k][key] = value
    return found
