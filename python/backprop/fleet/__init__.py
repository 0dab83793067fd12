"""Fleets: many networks trained in one call; the methods are as in `backprop.network`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from backprop.base.keywords import explained
from backprop.fleet.trainable import TrainableFleet
from backprop.network import Network

if TYPE_CHECKING:
    import os

    from backprop.backends.custom import LossLike
    from backprop.base.types import RealArray
    from backprop.model.views import LayerArrays


class Fleet(TrainableFleet):
    """Many networks side by side: one for each sensor, customer, fold, candidate or member of an ensemble.

    Each is trained as if it were alone, bit for bit; together they are faster, side by side in the lanes of vectors.

    Parameters
    ----------
    n_inputs, layers, dtype, backend
        As for `Network`.
    size
        The number of members; may be left out where `seed` is a sequence.
    seed
        Member k begins as ``Network(n_inputs, layers, seed=seed + k)``, or with the k-th seed of a sequence. None takes
        a fresh one from the operating system; `seeds` tells which.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong type or out of range; the message says which.

    Notes
    -----
    ``fleet[k]`` is a `Network` that shares the member's parameters; its training state and history are copies. Slices
    are fleets that share the parameters too; lists, integer arrays and boolean masks give fleets with copies. While a
    member is trained by itself, neither the fleet nor other members can be trained.

    Examples
    --------
    Four sensors, each with 20 rows of its own:

    >>> import numpy as np
    >>> import backprop as bp
    >>> rng = np.random.default_rng(0)
    >>> X = rng.uniform(-1, 1, (4, 20, 1))
    >>> y = np.arange(4).reshape(4, 1) * X[:, :, 0]
    >>> fleet = bp.Fleet(1, [bp.Dense(1)], size=4, seed=0)
    >>> fleet
    Fleet(1, [Dense(1, 'identity')], size=4, dtype='float32')
    >>> history = fleet.fit(X, y, optimizer=bp.Adam(learning_rate=0.1), epochs=200)
    >>> fleet.predict([[1.0]])[:, 0, 0].round(2)
    array([0., 1., 2., 3.], dtype=float32)
    >>> fleet[3]
    Network(1, [Dense(1, 'identity')], dtype='float32', seed=3)
    """

    __slots__ = ()
    _member_class = Network

    @classmethod
    def of(cls, networks: Iterable[Network]) -> Self:
        """Return a fleet of copies of networks, trained or not; they need the same dtype and backend.

        Members of several shapes are grouped by shape. Training goes on, bit for bit, as each network's would.

        Raises
        ------
        TypeError, ValueError
            If it is not a sequence of networks, they differ in dtype or backend, or one has stopped in the middle of an
            epoch whose order of rows cannot be found again.

        Examples
        --------
        >>> import backprop as bp
        >>> fleet = bp.Fleet.of([bp.mlp([3, 4, 1], seed=0), bp.mlp([3, 8, 1], seed=1), bp.mlp([3, 4, 1], seed=2)])
        >>> fleet
        Fleet of 3 networks of 2 shapes, dtype='float32'
        >>> fleet.predict([[1.0, 0.0, 0.0]]).shape
        (3, 1, 1)
        """
        from backprop.model.fleet_parts import of_networks

        return of_networks(cls, networks)

    def append(self, other: Network | Fleet) -> None:
        """Add a copy of a network, or of a fleet's members, at the end; the parameters of all members are copied.

        Views of them, such as members taken out before, belong to the fleet no more.

        Examples
        --------
        >>> import backprop as bp
        >>> fleet = bp.Fleet(2, [bp.Dense(1)], size=3, seed=0)
        >>> fleet.append(bp.Network(2, [bp.Dense(1)], seed=7))
        >>> len(fleet), fleet.seeds
        (4, (0, 1, 2, 7))
        """
        from backprop.model.fleet_parts import append

        append(self, other)

    # --- members ---------------------------------------------------------------------------------------------------

    def __getitem__(self, index: Any) -> Any:
        """Return member k as a network, or the members of a slice, a list of integers or a mask as a fleet."""
        if isinstance(index, (int, np.integer)) and not isinstance(index, bool):
            if not -len(self) <= index < len(self):
                raise IndexError(f"index: needs a number from {-len(self)} to {len(self) - 1}, got {index}")
            return self._trained_member(int(index) % len(self))
        from backprop.model.fleet_parts import part_of

        return part_of(self, index)

    def best(self, monitor: str = "loss", mode: Literal["auto", "min", "max"] = "auto") -> Network:
        """Return the member whose last epoch recorded the best number of all members, as ``fleet[k]`` does.

        Parameters
        ----------
        monitor, mode
            As for `backprop.callbacks.Plateau`: a name in `history`, and whether less or more is better.

        Raises
        ------
        ValueError
            If nothing of that name was recorded, or no member has a number there.

        Examples
        --------
        >>> import backprop as bp
        >>> fleet = bp.Fleet(1, [bp.Dense(1)], size=3, seed=0)
        >>> history = fleet.fit([[1.0]], [1.0], learning_rate=[0.1, 0.001, 0.0001], epochs=50)
        >>> fleet.best().seed
        0
        """
        from backprop.learn.fleet_measures import best

        network: Network = self[best(self.history, monitor, mode)]
        return network

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """Say that what a fleet lacks is to be had of its members."""
            of_members = "; its members have: fleet[k]." + name if hasattr(Network, name) else ""
            raise AttributeError(f"'Fleet' object has no attribute {name!r}{of_members}", name=name, obj=self)

    # --- what it computes ------------------------------------------------------------------------------------------

    @explained
    def evaluate(
        self, X: Any, y: Any, *, loss: LossLike = "auto", metrics: Any = (), sample_weight: Any = None
    ) -> dict[str, NDArray[np.float64]]:
        """Return for each member the loss over all its rows, penalties included, and metrics, (size,) each.

        Parameters as in `fit`.

        Examples
        --------
        >>> import backprop as bp
        >>> fleet = bp.Fleet(1, [bp.Dense(1, weight_init=1.0)], size=2)
        >>> fleet.evaluate([[1.0], [2.0]], [1.0, 4.0], metrics="mean_absolute_error")
        {'loss': array([2., 2.]), 'mean_absolute_error': array([1., 1.])}
        """
        from backprop.learn.fleet_measures import evaluate

        return evaluate(self, X, y, loss, metrics, sample_weight)

    def loss(self, X: Any, y: Any, loss: LossLike = "auto", sample_weight: Any = None) -> NDArray[np.float64]:
        """Return for each member the loss over all its rows, penalties included, (size,); parameters as in `fit`.

        Examples
        --------
        >>> import backprop as bp
        >>> bp.Fleet(1, [bp.Dense(1, weight_init=1.0)], size=2).loss([[1.0], [2.0]], [1.0, 4.0])
        array([2., 2.])
        """
        from backprop.learn.fleet_measures import losses

        return losses(self, X, y, loss, sample_weight)

    def loss_and_gradients(
        self, X: Any, y: Any, loss: LossLike = "auto", sample_weight: Any = None
    ) -> tuple[NDArray[np.float64], list[LayerArrays]]:
        """Return for each member the loss over all its rows, penalties included, and the gradients.

        Parameters as in `fit`.

        Returns
        -------
        losses : ndarray
            (size,)
        gradients : list of (dW, db)
            As `Network.loss_and_gradients` returns them, with an axis for the members in front of each array.

        Raises
        ------
        TypeError, ValueError
            If an argument is wrong, or the members have several shapes.

        Examples
        --------
        >>> import backprop as bp
        >>> fleet = bp.Fleet(1, [bp.Dense(1, weight_init=1.0)], size=2)
        >>> losses, gradients = fleet.loss_and_gradients([[1.0], [2.0]], [1.0, 4.0])
        >>> gradients[0][0].shape, gradients[0][1].shape
        ((2, 1, 1), (2, 1))
        """
        from backprop.learn.fleet_measures import losses
        from backprop.model.views import layer_arrays

        gradients: RealArray = np.zeros_like(self.parameters)
        layers = self._groups[0].arrays_of_layers
        return losses(self, X, y, loss, sample_weight, gradients), layer_arrays(layers, gradients)

    # --- files -----------------------------------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str], extra: Mapping[str, Any] | None = None) -> None:
        """Write all members to one safetensors file; `backprop.load` reads it.

        As `Network.save`: parameters, layers and seeds, in a file that is replaced in one piece. Arrays of members of
        one shape lie together, as ``groups.0.layers.0.weights`` (size, n_in, n_out) and so on.

        Parameters
        ----------
        path
            The file.
        extra
            Anything else to keep, as JSON can hold it (some 30,000 values at most); see
            `backprop.io.load_with_extra`.

        Raises
        ------
        OSError
            If the file cannot be written.
        TypeError, ValueError
            If an argument is wrong, `path` is a device or a pipe, or a parameter is not finite.

        Examples
        --------
        >>> import os, tempfile
        >>> import backprop as bp
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = os.path.join(folder, "fleet.safetensors")
        ...     bp.Fleet(2, [bp.Dense(1)], size=100, seed=0).save(path)
        ...     bp.load(path)
        Fleet(2, [Dense(1, 'identity')], size=100, dtype='float32')
        """
        from backprop.files.fleets import save

        save(self, path, extra)

    def save_checkpoint(self, path: str | os.PathLike[str]) -> None:
        """Write all members and their training to one file; `backprop.resume` reads it.

        As `Network.save_checkpoint`: ``fit(..., resume=True)`` and ``minimize(..., resume=True)`` with the same data
        and arguments go on with every member, bit for bit as if it had not stopped.

        Parameters
        ----------
        path
            The file.

        Raises
        ------
        OSError
            If the file cannot be written; the old one is then still there.
        TypeError, ValueError
            If `path` is wrong, a parameter is not finite, or the states of callbacks are not numbers, texts or arrays.

        Examples
        --------
        >>> import os, tempfile
        >>> import backprop as bp
        >>> fleet = bp.Fleet(1, [bp.Dense(1)], size=100, seed=0)
        >>> history = fleet.fit([[0.0], [1.0]], [1.0, 3.0], epochs=5)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = os.path.join(folder, "run.safetensors")
        ...     fleet.save_checkpoint(path)
        ...     bp.resume(path).history["loss"].shape
        (5, 100)
        """
        from backprop.files.fleet_checkpoints import save

        save(self, path)

    # --- text ------------------------------------------------------------------------------------------------------

    def __repr__(self) -> str:
        if len(self._groups) > 1:
            return f"Fleet of {len(self)} networks of {len(self._groups)} shapes, dtype={self._dtype.name!r}"
        group = self._groups[0]
        return f"Fleet({group.n_inputs}, {list(group.layers[0])}, size={len(self)}, dtype={self._dtype.name!r})"
