"""Fleets: many networks trained in one call."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from backprop.base import checks as check
from backprop.base.fleet_history import FleetHistory
from backprop.base.keywords import explained
from backprop.model.fleet import FleetModel
from backprop.network import Network

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from backprop.backends.custom import LossLike
    from backprop.base.types import RealArray
    from backprop.learn.callbacks import Callback
    from backprop.learn.metrics import Metric
    from backprop.learn.schedules import Schedule
    from backprop.learn.solution import Solution
    from backprop.model.model import LayerArrays
    from backprop.reference.optimizers import Optimizer
    from backprop.reference.solvers import Solver

# What predicting does not need is imported where it is used.


class Fleet(FleetModel):
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
        from backprop.model.fleet_joining import of_networks

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
        from backprop.model.fleet_joining import append

        append(self, other)

    # --- members ---------------------------------------------------------------------------------------------------

    def __getitem__(self, index: Any) -> Any:
        """Return member k as a network, or the members of a slice, a list of integers or a mask as a fleet."""
        if isinstance(index, (int, np.integer)) and not isinstance(index, bool):
            if not -len(self) <= index < len(self):
                raise IndexError(f"index: needs a number from {-len(self)} to {len(self) - 1}, got {index}")
            return self._trained_member(int(index) % len(self))
        return self._part(index)

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

    def predict(self, X: Any) -> Any:
        """Return the outputs of every member.

        Parameters
        ----------
        X
            Real numbers: (n, n_inputs) for all members, (size, n, n_inputs) with rows for each, or a list of arrays
            (n_k, n_inputs).

        Returns
        -------
        ndarray or list of ndarray
            (size, n, n_outputs), of the fleet's dtype; for a list, an array (n_k, n_outputs) for each member.

        Raises
        ------
        TypeError, ValueError
            If X is none of this, or the members' numbers of outputs differ and X is no list.
        RuntimeError
            If another thread trains the fleet at the same time.

        Examples
        --------
        >>> import backprop as bp
        >>> bp.Fleet(2, [bp.Dense(1, weight_init=1.0)], size=2).predict([[1.0, 2.0]])
        array([[[3.]],
        <BLANKLINE>
               [[3.]]], dtype=float32)
        """
        return FleetModel.predict(self, X)

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
        losses: NDArray[np.float64] = self._losses(X, y, loss, sample_weight, None)
        return losses

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
        gradients: list[RealArray] = [np.zeros_like(self.parameters)]
        losses = self._losses(X, y, loss, sample_weight, gradients)
        return losses, self._views(gradients[0])

    # --- training --------------------------------------------------------------------------------------------------

    @explained
    def fit(
        self,
        X: Any,
        y: Any,
        *,
        loss: LossLike = "auto",
        optimizer: str | Optimizer | Sequence[Optimizer] = "adam",
        learning_rate: float | ArrayLike | None = None,
        l1: float | ArrayLike | None = None,
        l2: float | ArrayLike | None = None,
        dropout: float | ArrayLike | None = None,
        schedule: Schedule | Callable[[int], float] | None = None,
        epochs: int = 100,
        batch_size: int | None = 32,
        shuffle: bool = True,
        sample_weight: Any = None,
        class_weight: Mapping[int, float] | Literal["balanced"] | None = None,
        validation_data: Any = None,
        validation_split: float = 0.0,
        metrics: str | Metric | Iterable[str | Metric] | Mapping[str, Metric] = (),
        callbacks: Iterable[Callback] = (),
        log: Callable[[int, int, dict[str, float]], Any] | None = None,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        tolerance: float | None = None,
        patience: int = 10,
        on_divergence: Literal["raise", "stop"] = "raise",
        initial_epoch: int | None = None,
        resume: bool = False,
        n_threads: int | Literal["auto"] = "auto",
        progress: bool | Literal["auto"] = "auto",
        executor: Executor | None = None,
    ) -> FleetHistory:
        """Train every member as `Network.fit` does; a second call continues where the first one ended.

        What is not described here is as there, for each member.

        Parameters
        ----------
        X
            Real numbers: (n, n_inputs), the same rows for all members; (size, n, n_inputs), as many for each; or a list
            of arrays (n_k, n_inputs), any number for each. Tables and tensors are taken as by `Network.fit`; members of
            one shape have the same `feature_names`.
        y
            Targets in the same form: those of `Network.fit`, with one more axis in front for (size, n, n_inputs), or a
            list of them. Targets for shared rows may be each member's own: (size, n, n_outputs), or (size, n) where
            (n,) will do for a network.
        optimizer
            One for all members, or a sequence with one for each, all of one class.
        learning_rate
            In place of the optimizer's: a number, or one for each member, (size,).
        l1, l2, dropout
            In place of the layers' own, in this call: a number, or one for each member, (size,). They hold for every
            layer, dropout for all but the last.
        sample_weight
            In the form of X: (n,), (size, n), or a list of arrays (n_k,). For shared rows it may be (size, n).
        validation_data
            ``(X, y)`` or ``(X, y, sample_weight)`` in any of these forms.
        validation_split
            The share of each member's rows that is taken for validation.
        callbacks
            Each member has its own copies, which get it as a network; ``network.stop()`` ends that member alone.
            `Checkpoint` and `CSVLogger` need a path with the field ``{member}``. Where `EarlyStopping` or
            `ReduceLROnPlateau` watch a loss, their rule runs in the core, as averages do. After `fit`, `best`,
            `best_epoch`, `n_averaged` and `swapped` of the object that was given are arrays (size,).
        log
            A function that is called after each epoch of each member with its number, the number of its steps and a
            dict of what was recorded.
        on_divergence
            ``"raise"`` FleetDivergedError after all other members are done, or ``"stop"``, and return. A member that
            diverges ends alone, with its last finite parameters.
        executor
            Who trains: None for this process, or any `concurrent.futures.Executor`, such as ``ProcessPoolExecutor()``,
            ``loky.get_reusable_executor()``, ``client.get_executor()`` of Dask or ``mpi4py.futures.MPIPoolExecutor()``.
            The members are cut into pieces, some for each worker, which train with one thread unless `n_threads` says
            more; the result is the same, bit for bit. What is given to `fit`, callbacks included, has to be what the
            executor can pickle, and callbacks do their work in the workers; of what they keep, these arrays
            come back. A piece whose worker dies is trained again: Dask sends it to another one; executors that break,
            as those of processes do, leave the rest to this process, with a warning. Ctrl-C and `stop` end it with the
            members that have come back; the others are where they began, and ``resume=True`` goes on with them.

        Returns
        -------
        FleetHistory
            `history`, the record of all epochs over all calls of `fit`.

        Raises
        ------
        TypeError, ValueError
            If an argument is wrong; the fleet is then as it was.
        FleetDivergedError
            If members have diverged.
        KeyboardInterrupt
            On Ctrl-C. Every member is then as its last whole step left it and `history` has every whole epoch.
        RuntimeError
            If another call of `fit` trains the fleet, or a member of it, at the same time.

        Examples
        --------
        >>> import backprop as bp
        >>> fleet = bp.Fleet(1, [bp.Dense(1)], size=3, seed=0)
        >>> X, y = [[0.0], [1.0], [2.0]], [1.0, 3.0, 5.0]
        >>> stopping = bp.callbacks.EarlyStopping("loss", patience=3, min_delta=1e-6)
        >>> history = fleet.fit(X, y, learning_rate=[0.3, 0.1, 0.01], epochs=500, callbacks=[stopping])
        >>> history["loss"].shape[1], stopping.best.shape
        (3, (3,))
        """
        arguments: dict[str, Any] = {
            "loss": loss, "optimizer": optimizer, "learning_rate": learning_rate, "l1": l1, "l2": l2,
            "dropout": dropout, "schedule": schedule, "epochs": epochs, "batch_size": batch_size, "shuffle": shuffle,
            "sample_weight": sample_weight, "class_weight": class_weight, "validation_data": validation_data,
            "validation_split": validation_split, "metrics": metrics, "callbacks": callbacks, "log": log,
            "clip_norm": clip_norm, "clip_value": clip_value, "tolerance": tolerance, "patience": patience,
            "on_divergence": on_divergence, "initial_epoch": initial_epoch, "resume": resume, "n_threads": n_threads,
            "progress": progress,
        }  # fmt: skip
        if executor is not None:
            from backprop.learn.fleet_executor import fit as fit_in_pieces

            return fit_in_pieces(self, X, y, executor, arguments)
        from backprop.learn.fleet_fit import fit

        return fit(self, X, y, **arguments)

    @explained
    def minimize(
        self,
        X: Any,
        y: Any,
        *,
        method: Literal["lbfgs", "lm", "bayesian"] | Solver = "lbfgs",
        loss: LossLike = "auto",
        sample_weight: Any = None,
        validation_data: Any = None,
        validation_split: float = 0.0,
        metrics: str | Metric | Iterable[str | Metric] | Mapping[str, Metric] = (),
        max_iter: int = 200,
        tolerance: float | Literal["auto"] = "auto",
        penalty_per_row: bool = False,
        callbacks: Iterable[Callback] = (),
        log: Callable[[int, int, dict[str, float]], Any] | None = None,
        resume: bool = False,
        n_threads: int | Literal["auto"] = "auto",
        progress: bool | Literal["auto"] = False,
        options: Mapping[str, Any] | None = None,
    ) -> list[Solution]:
        """Train every member as `Network.minimize` does, bit for bit, as many at a time as there are threads.

        Rows, weights, validation, callbacks and log are given as to `fit`, all else as to `Network.minimize`. Callbacks
        come from several threads, one at a time. What one of them raises, and Ctrl-C, end all.

        Returns
        -------
        list of backprop.solvers.Solution
            One for each member. One that fails ends alone: where its loss at the start is not finite, its `reason` is
            ``"not finite"``, and its parameters stay.

        Examples
        --------
        >>> import backprop as bp
        >>> fleet = bp.Fleet(1, [bp.Dense(1)], size=3, seed=0, dtype="float64")
        >>> results = fleet.minimize([[0.0], [1.0]], [[1.0, 3.0], [2.0, 1.0], [0.0, 5.0]], method="lm")
        >>> fleet.weights[0].ravel().round(3), results[0].success
        (array([ 2., -1.,  5.]), True)
        """
        from backprop.learn.fleet_minimize import minimize

        return minimize(
            self, X, y, method=method, loss=loss, sample_weight=sample_weight, validation_data=validation_data,
            validation_split=validation_split, metrics=metrics, max_iter=max_iter, tolerance=tolerance,
            penalty_per_row=penalty_per_row, callbacks=callbacks, log=log, resume=resume, n_threads=n_threads,
            progress=progress, options=options,
        )  # fmt: skip

    def stop(self, members: Any = None, reason: str = "stopped") -> bool:
        """Let the `fit` that trains some members, or all for None, end soon; for callbacks and other threads.

        Parameters
        ----------
        members
            What NumPy takes as an index: a number, a slice, an array.
        reason
            What their ``history.stop_reason`` shall be.

        Returns
        -------
        bool
            Whether anything was there to stop.

        Raises
        ------
        IndexError, TypeError, ValueError
            If `members` is no such index; if `reason` is no text, or empty.

        Examples
        --------
        >>> import backprop as bp
        >>> fleet = bp.Fleet(1, [bp.Dense(1)], size=3, seed=0)
        >>> enough = bp.callbacks.LambdaCallback(on_epoch_end=lambda *_: fleet.stop([0, 2]), every=5)
        >>> fleet.fit([[1.0]], [1.0], epochs=8, callbacks=[enough]).epochs
        array([5, 8, 5])
        """
        members = None if members is None else self._places("members", members)
        reason, run = check.text("reason", reason), self._run
        if run is not None:
            run.stop(members, reason)
        return run is not None

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
