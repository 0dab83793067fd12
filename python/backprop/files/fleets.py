"""Files of fleets: safetensors, as those of networks, with a block for all members where those have an array.

Nothing in such a file can name code, and every number in it is finite. One metadata entry, ``backprop``, is a JSON
object with

- ``format``: ``"backprop.fleet"``; ``version``: 1
- ``dtype``, ``size``: those of the fleet
- ``groups``: for the members of each shape their ``n_inputs`` and ``layers``, which are the settings of `Dense`:
  ``shared`` has those on which all members agree, ``own`` names those that each has of its own; and their
  ``feature_names``, where the columns of X have some
- ``extra``: whatever was given to `save`

The tensors of group g begin with ``groups.g.``; n is the number of its members:

- ``members`` (n,): their places in the fleet, ascending
- ``seeds`` (n, words): the lowest 64 bits of each seed first
- ``layers.0.weights`` (n, n_in, n_out), ``layers.0.biases`` (n, n_out) ...
- ``layers.0.l2`` (n,) and the like: what members have of their own. Where a list stands in ``own``, the tensor has
  places in it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backprop.base import checks as check
from backprop.base.frames import checked_names
from backprop.base.random import kept
from backprop.base.types import new_block
from backprop.files import models
from backprop.files.columns import INDEX, Tensors, all_finite, records, settings
from backprop.model.fleet import FleetModel, Group
from backprop.reference.dense import Dense, checked_layers
from backprop.reference.layout import end, layout

FORMAT = "backprop.fleet"
VERSION = 1
_WORD = np.dtype(np.uint64)
_MAY_DIFFER = {"l1", "l2", "dropout", "weight_init", "bias_trainable", "bias_init"}
_SAME_ZEROS = ("l1", "l2", "dropout", "trains_biases")


def save(fleet: FleetModel, path: str | os.PathLike[str], extra: Mapping[str, Any] | None = None) -> None:
    """Write a fleet to a safetensors file; `Fleet.save` documents it."""
    models.write(path, *contents(fleet, extra))


def contents(fleet: FleetModel, extra: Mapping[str, Any] | None) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Return the tensors and the metadata of a fleet's file; ValueError where a parameter is not finite."""
    tensors: dict[str, NDArray[Any]] = {}
    groups = []
    for g, group in enumerate(fleet._groups):
        prefix = f"groups.{g}."
        _check_finite(group)
        tensors[prefix + "members"] = np.ascontiguousarray(group.members)
        tensors[prefix + "seeds"] = _words(group.seeds)
        for array in layout(group.n_inputs, group.layers[0]):
            block = array.of(group.parameters)
            tensors[f"{prefix}layers.{array.layer}.{array.name}"] = np.ascontiguousarray(block)
        layers = []
        for k in range(len(group.layers[0])):
            entry, own = settings(f"{prefix}layers.{k}.", [each[k] for each in group.layers])
            layers.append(entry)
            tensors.update(own)
        groups.append({"n_inputs": group.n_inputs, "layers": layers, **models.columns(group.feature_names)})
    metadata = {
        "format": FORMAT,
        "version": VERSION,
        "dtype": fleet.dtype.name,
        "size": len(fleet),
        "groups": groups,
        "extra": models.checked_extra(extra),
    }
    return tensors, metadata


def groups_of(metadata: Mapping[str, Any], tensors: Tensors) -> tuple[tuple[Group, ...], np.dtype[Any]]:
    """Return the groups of a fleet that a file describes, and their dtype."""
    dtype = models.head(metadata, FORMAT, VERSION)
    size = check.integer("size", metadata["size"], at_least=1)
    groups = tuple(_group(f"groups.{g}.", entry, tensors, dtype) for g, entry in enumerate(metadata["groups"]))
    places = np.concatenate([group.members for group in groups]) if groups else np.empty(0, INDEX)
    if len(places) != size or not np.array_equal(np.sort(places), np.arange(size)):
        raise ValueError(f"members: need each of the {size} places once")
    return groups, dtype


def _group(prefix: str, entry: Mapping[str, Any], tensors: Tensors, dtype: np.dtype[Any]) -> Group:
    """Return one group; the sizes of its tensors are compared before there is memory for its parameters."""
    n_inputs = check.integer("n_inputs", entry["n_inputs"], at_least=1)
    members = tensors.take(prefix + "members", INDEX, (None,)).copy()
    n = len(members)
    if not n or (np.diff(members) <= 0).any():
        raise ValueError(f"{prefix}members: need to be one at least, and ascending")
    seeds = _seeds(tensors.take(prefix + "seeds", _WORD, (n, None)))
    layers = _layers(prefix, entry["layers"], tensors, n)
    arrays = layout(n_inputs, layers[0])
    blocks = [tensors.take(f"{prefix}layers.{each.layer}.{each.name}", dtype, (n, *each.shape)) for each in arrays]
    parameters = new_block("size", (n, end(arrays)), dtype)
    for array, block in zip(arrays, blocks, strict=True):
        parameters[:, array.part] = block.reshape(n, array.size)
    names = checked_names("feature_names", entry.get("feature_names"), n_inputs)
    group = Group(members, n_inputs, layers, seeds, parameters, feature_names=names)
    _check_finite(group)
    return group


def _layers(prefix: str, entries: Sequence[Any], tensors: Tensors, n: int) -> Sequence[tuple[Dense, ...]]:
    """Return the layers of all members, or of each."""
    columns = []
    for k, entry in enumerate(entries):
        if not set(entry["own"]) <= _MAY_DIFFER:
            raise ValueError(f"{prefix}layers.{k}: members may differ in {sorted(_MAY_DIFFER)} only")
        columns.append(records(f"{prefix}layers.{k}.", entry, tensors, Dense, n))
    n_kinds = max(map(len, columns), default=1)
    layers = list(zip(*(each if len(each) == n_kinds else each * n_kinds for each in columns), strict=True))
    for name in _SAME_ZEROS:
        if len({tuple(getattr(layer, name) == 0 for layer in each) for each in layers}) > 1:
            raise ValueError(f"{prefix}layers: members need {name} = 0 in the same layers")
    checked_layers(layers[0] if layers else ())
    return layers


def _check_finite(group: Group) -> None:
    """Raise ValueError if a parameter of a member is NaN or infinite."""
    finite = all_finite(group.parameters)
    if not finite.all():
        row = int(np.argmin(finite))
        raise ValueError(f"parameters: need finite numbers, those of member {group.members[row]} are not")


# --- seeds ---------------------------------------------------------------------------------------------------------


def _words(seeds: Sequence[int]) -> NDArray[np.uint64]:
    """Return seeds of any size as numbers of 64 bits, (n, words)."""
    if isinstance(seeds, np.ndarray):
        return np.ascontiguousarray(seeds, np.int64).astype(_WORD)[:, None]
    largest = max(seeds[0], seeds[-1]) if isinstance(seeds, range) else max(seeds)
    n_words = max(1, -(-largest.bit_length() // 64))
    raw = b"".join(seed.to_bytes(8 * n_words, "little") for seed in seeds)
    return np.frombuffer(raw, "<u8").reshape(len(seeds), n_words).astype(_WORD)


def _seeds(words: NDArray[np.uint64]) -> Sequence[int]:
    """Return the seeds as a group keeps them."""
    n_words = words.shape[1]
    if not n_words:
        raise ValueError("seeds: need a number each")
    if n_words == 1:
        return kept(words[:, 0].tolist())
    return kept([int.from_bytes(row.tobytes(), "little") for row in words.astype("<u8")])
