"""Model files: what `Network.save` and `Fleet.save` write is read here.

`backprop.files.models` and `backprop.files.fleets` say what is in them.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from backprop.base.atomic import path_name
from backprop.files import models
from backprop.files.models import save
from backprop.network import Network

if TYPE_CHECKING:
    from backprop.files.columns import Tensors
    from backprop.fleet import Fleet

__all__ = ["load", "load_with_extra", "save"]


def load(path: str | os.PathLike[str], *, backend: str | None = None) -> Any:
    """Read a network or a fleet from a file that its `save` or its `save_checkpoint` wrote.

    Parameters
    ----------
    path
        The file.
    backend
        See `Network`.

    Returns
    -------
    Network or Fleet
        What is in the file.

    Raises
    ------
    OSError
        If the file cannot be read.
    ValueError
        If it is not a whole and consistent model file of finite numbers; the message says what is wrong with it.

    Warns
    -----
    UserWarning
        If it is a `TableModel`, whose network alone is returned; `load_table_model` returns the whole.

    Notes
    -----
    A file cannot name code, and its sizes are compared with its length before memory is taken for them: reading takes
    at most twice the file and 16 MiB, whatever is in it; and some hundred bytes for each member of a fleet whose layers
    or optimizers have settings of their own.

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

    A thousand networks take one file:

    >>> fleet = bp.Fleet(2, [bp.Dense(3, "tanh"), bp.Dense(1)], size=1000, seed=0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "fleet.safetensors")
    ...     fleet.save(path)
    ...     len(bp.load(path))
    1000
    """
    found, extra = load_with_extra(path, backend=backend)
    if "preprocessing" in extra:
        import warnings

        warnings.warn(
            f"{path_name(path)}: a model for tables, of which load returns the network alone: it takes and gives "
            "encoded numbers; load_table_model returns the model",
            stacklevel=2,
        )
    return found


def load_with_extra(path: str | os.PathLike[str], *, backend: str | None = None) -> tuple[Any, dict[str, Any]]:
    """Read a network or a fleet and the extra data saved with it; see `load`.

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
        if metadata.get("format") == models.FORMAT:
            found: Any = network_of(metadata, tensors, backend)
        else:
            found = _any_of(metadata, tensors, backend)
        extra = models.extra(metadata)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path_name(path)}: not a valid model file: {error}") from error
    return found, extra


def network_of(metadata: dict[str, Any], tensors: dict[str, NDArray[Any]], backend: str | None) -> Network:
    """Return the network that a file describes; nothing is allocated before the sizes agree with the tensors."""
    parts = models.parts(metadata, tensors)
    network = Network._assembled(parts.n_inputs, parts.layers, parts.dtype, parts.seed, backend)
    models.fill(network, parts)
    return network


def _any_of(metadata: dict[str, Any], tensors: dict[str, NDArray[Any]], backend: str | None) -> Any:
    """Return what a file describes that does not say that it is a network."""
    from backprop.files import fleets
    from backprop.files.columns import Tensors

    if metadata.get("format") != fleets.FORMAT:
        return network_of(metadata, tensors, backend)
    left = Tensors(tensors)
    found = fleet_of(metadata, left, backend)
    left.check_all_taken(but=models.TRAINING)
    return found


def fleet_of(metadata: dict[str, Any], tensors: Tensors, backend: str | None) -> Fleet:
    """Return the fleet that a file describes, in the same way."""
    from backprop.files import fleets
    from backprop.fleet import Fleet

    return Fleet._assembled(*fleets.groups_of(metadata, tensors), backend)
