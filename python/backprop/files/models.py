"""Model files: safetensors, with the architecture as JSON in the metadata.

Nothing in such a file can name code, and every number in it is finite. It holds the tensors ``layers.0.weights``
(n_in, n_out), ``layers.0.biases`` (n_out,), ``layers.1.weights`` ... and one metadata entry, ``backprop``: a JSON
object with

- ``format``: ``"backprop.network"``; ``version``: 1
- ``dtype``, ``seed``, ``n_inputs``, ``layers``: the arguments of `Network` and of each `Dense`
- ``feature_names``: the names of the columns of X, where it has some
- ``extra``: whatever was given to `save`
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from backprop.base import checks as check
from backprop.base.atomic import path_name, write_atomically
from backprop.base.frames import Names, checked_names
from backprop.files import safetensors
from backprop.model.model import Model
from backprop.reference.dense import Dense, checked_layers
from backprop.reference.initializers import Given
from backprop.reference.layout import ArrayLayout, layout

FORMAT = "backprop.network"
VERSION = 1
# What the names of tensors begin with that belong to the training of a checkpoint, not to the network.
TRAINING = "training."
_KEY = "backprop"


class Parts(NamedTuple):
    """What a file says about a model."""

    n_inputs: int
    layers: tuple[Dense, ...]
    dtype: np.dtype[Any]
    seed: int
    feature_names: Names | None
    arrays: dict[str, NDArray[Any]]
    """by the names of the tensors, in the order of the flat parameter vector"""


def save(model: Model, path: str | os.PathLike[str], extra: Mapping[str, Any] | None = None) -> None:
    """Write a network to a safetensors file; `Network.save` documents it."""
    write(path, *contents(model, extra))


def write(path: str | os.PathLike[str], tensors: dict[str, NDArray[Any]], metadata: Mapping[str, Any]) -> None:
    """Write tensors and metadata, of which only `extra` may be what JSON cannot hold."""
    try:
        data = serialized(tensors, metadata)
    except TypeError as error:
        raise TypeError(f"extra: needs what JSON can hold ({error})") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"extra: needs what JSON can hold ({error})") from error
    write_atomically(path, data)


def contents(model: Model, extra: Mapping[str, Any] | None) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Return the tensors and the metadata of a model file; ValueError where a parameter is not finite."""
    _check_finite(model)
    tensors: dict[str, NDArray[Any]] = {_name(array): array.of(model.parameters) for array in model._layout}
    return tensors, {**architecture(model), "extra": checked_extra(extra)}


def checked_extra(extra: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return what else is to be saved; TypeError for what is no mapping."""
    if extra is not None and not isinstance(extra, Mapping):
        raise TypeError(f"extra: needs a mapping, got {check.shown(extra)}")
    return dict(extra or {})


def architecture(model: Model) -> dict[str, Any]:
    """Return what makes a network of this kind, as JSON can hold it.

    Initial values that were given as arrays are left out: the file has the present ones.
    """
    return {
        "format": FORMAT,
        "version": VERSION,
        "dtype": model.dtype.name,
        "seed": model.seed,
        "n_inputs": model.n_inputs,
        "layers": [
            {
                field.name: getattr(layer, field.name)
                for field in fields(layer)
                if not isinstance(getattr(layer, field.name), Given)
            }
            for layer in model.layers
        ],
        **columns(model.feature_names),
    }


def columns(names: Names | None) -> dict[str, Any]:
    """Return the entry of the names of columns: none for none, as in the files of older versions."""
    return {} if names is None else {"feature_names": list(names)}


def serialized(tensors: dict[str, NDArray[Any]], metadata: Mapping[str, Any]) -> bytes:
    """Return a safetensors file with the tensors, and the metadata as JSON; ValueError where it could not be read."""
    # One metadata entry, because the library keeps several in no fixed order: equal networks give equal files.
    text = json.dumps(metadata, allow_nan=False)
    safetensors.parsed(text.encode())  # what could not be read again, such as 1 and "1" as keys, is not written
    data = safetensors.written(tensors, {_KEY: text})
    safetensors.check_room(data[8 : 8 + int.from_bytes(data[:8], "little")])
    return data


def read(path: str | os.PathLike[str]) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Return the tensors and the metadata of a file that `serialized` made; ValueError for any other.

    Sizes are compared with the file before memory is taken for anything, which in all is at most twice the file and
    16 MiB. The tensors are views of one block.
    """
    name = path_name(path)
    try:
        tensors, text = safetensors.read(name, _KEY)
    except safetensors.ForeignError as error:
        raise ValueError(f"{name}: not a file that backprop wrote ({error})") from error
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}: not a safetensors file, or a damaged one: {error}") from error
    try:
        metadata = safetensors.parsed(text.encode())
    except ValueError as error:
        raise ValueError(f"{name}: its metadata are not JSON: {error}") from error
    if not isinstance(metadata, dict):
        raise ValueError(f"{name}: its metadata are not a JSON object")
    return tensors, metadata


