"""How a fleet is trained."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from numpy.typing import ArrayLike

from backprop.base import checks as check
from backprop.base.fleet_history import FleetHistory
from backprop.base.keywords import explained
from backprop.model.fleet import FleetModel

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from backprop.backends.custom import LossLike
    from backprop.learn.callbacks import Callback
    from backprop.learn.metrics import Metric
    from backprop.learn.schedules import Schedule
    from backprop.learn.solution import Solution
    from backprop.reference.optimizers import Optimizer
    from backprop.reference.solvers import Solver


class TrainableFleet(FleetModel):
    """Networks that learn from rows, side by side."""

    __slots__ = ()

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
        from backprop.model.fleet_parts import numbers_of

        members = None if members is None else numbers_of("members", len(self), members)
        reason, run = check.text("reason", reason), self._run
        if run is not None:
            run.stop(members, reason)
        return run is not None
