"""Networks: layers over one flat parameter vector."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import deepcopy
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from backprop.backends import choice
from backprop.backends.custom import Custom, LossLike
from backprop.base import checks as check
from backprop.base.guard import Guard
from backprop.base.history import History
from backprop.base.state import TrainingState
from backprop.base.types import Data, RealArray, Rows, new_parameters
from backprop.model import rows
from backprop.model.views import Views
from backprop.reference.dense import Dense, checked_layers
from backprop.reference.layout import by_layer, end, layout
from backprop.reference.losses import Loss
from backprop.reference.optimizers import Optimizer

if TYPE_CHECKING:
    import os

    from backprop.explain.trace import Trace
    from backprop.learn import training
    from backprop.learn.callbacks import Callback
    from backprop.learn.metrics import Metric
    from backprop.learn.schedules import Schedule
    from backprop.model.objective import Objective


class Network:
    """A feed-forward network of dense layers.

    Parameters
    ----------
    n_inputs
        Number of columns of X.
    layers
        The layers from input to output; see `Dense` and, for the short form, `mlp`.
    dtype
        ``"float32"`` or ``"float64"``: the parameters and all arithmetic. Data of any other real dtype are converted.
    seed
        A non-negative integer that decides the initial weights and the order of the rows in training. None takes a
        fresh one from the operating system; `seed` tells which.
    backend
        One of `backprop.show_config`'s backends; None for the best there is.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong type or out of range; the message says which.

    Notes
    -----
    `seed` is spawned into two streams (`numpy.random.SeedSequence`), one for the initial weights and one for training.

    Examples
    --------
    >>> import numpy as np
    >>> import backprop as bp
    >>> X = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    >>> y = np.array([0, 1, 1, 0])
    >>> net = bp.Network(2, [bp.Dense(4, "tanh"), bp.Dense(1, "sigmoid")], seed=0)
    >>> net
    Network(2, [Dense(4, 'tanh'), Dense(1, 'sigmoid')], dtype='float32', seed=0)
    >>> history = net.fit(X, y, optimizer=bp.Adam(learning_rate=0.05), epochs=500, batch_size=None)
    >>> net.predict(X).round().ravel()
    array([0., 1., 1., 0.], dtype=float32)
    """

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
            layer, where = self._layers[array.layer], f"layers[{array.layer}]"
            values = layer.initial(array.name, where, rng, array.shape, self._dtype)
            array.of(self._parameters)[...] = values

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
        self._parameters: RealArray = _zeros(end(self._layout), dtype)
        self._plan = self._core.Plan(n_inputs, layers)
        self._forward = self._core.forward
        self._state: TrainingState | None = None
        self._optimizer: Optimizer | None = None
        self._guard = Guard()
        self._run: training.Run | None = None
        self.history = History()

    @classmethod
    def _assembled(
        cls,
        n_inputs: int,
        layers: tuple[Dense, ...],
        dtype: np.dtype[Any],
        seed: Any,
        backend: str | None,
    ) -> Network:
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
    def backend(self) -> str:
        """The name of the backend that computes."""
        return self._backend.name

    @property
    def n_parameters(self) -> int:
        """Number of weights and biases."""
        return len(self._parameters)

    @property
    def parameters(self) -> RealArray:
        """All weights and biases, (n_parameters,): per layer W row by row, then b. Writable; assignment copies."""
        return self._parameters

    @parameters.setter
    def parameters(self, values: ArrayLike) -> None:
        self._parameters[...] = check.array("parameters", values, self._dtype, self._parameters.shape)

    @property
    def weights(self) -> Views:
        """The weights of each layer, (n_in, n_out): writable views of `parameters`."""
        return Views("weights", [weights for weights, _ in self._views(self._parameters)])

    @weights.setter
    def weights(self, values: Iterable[ArrayLike | None]) -> None:
        self.weights.assign(values)

    @property
    def biases(self) -> Views:
        """The biases of each layer, (n_out,): writable views of `parameters`, or None where a layer has none."""
        return Views("biases", [biases for _, biases in self._views(self._parameters)])

    @biases.setter
    def biases(self, values: Iterable[ArrayLike | None]) -> None:
        self.biases.assign(values)

    def _views(self, flat: RealArray) -> list[tuple[RealArray, RealArray | None]]:
        """Return (W, b) of each layer as views of a vector that is laid out like `parameters`."""
        arrays = ({array.name: array.of(flat) for array in own} for own in by_layer(self._layout, len(self._layers)))
        return [(own["weights"], own.get("biases")) for own in arrays]

    # --- what it does ----------------------------------------------------------------------------------------------

    def predict(self, X: ArrayLike) -> RealArray:
        """Return the outputs for X.

        Parameters
        ----------
        X
            Real numbers, (n, n_inputs); any layout. A C-contiguous array of the network's dtype is not copied.

        Returns
        -------
        ndarray
            The activations of the last layer, (n, n_outputs), of the network's dtype.

        Raises
        ------
        TypeError, ValueError
            If X is not a 2-D array of finite real numbers with n_inputs columns and at least one row.
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
            X = check.features("X", X, self._dtype, self._n_inputs)
        guard = self._guard
        count = guard.count
        out: RealArray = np.empty((len(X), self._n_outputs), self._dtype)
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
        A = X = check.features("X", X, self._dtype, self._n_inputs)
        outputs: list[RealArray] = []
        core = self._core
        for k, own in enumerate(by_layer(self._layout, len(self._layers))):
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
    ) -> tuple[float, list[tuple[RealArray, RealArray | None]]]:
        """Return the loss over all rows, penalties included, and its gradients; parameters as in `fit`.

        Returns
        -------
        loss : float
        gradients : list of (dW, db)
            One pair for each layer, shaped like its weights and biases; db is None where a layer has no biases. What
            is not trainable has gradient zero.

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

    def input_gradients(
        self, X: ArrayLike, y: ArrayLike, loss: LossLike = "auto", sample_weight: ArrayLike | None = None
    ) -> RealArray:
        """Return the gradient of the loss over all rows with respect to X, (n, n_inputs); parameters as in `fit`.

        `backward` gives that of any other function of the outputs.

        Examples
        --------
        >>> import backprop as bp
        >>> net = bp.Network(1, [bp.Dense(1, weight_init=3.0)])
        >>> net.input_gradients([[1.0], [2.0]], [1.0, 4.0], loss="squared_error")
        array([[6.],
               [6.]], dtype=float32)
        """
        objective = self._objective(X, y, loss, sample_weight)
        gradient: RealArray = np.empty_like(objective.data.X)
        objective(self._parameters, None, gradient)
        return gradient

    def backward(
        self, X: ArrayLike, head: Callable[[RealArray], ArrayLike] | ArrayLike
    ) -> tuple[list[tuple[RealArray, RealArray | None]], RealArray]:
        """Return the gradients of any function of the outputs, by backpropagation.

        Parameters
        ----------
        X
            As in `predict`.
        head
            The function's gradient with respect to the outputs, (n, n_outputs), or what computes it: a function that is
            called once, with the outputs.

        Returns
        -------
        gradients : list of (dW, db)
            As `loss_and_gradients` returns them, without penalties.
        input_gradient : ndarray
            The gradient with respect to X, (n, n_inputs).

        Raises
        ------
        TypeError, ValueError
            If an argument is wrong, or `head` returns anything but finite real numbers in the shape of the outputs.

        Examples
        --------
        The derivative of ``sin(output)`` with respect to the input, where ``output = 3 x``:

        >>> import backprop as bp
        >>> import numpy as np
        >>> net = bp.Network(1, [bp.Dense(1, weight_init=3.0)], dtype="float64")
        >>> gradients, dX = net.backward([[0.5]], np.cos)
        >>> bool(np.isclose(dX[0, 0], 3 * np.cos(1.5)))
        True
        """
        X = check.features("X", X, self._dtype, self._n_inputs)
        shape = (len(X), self._n_outputs)

        def checked_head(outputs: RealArray) -> RealArray:
            return check.array("head", head(outputs) if callable(head) else head, self._dtype, shape)

        gradient: RealArray = np.zeros_like(self._parameters)
        input_gradient: RealArray = np.empty_like(X)
        self._core.backward(self._plan, self._parameters, X, checked_head, gradient, input_gradient)
        return self._views(gradient), input_gradient

    def evaluate(
        self,
        X: ArrayLike,
        y: ArrayLike,
        *,
        loss: LossLike = "auto",
        metrics: Any = (),
        sample_weight: ArrayLike | None = None,
    ) -> dict[str, float]:
        """Return the loss over all rows, penalties included, and metrics of the outputs; parameters as in `fit`.

        Examples
        --------
        >>> import backprop as bp
        >>> net = bp.Network(1, [bp.Dense(1, weight_init=1.0)])
        >>> net.evaluate([[1.0], [2.0]], [1.0, 4.0], metrics=["mean_absolute_error"])
        {'loss': 2.0, 'mean_absolute_error': 1.0}
        """
        from backprop.learn import metrics as _metrics

        wanted = _metrics.resolved(metrics)
        checked, data = self._data(X, y, loss, sample_weight, custom=True)
        measured = _metrics.bound(wanted, checked, data.targets, data.sample_weight)
        outputs = self.predict(data.X)
        from backprop.model.objective import Objective

        value = Objective(self._core, self._plan, self._layers, checked, data)(self._parameters)
        return {"loss": value, **{name: metric(outputs) for name, metric in measured.items()}}

    def trace(
        self,
        X: ArrayLike,
        y: ArrayLike,
        *,
        loss: str | Loss = "auto",
        optimizer: str | Optimizer = "adam",
        sample_weight: ArrayLike | None = None,
        finite_differences: bool = True,
    ) -> Trace:
        """Return every number of the full-batch training step that would come next; the network stays as it is.

        Scores, outputs, loss, gradients and new parameters are the backend's: those of ``fit(..., epochs=1,
        batch_size=None)``, up to rounding. The deltas are worked out from them by the NumPy formulas, and the finite
        differences are central ones of the loss in float64: ``(L(w + h) - L(w - h)) / 2h``, good for ten digits.

        Parameters
        ----------
        X, y, loss, optimizer, sample_weight
            As in `fit`.
        finite_differences
            Whether to compute them: two values of the loss for each parameter.

        Returns
        -------
        backprop.trace.Trace
            Printed, it is tables of text, and in a notebook formulas with the numbers filled in; ``explain`` spells out
            the chain of partial derivatives of any one weight; ``to_dot`` and ``plot_graph`` give the graph.

        Raises
        ------
        TypeError, ValueError
            If an argument is wrong, a layer has dropout, or the loss is one of your own.

        Examples
        --------
        >>> import backprop as bp
        >>> net = bp.Network(1, [bp.Dense(1, weight_init=2.0)], dtype="float64")
        >>> step = net.trace([[3.0]], [5.0], loss="squared_error", optimizer=bp.SGD(learning_rate=0.1))
        >>> step.layers[0].delta, step.layers[0].dW, step.layers[0].new_weights.round(9)
        (array([[2.]]), array([[6.]]), array([[1.4]]))
        """
        from backprop.explain.trace import trace  # with what only looking at a step needs

        return trace(self, X, y, loss, optimizer, sample_weight, finite_differences)

    # --- training --------------------------------------------------------------------------------------------------

    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        *,
        loss: LossLike = "auto",
        optimizer: str | Optimizer = "adam",
        schedule: Schedule | Callable[[int], float] | None = None,
        epochs: int = 100,
        batch_size: int | None = 32,
        shuffle: bool = True,
        sample_weight: ArrayLike | None = None,
        class_weight: Mapping[int, float] | Literal["balanced"] | None = None,
        validation_data: Rows | None = None,
        validation_split: float = 0.0,
        metrics: str | Metric | Iterable[str | Metric] | Mapping[str, Metric] = (),
        callbacks: Iterable[Callback] = (),
        log: Callable[[int, dict[str, float]], Any] | None = None,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        tolerance: float | None = None,
        patience: int = 10,
        on_divergence: Literal["raise", "stop"] = "raise",
        initial_epoch: int | None = None,
        resume: bool = False,
        n_threads: int | Literal["auto"] = "auto",
        progress: bool | Literal["auto"] = "auto",
    ) -> History:
        """Train on X and y; a second call continues where the first one ended.

        Parameters
        ----------
        X
            Real numbers, (n, n_inputs). Neither X nor y is changed, whatever its layout.
        y
            Targets: real numbers (n, n_outputs), or (n,) where there is one output. For cross_entropy, integer class
            labels (n,) from 0 to n_outputs - 1, or class probabilities (n, n_outputs). In [0, 1] for
            binary_cross_entropy, >= 0 for poisson. For a loss of your own any array with n rows.
        loss
            A name or an object from `backprop.losses`. ``"auto"`` goes by the last layer's activation: cross_entropy
            for softmax, binary_cross_entropy for sigmoid, poisson for exp, squared_error otherwise. Or a function
            ``(outputs, targets) -> (value, gradient)``; see `backprop.losses.Custom`.
        optimizer
            A name or an object from `backprop.optimizers`.
        schedule
            Factors on the optimizer's ``learning_rate``: one of `backprop.schedules`, or a function of the number of
            the step, from 0.
        epochs
            How many more times to go over the rows.
        batch_size
            Rows per step; 1 is online training, None (or n and more) the full batch. A last short batch is kept.
        shuffle
            Whether each epoch takes the rows in a new random order; a full batch is never shuffled.
        sample_weight
            Weights >= 0 of the rows, (n,).
        class_weight
            A weight >= 0 for each class label, with which its rows' weights are multiplied; labels that are not named
            have 1. ``"balanced"``: n / (number of classes * n of the class). For integer labels with cross_entropy, and
            for one output with targets 0 and 1 with binary_cross_entropy. Validation and metrics are not weighted so.
        validation_data
            ``(X, y)`` or ``(X, y, sample_weight)``: rows whose loss is measured after each epoch, as ``"val_loss"``.
        validation_split
            The share of the rows, in [0, 1), that is taken for validation and not learned from. They are the last
            ones, as in Keras, whatever `shuffle` says: put ordered rows into another order first.
        metrics
            What else is measured after each epoch, on the training rows and, as ``"val_..."``, on the validation rows:
            names from `backprop.metrics`, functions ``(outputs, targets) -> float``, or a mapping from names to such.
        callbacks
            Objects from `backprop.callbacks`.
        log
            A function that is called after each epoch with the number of steps done and a dict of what was recorded,
            as TensorBoard, MLflow and the like want it.
        clip_norm, clip_value
            Bounds for the gradient of each step, penalties included: first every element is clipped to ±clip_value,
            then the whole is scaled down to the Euclidean norm clip_norm.
        tolerance, patience
            Stop when `patience` epochs in a row have not brought the loss more than `tolerance` below its lowest value
            so far. Each call of `fit` counts afresh. See `backprop.callbacks.EarlyStopping` for more.
        on_divergence
            What to do when a loss or a parameter is not finite, after the last finite parameters are restored:
            ``"raise"`` DivergedError, or ``"stop"`` and return with ``history.stop_reason == "diverged"``.
        initial_epoch
            The number of epochs that count as done, from which callbacks and schedules count on; None for those that
            are. 0 starts a schedule again.
        resume
            Go on with the run that was interrupted, or that `backprop.resume` has read, in the middle of its epoch:
            `epochs` counts from the start of that run, and stop rule, schedule and callbacks take up where they were.
            The data and the other arguments must be the same again. Nothing happens if that run is over; a network that
            was never trained begins.
        n_threads
            How many threads may compute, 1 to 16, or ``"auto"``. The results do not depend on it, to the last bit.
        progress
            Whether to show a progress bar on stderr; ``"auto"`` does when training has taken two seconds.

        Returns
        -------
        History
            `history`, the record of all epochs over all calls of `fit`.

        Raises
        ------
        TypeError, ValueError
            If an argument is wrong; the network is then as it was.
        DivergedError
            If the loss of an epoch or a parameter at its end is not finite. The network then has its last finite
            parameters.
        KeyboardInterrupt
            On Ctrl-C. The network is then as the last whole step left it and `history` has every whole epoch. The same
            holds for whatever a callback, a metric or a loss of your own raises.
        RuntimeError
            If another call of `fit` trains the network at the same time.

        Notes
        -----
        Continuing: parameters, epoch counter and random numbers go on, so that 5 epochs and 5 more are, bit for bit, 10
        epochs. What the optimizer remembers (momentum, moments, step counter) is kept when the optimizer is the last
        one again, except perhaps for its learning rate; another one starts afresh. Every call begins a new epoch, and
        what was left of an interrupted one is dropped, unless `resume` is set.

        Examples
        --------
        >>> import backprop as bp
        >>> net = bp.Network(1, [bp.Dense(1)], dtype="float64", seed=0)
        >>> history = net.fit([[0.0], [1.0], [2.0]], [1.0, 3.0, 5.0], optimizer=bp.SGD(learning_rate=0.1), epochs=200)
        >>> net.weights[0].round(3), net.biases[0].round(3)
        (array([[2.]]), array([1.]))
        """
        checked_loss, data = self._data(X, y, loss, sample_weight, custom=True)
        data, validation = rows.validation(self, checked_loss, data, validation_data, validation_split)
        from backprop.learn import training  # with callbacks and schedules, which predicting does not need

        return training.fit(
            self,
            data,
            checked_loss,
            optimizer,
            schedule=schedule,
            epochs=epochs,
            batch_size=batch_size,
            shuffle=shuffle,
            class_weight=class_weight,
            validation=validation,
            metrics=metrics,
            callbacks=callbacks,
            log=log,
            clip_norm=clip_norm,
            clip_value=clip_value,
            tolerance=tolerance,
            patience=patience,
            on_divergence=on_divergence,
            initial_epoch=initial_epoch,
            resume=resume,
            n_threads=n_threads,
            progress=progress,
        )

    def partial_fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        *,
        loss: LossLike = "auto",
        optimizer: str | Optimizer = "adam",
        batch_size: int | None = 32,
        shuffle: bool = True,
        sample_weight: ArrayLike | None = None,
        class_weight: Mapping[int, float] | Literal["balanced"] | None = None,
        clip_norm: float | None = None,
        clip_value: float | None = None,
    ) -> History:
        """Train for one epoch on these rows, of which there may be other ones each time; arguments as in `fit`.

        Examples
        --------
        >>> import backprop as bp
        >>> net = bp.Network(1, [bp.Dense(1)], dtype="float64", seed=0)
        >>> for start in range(0, 300, 3):
        ...     X = [[start % 2 + row] for row in range(3)]
        ...     history = net.partial_fit(X, [2 * x + 1 for (x,) in X], optimizer=bp.SGD(learning_rate=0.1))
        >>> history.epochs, net.weights[0].round(2)
        (100, array([[2.]]))
        """
        return self.fit(
            X,
            y,
            loss=loss,
            optimizer=optimizer,
            epochs=1,
            batch_size=batch_size,
            shuffle=shuffle,
            sample_weight=sample_weight,
            class_weight=class_weight,
            clip_norm=clip_norm,
            clip_value=clip_value,
            progress=False,
        )

    def train_on_batch(
        self,
        X: ArrayLike,
        y: ArrayLike,
        *,
        loss: LossLike = "auto",
        optimizer: str | Optimizer = "adam",
        sample_weight: ArrayLike | None = None,
        class_weight: Mapping[int, float] | Literal["balanced"] | None = None,
        clip_norm: float | None = None,
        clip_value: float | None = None,
    ) -> float:
        """Do one optimizer step on these rows and return their loss before it; arguments as in `fit`.

        What the optimizer remembers is kept from call to call, and from and to `fit`; its learning rate may be another
        one each time. `history` and the number of epochs stay as they are.

        Raises
        ------
        TypeError, ValueError
            If an argument is wrong; the network is then as it was.
        DivergedError
            If the loss or a parameter after the step is not finite; the network is then as it was.

        Examples
        --------
        >>> import backprop as bp
        >>> net = bp.Network(1, [bp.Dense(1, weight_init=1.0)], dtype="float64")
        >>> net.train_on_batch([[2.0]], [4.0], optimizer=bp.SGD(learning_rate=0.1))
        4.0
        >>> net.weights[0]
        array([[1.8]])
        """
        checked, data = self._data(X, y, loss, sample_weight, custom=True)
        from backprop.learn import training

        return training.step(
            self, data, checked, optimizer, class_weight=class_weight, clip_norm=clip_norm, clip_value=clip_value
        )

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

        Examples
        --------
        >>> import backprop as bp
        >>> net = bp.Network(1, [bp.Dense(1)], seed=0)
        >>> enough = bp.callbacks.LambdaCallback(on_epoch_end=lambda network, epoch, logs: network.stop(), every=3)
        >>> net.fit([[1.0]], [1.0], callbacks=[enough]).epochs
        3
        """
        run = self._run
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

    def minimize(
        self,
        X: ArrayLike,
        y: ArrayLike,
        *,
        method: Literal["L-BFGS-B", "BFGS", "CG"] = "L-BFGS-B",
        loss: LossLike = "auto",
        sample_weight: ArrayLike | None = None,
        max_iter: int = 200,
        tolerance: float = 1e-5,
        penalty_per_row: bool = False,
        callback: Callable[[int, float], Any] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> Any:
        """Train on the full batch with a minimizer of SciPy, L-BFGS for one: for small data often the shortest way.

        Parameters
        ----------
        X, y, loss, sample_weight
            As in `fit`.
        method
            ``"L-BFGS-B"``, ``"BFGS"`` or ``"CG"`` of `scipy.optimize.minimize`.
        max_iter
            The most iterations, each one or a few passes over all rows.
        tolerance
            SciPy's ``gtol``: stop when no element of the gradient is larger. L-BFGS-B also stops when the loss hardly
            falls any more, by its option ``ftol``.
        penalty_per_row
            Whether the layers' penalties are divided by the number of rows (or the sum of their weights), as
            scikit-learn's ``alpha`` is.
        callback
            ``callback(iteration, loss)`` is called after each iteration, counted from 1; where it returns something
            true, that was the last one.
        options
            More options of the method, such as ``{"maxfun": 15000, "ftol": 1e-9}``.

        Returns
        -------
        scipy.optimize.OptimizeResult
            As SciPy returns it; ``x`` are the trainable parameters in float64. The network has the parameters of the
            last iteration, and `history` the loss after each.

        Raises
        ------
        TypeError, ValueError
            If an argument is wrong, a layer has dropout or max_norm, or the loss at the start is not finite.
        ImportError
            Without SciPy (the extra ``scipy``).

        Notes
        -----
        Loss and gradient are computed in float64 whatever the network's dtype. What is not trainable keeps its value.
        When something interrupts, the network is as the last whole iteration left it.

        Examples
        --------
        >>> import backprop as bp
        >>> net = bp.Network(1, [bp.Dense(1)], dtype="float64", seed=0)
        >>> result = net.minimize([[0.0], [1.0], [2.0]], [1.0, 3.0, 5.0])
        >>> net.weights[0].round(4), net.biases[0].round(4), result.success
        (array([[2.]]), array([1.]), True)
        """
        from backprop.learn.minimize import minimize  # with what only this needs

        return minimize(
            self,
            X,
            y,
            method=method,
            loss=loss,
            sample_weight=sample_weight,
            max_iter=max_iter,
            tolerance=tolerance,
            penalty_per_row=penalty_per_row,
            callback=callback,
            options=options,
        )

    # --- rows and files --------------------------------------------------------------------------------------------

    def _objective(self, X: Any, y: Any, loss: Any, sample_weight: Any) -> Objective:
        """Return the loss of these rows as a function of the parameters."""
        from backprop.model.objective import Objective

        return Objective(self._core, self._plan, self._layers, *self._data(X, y, loss, sample_weight, custom=True))

    @overload
    def _data(self, X: Any, y: Any, loss: Any, sample_weight: Any) -> tuple[Loss, Data]: ...
    @overload
    def _data(
        self, X: Any, y: Any, loss: Any, sample_weight: Any, *, custom: Literal[True]
    ) -> tuple[Loss | Custom, Data]: ...

    def _data(
        self, X: Any, y: Any, loss: Any, sample_weight: Any, *, custom: bool = False
    ) -> tuple[Loss | Custom, Data]:
        """Return the loss as an object and the rows in the form that backends take; `custom` allows functions."""
        checked = rows.loss(self, loss, custom)
        return checked, rows.rows(self, checked, X, y, sample_weight)

    def save(self, path: str | os.PathLike[str], extra: Mapping[str, Any] | None = None) -> None:
        """Write the network to a safetensors file; `backprop.load` reads it.

        The file holds the weights and biases and, as JSON in its metadata, the architecture. It is written beside
        `path` and then renamed, so that a crash leaves either the old file or the new one. Training state and
        `history` are not saved.

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
        ...     path = os.path.join(folder, "model.safetensors")
        ...     bp.Network(2, [bp.Dense(1)], seed=0).save(path)
        ...     bp.load(path)
        Network(2, [Dense(1, 'identity')], dtype='float32', seed=0)
        """
        from backprop import io  # with safetensors, which only saving and loading need

        io.save(self, path, extra)

    def save_checkpoint(self, path: str | os.PathLike[str]) -> None:
        """Write the network and its training to one file; `backprop.resume` reads it.

        Beside what `save` writes: what the optimizer remembers, the state of the random numbers, where in which epoch
        training is and in which order it takes the rows, the counters of the stop rule, the states of the callbacks,
        and `history`; with a SHA-256 over all of it. Not in it are the data and the arguments of `fit`: give the same
        again, with ``resume=True``. The file is replaced in one piece, as by `save`, and never by parameters that are
        not finite. `callbacks.Checkpoint` does this every few epochs.

        Parameters
        ----------
        path
            The file.

        Raises
        ------
        OSError
            If the file cannot be written; the old one is then still there.
        TypeError, ValueError
            If `path` is wrong, or a parameter is not finite.

        Examples
        --------
        >>> import os, tempfile
        >>> import backprop as bp
        >>> net = bp.mlp([1, 1], seed=0)
        >>> history = net.fit([[0.0], [1.0]], [1.0, 3.0], epochs=5)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = os.path.join(folder, "run.safetensors")
        ...     net.save_checkpoint(path)
        ...     bp.resume(path).history.epochs
        5
        """
        from backprop import checkpoints

        checkpoints.save(self, path)

    # --- copies, pickles, text -------------------------------------------------------------------------------------

    def copy(self) -> Network:
        """Return a network like this one that shares nothing with it: parameters, training state and history."""
        return deepcopy(self)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the backend's plan, which is made anew, perhaps on a machine without this backend."""
        names = ("_n_inputs", "_layers", "_dtype", "_seed", "_parameters", "_state", "_optimizer", "history", "backend")
        return {name: getattr(self, name) for name in names}

    def __setstate__(self, state: dict[str, Any]) -> None:
        backend = state["backend"] if state["backend"] in choice.available() else None
        dtype = check.real_dtype("dtype", state["_dtype"])
        self._assemble(state["_n_inputs"], state["_layers"], dtype, state["_seed"], backend)
        self._parameters[...] = state["_parameters"]
        self._state, self._optimizer, self.history = state["_state"], state["_optimizer"], state["history"]
        if self._state is not None:
            self._state.parameters = self._parameters

    def __repr__(self) -> str:
        return f"Network({self._n_inputs}, {list(self._layers)}, dtype={self._dtype.name!r}, seed={self._seed})"

    def summary(self) -> str:
        """Return a table of the layers: their settings, shapes and numbers of parameters.

        Where not all of them are trainable, a last line says how many are. Notebooks show the same table.

        Examples
        --------
        >>> import backprop as bp
        >>> print(bp.mlp([4, 16, 3], output="softmax").summary())
        layer                shape    parameters
        Dense(16, 'relu')    4 -> 16          80
        Dense(3, 'softmax')  16 -> 3          51
        total                4 -> 3          131
        """
        from backprop.explain.summary import summary

        return summary(self)

    def _repr_html_(self) -> str:
        from backprop.explain.summary import html

        return html(self)


def _zeros(n_parameters: int, dtype: np.dtype[Any]) -> RealArray:
    try:
        return new_parameters(n_parameters, dtype)
    except (MemoryError, ValueError) as error:
        raise ValueError(f"layers: needs parameters that fit into memory, got {n_parameters:,} of them") from error
