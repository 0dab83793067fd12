"""Checkpoints: what `Network.save_checkpoint` writes is read here; see `backprop.files.checkpoints`."""

from __future__ import annotations

import os

from backprop.files import checkpoints, models
from backprop.io import network_of
from backprop.network import Network

__all__ = ["resume"]


def resume(path: str | os.PathLike[str], *, backend: str | None = None) -> Network:
    """Read a network and its training from a file that `Network.save_checkpoint` or `callbacks.Checkpoint` wrote.

    ``fit(..., resume=True)`` with the same data and arguments then goes on where the training was, bit for bit as if it
    had never stopped; a plain ``fit`` begins a new run with the optimizer's memory that it finds.

    Parameters
    ----------
    path
        The file.
    backend
        See `Network`. Any number of threads, AVX2 and AVX-512 go on with the same bits.

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
    name = os.fspath(path)
    try:
        if metadata.get("sha256") != checkpoints.digest(tensors, metadata):
            raise ValueError("sha256: not that of the contents, which are damaged or were changed")
        network = network_of(metadata, tensors, backend)
        if checkpoints.KEY in metadata:
            checkpoints.restore(network, metadata[checkpoints.KEY], tensors)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{name!s}: not a valid checkpoint: {error}") from error
    return network
