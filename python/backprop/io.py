"""Model files: what `Network.save` writes is read here; `backprop.files.models` says what is in them."""

from __future__ import annotations

import os
from typing import Any

from numpy.typing import NDArray

from backprop.files import models
from backprop.files.models import save
from backprop.network import Network

__all__ = ["load", "load_with_extra", "save"]


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
    tensors, metadata = models.read(path)
    try:
        network = network_of(metadata, tensors, backend)
        extra = models.extra(metadata)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{os.fspath(path)}: not a valid model file: {error}") from error
    return network, extra


def network_of(metadata: dict[str, Any], tensors: dict[str, NDArray[Any]], backend: str | None) -> Network:
    """Return the network that a file describes; nothing is allocated before the sizes agree with the tensors."""
    parts = models.parts(metadata, tensors)
    network = Network._assembled(parts.n_inputs, parts.layers, parts.dtype, parts.seed, backend)
    models.fill(network, parts)
    return network
