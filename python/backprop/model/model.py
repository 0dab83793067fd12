"""Models: layers over one flat parameter vector, and what can be computed with them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from copy import deepcopy
from typing import TYPE_CHECKING, Any, Literal, Self, overload

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from backprop.backends import choice
from backprop.base import checks as check
from backprop.base.frames import Names, checked_names
from backprop.base.guard import Guard
from backprop.base.history import History
from backprop.base.keywords import explained
from backprop.base.pickles import attributes
from backprop.base.state import TrainingState
from backprop.base.types import Data, RealArray, new_block
from backprop.model import rows
from backprop.model.run import Run
from backprop.model.views import LayerArrays, Views, arrays_of, layer_arrays
from backprop.reference.dense import Dense, checked_layers
from backprop.reference.layout import by_layer, drawn, end, layout

if TYPE_CHECKING:
    from backprop.backends.custom import Custom, LossLike
    from backprop.base.solving import SolverRun
    from backprop.model.objective import Objective
    from backprop.reference.losses import Loss
    from backprop.reference.optimizers import Optimizer


class Model:
    """What a network is without its training: `backprop.Network` documents the arguments."""

    @explained
    def __init__(
        self,
        n_inputs: int,
        layers: Sequence[Dense],
        *,
        dtype: DTypeLike = "float32",
        seed: int | None = None,
        backend: str | None = None,
    ) -> None:
        if seed is not None:
            seed = check.integer("seed", seed, at_least=0)
        self._assemble(
            check.integer("n_inputs", n_inputs, at_least=1),
            checked_layers(layers),
            check.real_dtype("dtype", dtype),
            np.random.SeedSequence(seed).entropy,
            backend,
        )
        rng = np.random.Generator(np.random.PCG64(self._seed_sequences()[0]))
        for array in self._layout:
            array.of(self._parameters)[...] = drawn(self._layers, array, rng, self._dtype)

    def _assemble(
        self, n_inputs: int, layers: tuple[Dense, ...], dtype: np.dtype[Any], seed: Any, backend: str | None
    ) -> None:
        """Set every attribute, with all parameters zero and no training done; the arguments have been checked."""
        self._n_inputs = n_inputs
        self._n_outputs = layers[-1].units
        self._layers = layers
        self._dtype = dtype
        self._seed = seed
        self._backend = choice.select(backend)
        self._core = self._backend.module(dtype)
        # Before the plan: its C integers hold what fits into memory, and only that.
        self._layout = layout(n_inputs, layers)
        self._arrays_of_layers = by_layer(self._layout, len(layers))
        self._parameters: RealArray = new_block("layers", (end(self._layout),), dtype)
        self._plan = self._core.Plan(n_inputs, layers)
        self._forward = self._core.forward
        self._state: TrainingState | None = None
        self._optimizer: Optimizer | None = None
        self._solved: SolverRun | None = None
        self._feature_names: Names | None = None
        self._is_member = False
        self._guard = Guard()
        self._run: Run | None = None
        self.history = History()

    @classmethod
    def _assembled(
        cls,
        n_inputs: int,
        layers: tuple[Dense, ...],
        dtype: np.dtype[Any],
        seed: Any,
        backend: str | None,
    ) -> Self:
        """Return a network whose parameters are all zero, without drawing initial ones."""
        network = cls.__new__(cls)
        network._assemble(n_inputs, layers, dtype, seed, backend)
        return network

    def _seed_sequences(self) -> list[np.random.SeedSequence]:
        """Return the streams for the initial weights and for training."""
        return np.random.SeedSequence(self._seed).spawn(2)

    # --- what it is made of ----------------------------------------------------------------------------------------

    @property
    def n_inputs(self) -> int:
        """Number of columns of X."""
        return self._n_inputs

    @property
    def n_outputs(self) -> int:
        """Number of columns of what `predict` gives."""
        return self._n_outputs

    @property
    def layers(self) -> tuple[Dense, ...]:
        """The layers from input to output."""
        return self._layers

    @property
    def dtype(self) -> np.dtype[Any]:
        """float32 or float64."""
        return self._dtype

    @property
    def seed(self) -> int:
        """The seed that gives this network again."""
        seed: int = self._seed
        return seed

    @property
    def feature_names(self) -> Names | None:
        """The names of the columns of X, where it was learned from a table that has some; or what was assigned.

        A table with other columns, or the same in another order, is refused from then on; arrays have no names and are
        taken as they are. None forgets the names.

        Raises
        ------
        TypeError, ValueError
            If what is assigned is not a different text for each column, or this is a member of a fleet, which has them.

        Examples
        --------
        >>> import backprop as bp
        >>> net = bp.mlp([2, 1], seed=0)
        >>> net.feature_names = ["age", "size"]
        >>> net.feature_names
        ('age', 'size')
        """
        return self._feature_names

    @feature_names.setter
    def feature_names(self, names: Iterable[str] | None) -> None:
        if self._is_member:
            raise ValueError(
                "feature_names: needs a network of its own, got a member of a fleet, whose names belong to all; "
                "assign fleet.feature_names, or those of fleet[k].copy()"
            )
        self._feature_names = checked_names("feature_names", names, self._n_inputs)

    @property
    def backend(self) -> str:
        """The name of the backend that computes."""
        return self._backend.name

    @property
    def n_parameters(self) -> int:
        """Number of weights, biases and slopes."""
        return len(self._parameters)

    @property
    def parameters(self) -> RealArray:
        """All of them, (n_parameters,): per layer W row by row, then b, then slopes. Writable; assignment copies."""
        return self._parameters

    @parameters.setter
    def parameters(self, values: ArrayLike) -> None:
        self._parameters[...] = check.array("parameters", values, self._dtype, self._parameters.shape)

    @property
    def weights(self) -> Views:
        """The weights of each layer, (n_in, n_out): writable views of `parameters`."""
        return Views("weights", self._arrays("weights", self._parameters))

    @weights.setter
    def weights(self, values: Iterable[ArrayLike | None]) -> None:
        self.weights.assign(values)

    @property
    def biases(self) -> Views:
        """The biases of each layer, (n_out,): writable views of `parameters`, or None where a layer has none."""
        return Views("biases", self._arrays("biases", self._parameters))

    @biases.setter
    def biases(self, values: Iterable[ArrayLike | None]) -> None:
        self.biases.assign(values)

    @property
    def slopes(self) -> Views:
        """The slopes of each ``prelu`` layer, (n_out,): writable views of `parameters`; None for other layers."""
        return Views("slopes", self._arrays("slopes", self._parameters))

    @slopes.setter
    def slopes(self, values: Iterable[ArrayLike | None]) -> None:
        self.slopes.assign(values)

    def _arrays(self, name: str, flat: RealArray) -> list[RealArray | None]:
        """Return each layer's array of that name, as a view."""
        return arrays_of(name, self._arrays_of_layers, flat)

    def _views(self, flat: RealArray) -> list[LayerArrays]:
        """Return all arrays of each layer, as views."""
        return layer_arrays(self._arrays_of_layers, flat)

    # --- what it computes ------------------------------------------------------------------------------------------

    def predict(self, X: ArrayLike, *, out: RealArray | None = None) -> RealArray:
        """Return the outputs for X.

        Parameters
        ----------
        X
            Real numbers, (n, n_inputs); any layout. A C-contiguous array of the network's dtype is not copied. Or a
            table of pandas, polars, pyarrow, DuckDB and the like, whose columns are compared with `feature_names`; or
            tensors of PyTorch, JAX and whatever speaks DLPack.
        out
            Where the outputs go: a writable C-contiguous array of the network's dtype, (n, n_outputs), apart from X.
            None makes a new one.

        Returns
        -------
        ndarray
            The activations of the last layer, (n, n_outputs), of the network's dtype; `out` if that was given.

        Raises
        ------
        TypeError, ValueError
            If X is not a 2-D array of finite real numbers with n_inputs columns and at least one row, or a table whose
            columns hold other things, lack values or have other names; the message names them. If out is not such an
            array. Where X is at fault, out may have been written in part.
        RuntimeError
            If another thread trains the network at the same time. Several may predict.

        Examples
        --------
        >>> import backprop as bp
        >>> bp.Network(2, [bp.Dense(1, weight_init=1.0)]).predict([[1.0, 2.0]])
        array([[3.]], dtype=float32)
        """
        # One row through a small network takes the core well under a microsecond, so what is already in the right
        # form must not pay for a conversion; the core itself looks for numbers that are not finite.
        if not (
            type(X) is np.ndarray
            and X.dtype is self._dtype
            and X.ndim == 2
            and X.shape[1] == self._n_inputs
            and X.shape[0]
            and X.flags.c_contiguous
            and X.flags.aligned
        ):
            X = self._features(X)
        guard = self._guard
        count = guard.count
        if out is None:
            out = np.empty((len(X), self._n_outputs), self._dtype)
        else:
            check.destination("out", out, self._dtype, (len(X), self._n_outputs), X)
        if not self._forward(self._plan, self._parameters, X, out):
            check.features("X", X, self._dtype, self._n_inputs)  # says where
        if count & 1 or count != guard.count:
            guard.check_reader(count)
        return out

    def activations(self, X: ArrayLike) -> list[RealArray]:
        """Return the outputs of every layer for X, (n, units) each; the last ones are those of `predict`.

        Nothing is dropped. X is as in `predict`; each layer is computed once.

        Examples
        --------
        >>> import backprop as bp
        >>> net = bp.Network(1, [bp.Dense(2, "relu", weight_init=[[1.0, -1.0]]), bp.Dense(1, weight_init=1.0)])
        >>> net.activations([[3.0]])
        [array([[3., 0.]], dtype=float32), array([[3.]], dtype=float32)]
        """
        A = X = self._features(X)
        outputs: list[RealArray] = []
        core = self._core
        for k, own in enumerate(self._arrays_of_layers):
            layer, start, stop = self._layers[k], own[0].start, end(own)
            out: RealArray = np.empty((len(X), layer.units), self._dtype)
            if not core.forward(core.Plan(A.shape[1], [layer]), self._parameters[start:stop], A, out):
                # The layer below has overflowed, and only X has to be finite.
                core.forward(core.Plan(self._n_inputs, self._layers[: k + 1]), self._parameters[:stop], X, out)
            outputs.append(out)
            A = out
        return outputs

    def loss(
        self, X: ArrayLike, y: ArrayLike, loss: LossLike = "auto", sample_weight: ArrayLike | None = None
    ) -> float:
        """Return the loss over all rows, the layers' penalties included; parameters as in `fit`.

        Examples
        --------
        >>> import backprop as bp
        >>> net = bp.Network(1, [bp.Dense(1, weight_init=1.0)])
        >>> net.loss([[1.0], [2.0]], [1.0, 4.0], loss="squared_error")
        2.0
        """
        return self._objective(X, y, loss, sample_weight)(self._parameters)

    def loss_and_gradients(
        self, X: ArrayLike, y: ArrayLike, loss: LossLike = "auto", sample_weight: ArrayLike | None = None
    ) -> tuple[float, list[LayerArrays]]:
        """Return the loss over all rows, penalties included, and its gradients; parameters as in `fit`.

        Returns
        -------
        loss : float
        gradients : list of (dW, db)
            One pair for each layer, shaped like its weights and biases; db is None where a layer has no biases. For a
            ``prelu`` layer (dW, db, dslopes). What is not trainable has gradient zero.

        Examples
        --------
        >>> import backprop as bp
        >>> net = bp.Network(1, [bp.Dense(1, weight_init=1.0)])
        >>> net.loss_and_gradients([[1.0], [2.0]], [1.0, 4.0], loss="squared_error")
        (2.0, [(array([[-4.]], dtype=float32), array([-2.], dtype=float32))])
        """
        gradient: RealArray = np.zeros_like(self._parameters)
        value = self._objective(X, y, loss, sample_weight)(self._parameters, gradient)
        return value, self._views(gradient)

    def _features(self, X: Any) -> RealArray:
        """Return X as the backends take it; what has no names of columns goes the shorter way."""
        if type(X) is np.ndarray or type(X) is list:
            return check.features("X", X, self._dtype, self._n_inputs)
        return rows.features(self, X)

    def _objective(self, X: Any, y: Any, loss: Any, sample_weight: Any) -> Objective:
        """Return the loss of these rows as a function of the parameters."""
        from backprop.model.objective import Objective

        return Objective(self._core, self._plan, self._layers, *self._data(X, y, loss, sample_weight, custom=True))

    @overload
    def _data(self, X: Any, y: Any, loss: Any, sample_weight: Any) -> tuple[Loss, Data]: ...
    @overload
    def _data(
        self, X: Any, y: Any, loss: Any, sample_weight: Any, *, custom: Literal[True], dtype: Any = None
    ) -> tuple[Loss | Custom, Data]: ...

    def _data(
        self, X: Any, y: Any, loss: Any, sample_weight: Any, *, custom: bool = False, dtype: Any = None
    ) -> tuple[Loss | Custom, Data]:
        """Return the loss as an object and the rows in the form that backends take; `custom` allows functions.

        `dtype` is what the loss is computed in, where that is not the network's; the rows have the network's.
        """
        checked = rows.loss(self, loss, custom, dtype=dtype)
        return checked, rows.rows(self, checked, X, y, sample_weight)

    # --- while it is trained ---------------------------------------------------------------------------------------

    def stop(self, reason: str = "stopped") -> bool:
        """Let the `fit` that trains this network return soon; for callbacks and other threads.

        A callback's `fit` returns after its epoch, one in another thread within about 50 ms, in the middle of an epoch
        if need be.

        Parameters
        ----------
        reason
            What ``history.stop_reason`` shall be.

        Returns
        -------
        bool
            Whether anything was there to stop.

        Raises
        ------
        TypeError, ValueError
            If `reason` is no text, or empty.

        Examples
        --------
        >>> import backprop as bp
        >>> net = bp.Network(1, [bp.Dense(1)], seed=0)
        >>> enough = bp.callbacks.LambdaCallback(on_epoch_end=lambda network, epoch, logs: network.stop(), every=3)
        >>> net.fit([[1.0]], [1.0], callbacks=[enough]).epochs
        3
        """
        reason, run = check.text("reason", reason), self._run
        if run is not None:
            run.stop(reason)
        return run is not None

    def scale_learning_rate(self, factor: float) -> None:
        """Multiply the learning rates of all later steps of the `fit` that trains this network; for callbacks.

        Parameters
        ----------
        factor
            The factor, > 0; those of several calls multiply.

        Raises
        ------
        RuntimeError
            If no `fit` is at work.

        Examples
        --------
        >>> import backprop as bp
        >>> net = bp.Network(1, [bp.Dense(1)], seed=0)
        >>> halve = bp.callbacks.LambdaCallback(
        ...     on_epoch_end=lambda network, epoch, logs: network.scale_learning_rate(0.5), every=2
        ... )
        >>> constant = bp.schedules.Constant()  # so that the rate is recorded
        >>> adam = bp.Adam(learning_rate=1.0)
        >>> net.fit([[1.0]], [1.0], epochs=4, optimizer=adam, schedule=constant, callbacks=[halve])["learning_rate"]
        array([1. , 1. , 0.5, 0.5])
        """
        factor = check.number("factor", factor, above=0)
        run = self._run
        if run is None:
            raise RuntimeError("scale_learning_rate: needs a fit that is at work; it is for callbacks")
        run.scale_learning_rate(factor)

    # --- copies and pickles ----------------------------------------------------------------------------------------

    def copy(self) -> Self:
        """Return a network like this one that shares nothing with it: parameters, training state and history."""
        return deepcopy(self)

    __copy__ = copy  # a copy that shares what is trained would leave both half trained

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the backend's plan, which is made anew, perhaps on a machine without this backend."""
        made_anew = "_n_outputs _backend _core _layout _arrays_of_layers _plan _forward _is_member _guard _run"
        return {**attributes(self, made_anew.split()), "backend": self.backend}

    def __setstate__(self, state: dict[str, Any]) -> None:
        backend = state["backend"] if state["backend"] in choice.available() else None
        dtype = check.real_dtype("dtype", state["_dtype"])
        self._assemble(state["_n_inputs"], state["_layers"], dtype, state["_seed"], backend)
        self._parameters[...] = state["_parameters"]
        for name, value in state.items():  # in their order: one that a subclass sets may need another
            if name not in ("backend", "_dtype", "_parameters"):
                setattr(self, name, value)
        if self._state is not None:
            self._state.parameters = self._parameters
