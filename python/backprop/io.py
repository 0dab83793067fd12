"""Model files: safetensors, with the architecture as JSON in the metadata.

Nothing in such a file can name code, and every number in it is finite. It holds the tensors ``layers.0.weights``
(n_in, n_out), ``layers.0.biases`` (n_out,), ``layers.1.weights`` ... and one metadata entry, ``backprop``: a JSON
object with

- ``format``: ``"backprop.network"``; ``version``: 1
- ``dtype``, ``seed``, ``n_inputs``, ``layers``: the arguments of `Network` and of each `Dense`
- ``extra``: whatever was given to `save`
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from backprop.base import checks as check
from backprop.base.atomic import path_name, write_atomically
from backprop.base.types import RealArray
from backprop.files import safetensors
from backprop.reference.dense import Dense, checked_layers
from backprop.reference.initializers import Given
from backprop.reference.layout import layout

if TYPE_CHECKING:
    from backprop.network import Network

FORMAT = "backprop.network"
VERSION = 1
# What the names of tensors begin with that belong to the training of a checkpoint, not to the network.
TRAINING = "training."
_KEY = "backprop"


def save(network: Network, path: str | os.PathLike[str], extra: Mapping[str, Any] | None = None) -> None:
    """Write a network to a safetensors file; `Network.save` documents it."""
    tensors, metadata = contents(network, extra)
    try:
        data = serialized(tensors, metadata)
    except TypeError as error:
        raise TypeError(f"extra: needs what JSON can hold ({error})") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"extra: needs what JSON can hold ({error})") from error
    write_atomically(path, data)


def contents(network: Network, extra: Mapping[str, Any] | None) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Return the tensors and the metadata of a model file; ValueError where a parameter is not finite."""
    if extra is not None and not isinstance(extra, Mapping):
        raise TypeError(f"extra: needs a mapping, got {check.shown(extra)}")
    _check_finite(network)
    tensors = dict(zip(_shapes(network.n_inputs, network.layers), _arrays(network), strict=True))
    return tensors, {**architecture(network), "extra": dict(extra or {})}


def load(path: str | os.PathLike[str], *, backend: str | None = None) -> Network:
    """Read a network from a file that `Network.save` or `Network.save_checkpoint` wrote.

    Parameters
    ----------
    path
        The file.
    backend
        See `Network`.

    Raises
    ------
    OSError
        If the file cannot be read.
    ValueError
        If it is not a whole and consistent model file of finite numbers; the message says what is wrong with it.

    Notes
    -----
    A file cannot name code, and its sizes are compared with its length before memory is taken for them: reading takes
    at most twice the file and 16 MiB, whatever is in it.

    Examples
    --------
    >>> import os, tempfile
    >>> import backprop as bp
    >>> net = bp.mlp([2, 3, 1], seed=0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "model.safetensors")
    ...     net.save(path)
    ...     again = bp.load(path)
    >>> bool((again.parameters == net.parameters).all())
    True
    """
    return load_with_extra(path, backend=backend)[0]


def load_with_extra(path: str | os.PathLike[str], *, backend: str | None = None) -> tuple[Network, dict[str, Any]]:
    """Read a network and the extra data saved with it; see `load`.

    Examples
    --------
    >>> import os, tempfile
    >>> import backprop as bp
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "model.safetensors")
    ...     bp.mlp([2, 1], seed=0).save(path, extra={"columns": ["age", "size"]})
    ...     net, extra = load_with_extra(path)
    >>> extra
    {'columns': ['age', 'size']}
    """
    tensors, metadata = read(path)
    try:
        network = network_of(metadata, tensors, backend)
        extra = metadata.get("extra", {})
        if not isinstance(extra, dict):
            raise TypeError(f"extra: needs an object, got {check.shown(extra)}")
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{os.fspath(path)}: not a valid model file: {error}") from error
    return network, extra


def architecture(network: Network) -> dict[str, Any]:
    """Return what makes a network of this kind, as JSON can hold it.

    Initial values that were given as arrays are left out: the file has the present ones.
    """
    return {
        "format": FORMAT,
        "version": VERSION,
        "dtype": network.dtype.name,
        "seed": network.seed,
        "n_inputs": network.n_inputs,
        "layers": [
            {
                field.name: getattr(layer, field.name)
                for field in fields(layer)
                if not isinstance(getattr(layer, field.name), Given)
            }
            for layer in network.layers
        ],
    }


def serialized(tensors: dict[str, NDArray[Any]], metadata: Mapping[str, Any]) -> bytes:
    """Return a safetensors file that holds the tensors and the metadata as JSON; ValueError where it is too much."""
    from safetensors.numpy import save as safetensors_bytes

    # One metadata entry, because safetensors keeps several in no fixed order: equal networks give equal files.
    data: bytes = safetensors_bytes(tensors, metadata={_KEY: json.dumps(metadata, allow_nan=False)})
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


def network_of(metadata: dict[str, Any], tensors: dict[str, NDArray[Any]], backend: str | None) -> Network:
    """Return the network that a file describes.

    The sizes are compared with the tensors before anything is allocated for them.
    """
    from backprop.network import Network

    if metadata.get("format") != FORMAT:
        raise ValueError(f"format: needs {FORMAT!r}, got {check.shown(metadata.get('format'))}")
    if check.integer("version", metadata["version"], at_least=1) > VERSION:
        raise ValueError(f"version: this backprop reads up to {VERSION}, got {metadata['version']}; update backprop")
    dtype = check.real_dtype("dtype", check.choice("dtype", metadata["dtype"], ("float32", "float64")))
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
    network = Network._assembled(n_inputs, layers, dtype, seed, backend)
    for array, name in zip(_arrays(network), expected, strict=True):
        array[...] = tensors[name]
    _check_finite(network)
    return network


def _arrays(network: Network) -> list[RealArray]:
    """Return weights and biases of every layer, views, in the order of the flat parameter vector."""
    return [array for pair in zip(network.weights, network.biases, strict=True) for array in pair if array is not None]


def _check_finite(network: Network) -> None:
    """Raise ValueError if a parameter is NaN or infinite."""
    for name, views in (("weights", network.weights), ("biases", network.biases)):
        for k, array in enumerate(views):
            if array is not None:
                check.array(f"{name}[{k}]", array, network.dtype)


def _shapes(n_inputs: int, layers: Sequence[Dense]) -> dict[str, tuple[int, ...]]:
    """Return name and shape of every tensor, in the order of the flat parameter vector."""
    return {f"layers.{array.layer}.{array.name}": array.shape for array in layout(n_inputs, layers)}
