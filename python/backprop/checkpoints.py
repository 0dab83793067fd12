"""Checkpoints: what `Network.save_checkpoint` and `Fleet.save_checkpoint` write is read here.

`backprop.files.checkpoints` and `backprop.files.fleet_checkpoints` say what is in them.
"""

from __future__ import annotations

import os
from typing import Any

from backprop.base.atomic import path_name
from backprop.files import checkpoints, fleet_checkpoints, fleets, models
from backprop.files.columns import Tensors
from backprop.io import fleet_of, network_of

__all__ = ["resume"]


def resume(path: str | os.PathLike[str], *, backend: str | None = None) -> Any:
    """Read a network or a fleet and its training from a file that `save_checkpoint` or `callbacks.Checkpoint` wrote.

    ``fit(..., resume=True)`` with the same data and arguments then goes on where the training was, bit for bit as if it
    had never stopped, and so does ``minimize(..., resume=True)``; a plain ``fit`` begins a new run with the optimizer's
    memory that it finds.

    Parameters
    ----------
    path
        The file.
    backend
        See `Network`. Any number of threads, AVX2 and AVX-512 go on with the same bits.

    Returns
    -------
    Network or Fleet
        What is in the file.

    Raises
    ------
    OSError
        If the file cannot be read.
    ValueError
        If it is not a whole and consistent checkpoint; the message says what is wrong with it.

    Examples
    --------
    >>> import os, tempfile
    >>> import backprop as bp
    >>> X, y = [[0.0], [1.0], [2.0]], [1.0, 3.0, 5.0]
    >>> whole = bp.mlp([1, 1], seed=0)
    >>> history = whole.fit(X, y, epochs=10, batch_size=2)
    >>> net = bp.mlp([1, 1], seed=0)
    >>> history = net.fit(X, y, epochs=4, batch_size=2)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "run.safetensors")
    ...     net.save_checkpoint(path)
    ...     net = bp.resume(path)
    >>> history = net.fit(X, y, epochs=10, batch_size=2, resume=True)
    >>> history.epochs, bool((net.parameters == whole.parameters).all())
    (10, True)
    """
    tensors, metadata = models.read(path)
    try:
        if "sha256" not in metadata:
            raise ValueError("it holds no training, only a model; backprop.load reads that")
        if metadata["sha256"] != checkpoints.digest(tensors, metadata):
            raise ValueError("sha256: not that of the contents, which are damaged or were changed")
        if metadata.get("format") == fleets.FORMAT:
            return _fleet(metadata, Tensors(tensors), backend)
        network = network_of(metadata, tensors, backend)
        if checkpoints.KEY in metadata:
            checkpoints.restore(network, metadata[checkpoints.KEY], tensors)
        if checkpoints.SOLVING_KEY in metadata:
            checkpoints.restore_solving(network, metadata[checkpoints.SOLVING_KEY], tensors)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path_name(path)}: not a valid checkpoint: {error}") from error
    return network


def _fleet(metadata: dict[str, Any], tensors: Tensors, backend: str | None) -> Any:
    """Return a fleet in the middle of its training."""
    fleet = fleet_of(metadata, tensors, backend)
    fleet_checkpoints.restore(fleet, metadata[checkpoints.KEY], tensors)
    tensors.check_all_taken()
    return fleet