def parts(metadata: dict[str, Any], tensors: dict[str, NDArray[Any]]) -> Parts:
    """Return what a file says about a model; the sizes are compared with the tensors."""
    dtype = head(metadata, FORMAT, VERSION)
    n_inputs = check.integer("n_inputs", metadata["n_inputs"], at_least=1)
    seed = check.integer("seed", metadata["seed"], at_least=0)
    layers = checked_layers([Dense(**settings) for settings in metadata["layers"]])

    expected = _shapes(n_inputs, layers)
    tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith(TRAINING)}
    if expected.keys() != tensors.keys():
        raise ValueError(f"tensors: needs {sorted(expected)}, got {sorted(tensors)}")
    for name, shape in expected.items():
        if tensors[name].shape != shape or tensors[name].dtype != dtype:
            got = f"{tensors[name].dtype} {tensors[name].shape}"
            raise ValueError(f"{name}: needs {dtype} {shape}, got {got}")
    names = checked_names("feature_names", metadata.get("feature_names"), n_inputs)
    return Parts(n_inputs, layers, dtype, seed, names, {name: tensors[name] for name in expected})


def head(metadata: Mapping[str, Any], kind: str, newest: int) -> np.dtype[Any]:
    """Return the dtype that a file says, which must be of this kind and not of a newer version."""
    if metadata.get("format") != kind:
        raise ValueError(f"format: needs {kind!r}, got {check.shown(metadata.get('format'))}")
    if check.integer("version", metadata["version"], at_least=1) > newest:
        raise ValueError(f"version: this backprop reads up to {newest}, got {metadata['version']}; update backprop")
    return check.real_dtype("dtype", check.choice("dtype", metadata["dtype"], ("float32", "float64")))


def fill(model: Model, found: Parts) -> None:
    """Give a model the numbers and names of a file; ValueError where a number is not finite."""
    model._feature_names = found.feature_names
    for array, values in zip(model._layout, found.arrays.values(), strict=True):
        array.of(model.parameters)[...] = values
    _check_finite(model)


def _check_finite(model: Model) -> None:
    """Raise ValueError if a parameter is NaN or infinite."""
    for array in model._layout:
        check.array(f"{array.name}[{array.layer}]", array.of(model.parameters), model.dtype)


def extra(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return what else was saved with the model."""
    found = metadata.get("extra", {})
    if not isinstance(found, dict):
        raise TypeError(f"extra: needs an object, got {check.shown(found)}")
    return found


def _shapes(n_inputs: int, layers: Sequence[Dense]) -> dict[str, tuple[int, ...]]:
    """Return name and shape of every tensor, in the order of the flat parameter vector."""
    return {_name(array): array.shape for array in layout(n_inputs, layers)}


def _name(array: ArrayLayout) -> str:
    """Return the name of an array's tensor."""
    return f"layers.{array.layer}.{array.name}"
